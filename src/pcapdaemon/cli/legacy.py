"""The original's command line: flags with one or two dashes, as `-flag value` or `-flag=value`.

Pure.
"""

from collections.abc import Sequence
from typing import Any

from pcapdaemon.core.errors import ConfigError

TEXT = {"config", "cshost", "csscheme", "cstoken", "redischannel", "redisnode", "destdir"}
NUMBERS = {"csport", "cstimeout", "redisport", "maxpackets"}
SWITCHES = {"upload", "writelocal", "panic"}

_TARGETS = {
    "cshost": ("cloudshark", "host"),
    "csscheme": ("cloudshark", "scheme"),
    "cstoken": ("cloudshark", "token"),
    "csport": ("cloudshark", "port"),
    "cstimeout": ("cloudshark", "timeout"),
    "upload": ("cloudshark", "upload"),
    "redisnode": ("redis", "host"),
    "redisport": ("redis", "port"),
    "redischannel": ("redis", "channel"),
    "maxpackets": ("general", "maxpackets"),
    "writelocal": ("general", "writelocal"),
    "destdir": ("general", "localdir"),
}
_TRUE = {"1", "t", "T", "TRUE", "true", "True"}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}


def translate(arguments: Sequence[str], commands: Sequence[str]) -> list[str]:
    """Translate arguments of the original to those of this program.

    `run` is added if no command is named, flags get two dashes, and `-switch=false` becomes
    `--no-switch`.

    Raises ConfigError. Go's flag package accepts the value of a switch only after `=`: 1, t, T,
    TRUE, true, True, or the opposites.
    """
    if arguments and arguments[0] == "run":
        return ["run", *(_translated(argument) for argument in arguments[1:])]
    if arguments and (arguments[0] in commands or arguments[0] in ("-h", "--help", "--version")):
        return list(arguments)
    if arguments and arguments[0].startswith(("--install-completion", "--show-completion")):
        return list(arguments)
    if arguments and not arguments[0].startswith("-"):
        return list(arguments)
    return ["run", *(_translated(argument) for argument in arguments)]


def overrides(flags: dict[str, Any], values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tables with which the given flags override the configuration's `values`.

    A flag about Redis also sets `[redis] listen`, unless the file does, because it would have no
    effect otherwise.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, value in flags.items():
        if value is not None and name in _TARGETS:
            section, key = _TARGETS[name]
            found.setdefault(section, {})[key] = value
    if "redis" in found and "listen" not in values.get("redis", {}):
        found["redis"]["listen"] = True
    return found


def _translated(argument: str) -> str:
    if not argument.startswith("-"):
        return argument
    name, equals, value = argument.lstrip("-").partition("=")
    if name not in TEXT | NUMBERS | SWITCHES:
        return argument
    if name not in SWITCHES or not equals:
        return f"--{name}{equals}{value}"
    if value not in _TRUE | _FALSE:
        raise ConfigError([f"-{name}: must be true or false, not {value!r}"])
    return f"--{name}" if value in _TRUE else f"--no-{name}"
