"""Paths into JSON values of other programs, whose names may contain dots. Pure."""

from typing import Any, Final

LONGEST_PATH, DEEPEST_PATH = 256, 16

ABSENT: Final = object()
"""What `find` returns if nothing is there; null is something."""


def find(fields: Any, path: str) -> Any:
    """Return what is at a dotted path, or ABSENT. A name that contains dots is preferred.

    >>> find({"a.b": {"c": 1}, "a": {"b": {"c": 2}}}, "a.b.c")
    1
    >>> find({"resources": ["x", "y"]}, "resources.1")
    'y'
    """
    if isinstance(fields, list):
        first, _, rest = path.partition(".")
        if not (first.isascii() and first.isdigit()) or int(first[:9]) >= len(fields):
            return ABSENT
        return find(fields[int(first)], rest) if rest else fields[int(first)]
    if not isinstance(fields, dict):
        return ABSENT
    if path in fields:
        return fields[path]
    at = len(path)
    while (at := path.rfind(".", 0, at)) > 0:
        if path[:at] in fields:
            found = find(fields[path[:at]], path[at + 1 :])
            if found is not ABSENT:
                return found
    return ABSENT


def text_at(fields: Any, path: str) -> str:
    """Return the text or number at a path as text, or "" if there is none."""
    found = find(fields, path)
    plain = isinstance(found, str | int | float) and not isinstance(found, bool)
    return str(found) if plain else ""
