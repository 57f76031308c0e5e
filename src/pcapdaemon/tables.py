"""Reads the configuration file as tables."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pcapdaemon.core.errors import ConfigError

VERBATIM = ("match", "resolved")
"""Tables of paths into messages of other programs, whose names have a case of their own."""


def read(path: Path) -> dict[str, Any]:
    """Return the file's tables with names in lower case, because the original accepts any case.

    Raises ConfigError.
    """
    try:
        values: dict[str, Any] = _lower(tomllib.loads(_text_of(path)), str(path))
    except OSError as error:
        raise ConfigError(
            [f"{path}: {error.strerror}"], "pass an existing file with --config"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not valid TOML: {error}"]) from None
    return values


def _text_of(path: Path) -> str:
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # some editors put it there
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        words = f"{path}: line {line} is not UTF-8, perhaps Latin-1 or UTF-16"
        raise ConfigError([words], "save the file as UTF-8") from None


def _lower(values: Any, where: str) -> Any:
    if isinstance(values, list):
        return [_lower(value, where) for value in values]
    if not isinstance(values, dict):
        return values
    lowered: dict[str, Any] = {}
    for name, value in values.items():
        if name.lower() in lowered:
            raise ConfigError([f"{where}: {name} appears twice, in different case"])
        key = name.lower()
        lowered[key] = value if key in VERBATIM else _lower(value, where)
    return lowered


EMBEDDED: dict[str, Any] = {
    "http": {"listen": True},
    "general": {"writelocal": True, "localdir": "./captures"},
}
"""The configuration if neither a file nor a flag is given."""

TERMINAL: dict[str, Any] = {
    **EMBEDDED,
    "general": {
        **EMBEDDED["general"],
        **{"maxpackets": 2**40, "maxbytes": 2**50},
        **{"maxduration": 366 * 86400, "maxtimeout": 366 * 86400},
        "filter_names": True,
    },
}
"""The configuration of a capture at a terminal: only its memory is limited."""


def merge(values: Mapping[str, Any], flags: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the file's values, overridden by those of the command line."""
    merged = {
        name: dict(table) if isinstance(table, dict) else table for name, table in values.items()
    }
    for name, table in flags.items():
        merged[name] = {**merged.get(name, {}), **table}
    return merged
