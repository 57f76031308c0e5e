"""The original's command line."""

import pytest

from pcapdaemon.cli import legacy
from pcapdaemon.core.errors import ConfigError

COMMANDS = ["run", "capture", "check"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([], ["run"]),
        (["-config", "x.toml"], ["run", "--config", "x.toml"]),
        (["-config=x.toml", "--redisnode=r"], ["run", "--config=x.toml", "--redisnode=r"]),
        (["-upload", "-writelocal=true"], ["run", "--upload", "--writelocal"]),
        (["-upload=F", "--writelocal=0"], ["run", "--no-upload", "--no-writelocal"]),
        (["run", "-redisnode", "r", "-upload"], ["run", "--redisnode", "r", "--upload"]),
        (["-panic", "-maxpackets", "5"], ["run", "--panic", "--maxpackets", "5"]),
        (["run", "--config", "x"], ["run", "--config", "x"]),
        (["capture", "-i", "lo"], ["capture", "-i", "lo"]),
        (["--help"], ["--help"]),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_translation(given: list[str], meant: list[str]) -> None:
    assert legacy.translate(given, COMMANDS) == meant


def test_a_switch_that_is_neither_true_nor_false() -> None:
    with pytest.raises(ConfigError, match="must be true or false, not 'maybe'"):
        legacy.translate(["-writelocal=maybe"], COMMANDS)


def test_flags_become_keys_of_the_configuration() -> None:
    flags = {
        "redisnode": "r",
        "redisport": 1,
        "destdir": "/d",
        "writelocal": True,
        "upload": None,
        "maxpackets": 5,
    }
    assert legacy.overrides(flags, {}) == {
        "redis": {"host": "r", "port": 1, "listen": True},
        "general": {"localdir": "/d", "writelocal": True, "maxpackets": 5},
    }
    assert legacy.overrides({"redisnode": "r"}, {"redis": {"listen": False}}) == {
        "redis": {"host": "r"}
    }
