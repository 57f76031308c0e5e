"""The original's command line: flags with one dash or two, `-flag value` or `-flag=value`. Pure."""

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
    """Arguments as the program takes them today.

    `run` in front where no command is named, two dashes, `--no-switch`.

    Raises ConfigError. Go's flag package takes a switch's value only behind `=`: 1, t, T, TRUE,
    true, True, or the opposites.
    """
    if arguments and arguments[0] == "run":
        return ["run", *(_translated(argument) for argument in arguments[1:])]
    if arguments and (arguments[0] in commands or arguments[0] in ("--help", "--version")):
        return list(arguments)
    if arguments and arguments[0].startswith(("--install-completion", "--show-completion")):
        return list(arguments)
    if arguments and not arguments[0].startswith("-"):
        return list(arguments)
    return ["run", *(_translated(argument) for argument in arguments)]


def overrides(flags: dict[str, Any], values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the flags that were given lay over the configuration's `values`.

    One about Redis switches `[redis] listen` on, where the file does not say otherwise: it would
    mean nothing else.
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
