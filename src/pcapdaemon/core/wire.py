"""Values as JSON, with one word for one thing. Pure.

Messages, answers, results, the API, log lines and the spool's manifests use the same words. The
message's words win: `snaplen` in the program is `snap` on the wire, as in a message.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter

from pcapdaemon.core.request import FIELDS, ON_THE_WIRE

T = TypeVar("T")

MALFORMED = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(OverflowError, RecursionError),  # 1e999 has no integer, and JSON may be nested deeply
)
"""What is raised while a JSON value is read that is not what a program here wrote."""

FREE = {"target"}
"""Members that are JSON objects in the program too."""


def to_wire(value: Any) -> Any:
    """Return a dataclass and everything in it as JSON values.

    The class's `DERIVED` names properties that are included too.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if is_dataclass(kind):
        return {word: to_wire(getattr(value, name)) for word, name in _members(kind)}
    if isinstance(value, Mapping):
        return {name: to_wire(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_wire(one) for one in value]
    return value.value if isinstance(value, Enum) else value


_PLAIN = frozenset((str, int, float, bool, type(None)))


@cache
def _members(kind: Any) -> tuple[tuple[str, str], ...]:
    """Return the word on the wire and the name of each field of a dataclass."""
    names = (*(field.name for field in fields(kind)), *getattr(kind, "DERIVED", ()))
    return tuple((ON_THE_WIRE.get(name, name), name) for name in names)


def from_wire(kind: type[T], found: Any) -> T:
    """Return the dataclass that `to_wire` converted.

    Raises ValueError if `found` is something else. Ignores unknown names.
    """
    key: Any = kind
    made: T = _adapter(key).validate_python(_renamed(found))
    return made


def _renamed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            FIELDS.get(name, name): one if name in FREE else _renamed(one)
            for name, one in value.items()
        }
    return [_renamed(one) for one in value] if isinstance(value, list) else value


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
