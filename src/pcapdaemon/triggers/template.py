"""Fills in values of an alert where a request has `{path}`. Pure.

Only texts that can't widen a capture may contain `{path}`. Filters, endpoints, buckets, folders and
expressions for names of nodes may not.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pcapdaemon.core.paths import ABSENT, LONGEST_PATH, find
from pcapdaemon.core.request import FIELDS, ON_THE_WIRE
from pcapdaemon.core.text import printable, shortened

_PLACE = re.compile(r"\{([^{}]+)\}")
_BRACE = re.compile(r"[{}]")
LONGEST_VALUE, LONGEST_TEXT = 512, 4096

MAY_HAVE_BRACES = (ON_THE_WIRE["node_pattern"],)
"""Fields in which braces are their own: an expression may contain `{2}`."""

RESERVED = ("id", "flow", "since", "until", "issued_at", "cause", "dryrun")
"""Fields of the message that the trigger itself makes."""


class Unfilled(Exception):
    """A value of the alert is absent, or can't be where the request has it. The text says why."""


def _any_text(value: str) -> str:
    return value


def _a_name(value: str) -> str:
    if value == "any" or not value.isprintable() or value != value.strip() or not value:
        raise Unfilled(f"{value[:64]!r} can't be a name")
    return value


def _no_glob(value: str) -> str:
    if set(value) & set("*?[]"):
        raise Unfilled(f"{value[:64]!r} must not contain *, ?, [ or ]")
    return _a_name(value)


def _an_address(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise Unfilled(f"{value[:64]!r} is not an address") from None


def _no_comma(value: str) -> str:
    return value.replace(",", ";")


RULES: Mapping[str, Callable[[str], str]] = {
    "node": _a_name,
    "labels": _no_glob,
    "addresses": _an_address,
    "interface": _a_name,
    "alias": _a_name,
    "pod": _no_glob,
    "container": _no_glob,
    "comment": _any_text,
    "tags": _no_comma,
    "customer": _no_comma,
    "alertstr": _any_text,
}
"""The fields of a request that may contain `{path}`, and what a value may be there."""


def template_problems(request: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the fields of a `[trigger.request]`, before any alert comes."""
    problems = []
    for name, value in request.items():
        if name in RESERVED:
            problems.append(f"{name}: the trigger sets it itself")
        elif name not in FIELDS:
            problems.append(f"{name}: unknown field of a request")
        texts = _texts(value)
        if name in RULES:
            problems += [f"{name}: {words}" for text in texts if (words := _unclosed(text))]
        elif name not in MAY_HAVE_BRACES and any(_PLACE.search(text) for text in texts):
            problems.append(f"{name}: may not contain {{path}}; an alert must not decide about it")
    return problems


def filled(request: Mapping[str, Any], fields: Any) -> dict[str, Any]:
    """Return the fields of a request with values of an alert filled in. Raises Unfilled."""
    return {
        name: _filled(value, fields, name) if name in RULES else value
        for name, value in request.items()
    }


def example(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as `filled` could, to check the rest of it before any alert comes."""
    return {
        name: _mapped(value, partial(_PLACE.sub, _EXAMPLES.get(name, "x")))
        if name in RULES
        else value
        for name, value in request.items()
    }


_EXAMPLES = {"addresses": "192.0.2.1", "container": "c0ffee000000"}


def _filled(value: Any, fields: Any, name: str) -> Any:
    def one(text: str) -> str:
        found = _PLACE.sub(lambda place: RULES[name](_value(fields, place[1])), text)
        return shortened(found, LONGEST_TEXT)

    try:
        return _mapped(value, one)
    except Unfilled as error:
        raise Unfilled(f"{name}: {error}") from None


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [_mapped(one, change) for one in value]
    if isinstance(value, dict):
        return {key: _mapped(one, change) for key, one in value.items()}
    return value


def _value(fields: Any, path: str) -> str:
    found = find(fields, path)
    if found is ABSENT or found is None or found == "":
        raise Unfilled(f"the alert has no {path}")
    if isinstance(found, bool):
        return str(found).lower()
    if not isinstance(found, str | int | float):
        raise Unfilled(f"{path} is not a text or a number")
    return shortened(printable(str(found)), LONGEST_VALUE)


def _texts(value: Any) -> list[str]:
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    _mapped(value, note)
    return found


def _unclosed(text: str) -> str:
    places = _PLACE.findall(text)
    if _BRACE.search(_PLACE.sub("", text)):
        return "a brace is not closed or not opened"
    return next((f"{one[:32]}...: too long" for one in places if len(one) > LONGEST_PATH), "")
