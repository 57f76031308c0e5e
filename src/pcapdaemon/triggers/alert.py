"""What one alert says, whichever system sent it. Pure."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from pcapdaemon.core.paths import ABSENT, find, text_at

MAX_ALERTS = 1 << 20
"""Most bytes of a message with alerts. A group of Alertmanager is longer than a request."""

MOST_OBJECTS = 1000
"""Most alerts of a message that are read; the others are ignored."""

_NUMBER = re.compile(r"[0-9]{1,19}(\.[0-9]{1,9})?", re.ASCII)
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (math.inf, 1e9))
"""Numbers below the first are in units of which the second are one second."""

LATEST_MOMENT = 253402300799.0
"""The end of the year 9999, the last that has a form in RFC 3339."""


class NotAnAlert(Exception):
    """A message is not of the kind that the trigger expects. The text says why."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert.

    `fields` is its JSON object. Alerts with the same `key` are the same one, sent again. `at` is
    when it happened and `since` when what it is about began, in seconds since the epoch, or None if
    it doesn't say. `flow` has what it says of a flow, with the names of the message's `flow`, not
    checked. `node` names the host that it is about, if it does.
    """

    fields: Mapping[str, Any]
    key: str
    at: float | None = None
    since: float | None = None
    resolved: bool = False
    flow: Mapping[str, Any] = field(default_factory=dict)
    node: str = ""
    cause: Mapping[str, str] = field(default_factory=dict)


def decode(body: bytes) -> Any:
    """Return the JSON value of a message, with all names as they are. Raises NotAnAlert."""
    if len(body) > MAX_ALERTS:
        raise NotAnAlert(f"{len(body)} bytes long; alerts may have at most {MAX_ALERTS}")
    try:
        found = _DECODER.decode(body.decode("utf-8", "replace"))
        # JSON can contain half of a surrogate pair (\\ud800), which can't be encoded
        return _encodable(found) if b"\\u" in body else found
    except json.JSONDecodeError as error:
        raise NotAnAlert(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except ValueError:  # Python limits the digits of an integer
        raise NotAnAlert("a number has too many digits") from None
    except RecursionError:
        raise NotAnAlert("nested too deeply") from None


def objects(found: Any) -> list[dict[str, Any]]:
    """Return the first MOST_OBJECTS objects of an array. Raises NotAnAlert if it is none."""
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise NotAnAlert("has no array of alerts where it must be")
    return found[:MOST_OBJECTS]


def first_text(fields: Any, *paths: str) -> str:
    """Return the first text that one of the paths has, or ""."""
    return next((text for path in paths if (text := text_at(fields, path))), "")


def ends(fields: Any, **paths: str) -> dict[str, Any]:
    """Return what is at the paths, by the names of a message's `flow`, without what is absent."""
    found = {name: find(fields, path) for name, path in paths.items()}
    return {name: value for name, value in found.items() if value not in (ABSENT, None, "")}


def moment_of(value: Any) -> float | None:
    """Return a moment in seconds since the epoch, or None if it is none.

    Numbers may be in seconds, milliseconds, microseconds or nanoseconds; their size says which. A
    text without a zone is not a moment.

    >>> moment_of("2021-01-07T08:38:00.5Z"), moment_of(1610008680500), moment_of("0001-01-01")
    (1610008680.5, 1610008680.5, None)
    """
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            return _of_text(value)
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**20:
        return None
    seconds = value / next(unit for bound, unit in _UNITS if value < bound)
    return seconds if seconds <= LATEST_MOMENT else None


def _of_text(value: str) -> float | None:
    try:
        found = datetime.fromisoformat(value[:64])
        seconds = found.timestamp() if found.tzinfo else 0.0
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds <= LATEST_MOMENT else None


def digest(*parts: Any) -> str:
    """Return 16 characters that identify these JSON values."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_encodable(one) for one in value]
    if isinstance(value, dict):
        return {_encodable(name): _encodable(one) for name, one in value.items()}
    return value


def _no_constant(name: str) -> NoReturn:
    raise NotAnAlert(f"not JSON: {name} is not allowed")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
