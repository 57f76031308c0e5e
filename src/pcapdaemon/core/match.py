"""Which messages of other programs are meant: a table of paths and what must be there. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import ge, gt, le, lt
from typing import Annotated, Any

from pydantic import AfterValidator

from pcapdaemon.core.paths import ABSENT, DEEPEST_PATH, LONGEST_PATH, find

LONGEST_GLOB = 256
LONGEST_TEXT = 4096
"""Characters of a text that are compared; what is further right does not count."""

_COMPARED = re.compile(r"(<=|>=|<|>)\s*(-?[0-9]{1,18}(?:\.[0-9]{1,9})?)", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,9})?", re.ASCII)
_ORDERS: Mapping[str, Callable[[float, float], bool]] = {"<=": le, ">=": ge, "<": lt, ">": gt}


@dataclass(frozen=True, slots=True)
class Matcher:
    """One line of a match table: what must be at a path."""

    path: str
    values: tuple[Any, ...]

    def __call__(self, fields: Any) -> bool:
        """Return whether a value at the path is one of those that it must be."""
        found = find(fields, self.path)
        there = found if isinstance(found, list) else [found]
        return any(_fits(value, one) for one in self.values for value in there)

    def __str__(self) -> str:
        words = self.values[0] if len(self.values) == 1 else list(self.values)
        return f"{self.path} = {words!r}"


def matcher_of(path: str, wanted: Any) -> Matcher:
    """Return a matcher. Raises ValueError, with words for people."""
    several = wanted if isinstance(wanted, list | tuple) else [wanted]
    if not 0 < len(path) <= LONGEST_PATH or path.count(".") >= DEEPEST_PATH:
        raise ValueError(f"{path[:64]}: not a path")
    if not several or not all(isinstance(one, str | int | float) for one in several):
        raise ValueError(f"{path}: must be a text, a number, true or false, or an array of them")
    for one in several:
        if isinstance(one, str) and len(one) > LONGEST_GLOB:
            raise ValueError(f"{path}: a text may have at most {LONGEST_GLOB} characters")
        if isinstance(one, str) and one[:1] in ("<", ">") and not _COMPARED.fullmatch(one):
            raise ValueError(f"{path}: {one!r} must be a comparison with a number, as '<=2'")
    return Matcher(path, tuple(several))


def _fits(value: Any, right: Any) -> bool:
    if value is ABSENT or value is None or isinstance(value, dict | list):
        return False
    if isinstance(right, bool) or isinstance(value, bool):
        return value is right or (isinstance(value, bool) and str(value).lower() == right)
    if isinstance(right, int | float):
        number = _number(value)
        return number is not None and number == right
    if found := _COMPARED.fullmatch(right):
        number = _number(value)
        return number is not None and _ORDERS[found[1]](number, float(found[2]))
    if right.startswith("!="):
        return not _is_like(value, right[2:])
    return _is_like(value, right)


def _is_like(value: Any, glob: str) -> bool:
    return fnmatchcase(str(value)[:LONGEST_TEXT], glob)


def _number(value: Any) -> float | int | None:
    if isinstance(value, int | float):
        return value
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else None


def flat(table: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Return paths and values. A path with dots that is not quoted in TOML makes nested tables."""
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        path = f"{before}{name}"
        if value == {}:
            raise ValueError(
                f"{path}: must be a text, a number, true or false, or an array of them"
            )
        found += flat(value, f"{path}.") if isinstance(value, dict) else [(path, value)]
    return found


def matchers_of(table: Mapping[str, Any]) -> tuple[Matcher, ...]:
    """Return the matchers of a table, in its order. Raises ValueError, with words for people."""
    return tuple(matcher_of(path, value) for path, value in flat(table))


def _is_a_table(table: dict[str, Any]) -> dict[str, Any]:
    matchers_of(table)
    return table


Matches = Annotated[dict[str, Any], AfterValidator(_is_a_table)]
"""A table of the configuration: paths, and what must be there."""
