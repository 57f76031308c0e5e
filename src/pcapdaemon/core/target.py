"""What a request can be aimed at besides interfaces: pods, containers, namespaces. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from pcapdaemon.core.interface import Interface, TargetKind
from pcapdaemon.core.section import one_or_several

CONTAINER_ID = re.compile(r"[0-9a-f]{12,64}")
"""A container's id, or the beginning of one, as container runtimes show it."""

TARGETS = tuple(kind.value for kind in TargetKind)
"""The fields of a message that say what it is aimed at, in place of interfaces."""

ABOUT_TARGETS = ("inside", "interface", "alias")
"""Fields that must fit to those."""

NODE_SELECTING = TARGETS[:2]
"""Pods and containers are on one node: they say which nodes a message is for."""

_NAME = re.compile(r"[\w.:@\\+-]+", re.ASCII)
_GLOB = re.compile(r"[\w.*?\[\]!-]+", re.ASCII)
_KINDS_OF_UNITS = (".service", ".socket", ".scope", ".slice", ".mount", ".swap")
_PID = re.compile(r"[0-9]{1,10}")


def _pod(text: str) -> str:
    namespace, _, name = text.partition("/")
    if not (_GLOB.fullmatch(namespace) and _GLOB.fullmatch(name)):
        raise ValueError('must be "NAMESPACE/NAME", which may have globs, as in "shop/web-*"')
    return text


def _one_name(text: str) -> str:
    if not _NAME.fullmatch(text) or text in (".", ".."):
        raise ValueError("must have only letters, digits and . _ - : @ + \\")
    return text


def _unit(text: str) -> str:
    name = _one_name(text)
    return name if name.endswith(_KINDS_OF_UNITS) else f"{name}.service"


def _numbers_as_text(value: object) -> object:
    if value in (0, "") and value is not False:  # as in all fields: absent
        return ()
    several = value if isinstance(value, list | tuple) else (value,)
    return tuple(str(one) if type(one) is int else one for one in several)


Pods = Annotated[
    tuple[Annotated[str, Field(max_length=320), AfterValidator(_pod)], ...],
    Field(strict=False, max_length=64),
    BeforeValidator(one_or_several, json_schema_input_type=str | list[str]),
]
TargetNames = Annotated[
    tuple[Annotated[str, Field(max_length=255), AfterValidator(_one_name)], ...],
    Field(strict=False, max_length=64),
    BeforeValidator(one_or_several, json_schema_input_type=str | list[str]),
]
Units = Annotated[
    tuple[Annotated[str, Field(max_length=255), AfterValidator(_unit)], ...],
    Field(strict=False, max_length=64),
    BeforeValidator(one_or_several, json_schema_input_type=str | list[str]),
]
Processes = Annotated[
    tuple[Annotated[str, Field(max_length=255), AfterValidator(_one_name)], ...],
    Field(strict=False, max_length=16),
    BeforeValidator(_numbers_as_text, json_schema_input_type=int | str | list[int | str]),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """The targets of a request. `devices` are the interfaces to capture on `inside` of them."""

    pods: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    netns: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    inside: bool = False
    devices: tuple[str, ...] = ()

    @property
    def select_node(self) -> bool:
        """Whether they are only for nodes that run one of them: their names are the fleet's."""
        return bool(self.pods or self.containers)

    @property
    def field(self) -> str:
        """The first field of the message that names one of them."""
        named = (self.pods, self.containers, self.netns, self.processes, self.units)
        return next(kind.value for kind, names in zip(TargetKind, named, strict=True) if names)

    @property
    def not_here(self) -> tuple[str, str]:
        """The field and the words for a node that runs none of them."""
        if self.ids:
            return "container", f"this node has no container {', '.join(self.ids)}"
        having = f" with a container {', '.join(self.containers)}" if self.containers else ""
        return "pod", f"this node has no pod {', '.join(self.pods)}{having}"

    @property
    def ids(self) -> tuple[str, ...]:
        """The containers' ids, if the containers are not named within pods."""
        return () if self.pods else self.containers


@dataclass(frozen=True, slots=True)
class Refused:
    """A target that this node has, or should have, and that can't be captured."""

    kind: TargetKind
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a node has of the targets of a request.

    With `elsewhere`, it has none of them, and another node may have. With `starting`, one of them
    has no process yet.
    """

    interfaces: tuple[Interface, ...] = ()
    refused: tuple[Refused, ...] = ()
    elsewhere: bool = False
    starting: bool = False


NOTHING_FOUND = Found()


def is_implied(field: str, fields: Mapping[str, Any]) -> bool:
    """Return whether a message's targets say what a field that is missing would."""
    named = TARGETS if field == "interface" else NODE_SELECTING
    return any(fields.get(name) for name in named)


def target_problems(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what contradicts itself in a message's targets: a field, and words."""
    named = [name for name in TARGETS if fields.get(name)]
    inside = fields.get("inside") is True
    if inside and not named:
        yield "inside", f"must come with one of {', '.join(TARGETS)}"
    if fields.get("pod") and (others := [name for name in named if name not in NODE_SELECTING]):
        yield others[0], "can't be combined with pod"
    if named and fields.get("alias"):
        yield "alias", f"can't be combined with {named[0]}"
    if named and fields.get("interface") and not inside:
        yield "interface", f"can't be combined with {named[0]}, unless inside is true"
    if not fields.get("pod"):
        given = fields.get("container")
        for name in given if isinstance(given, list) else (given,):
            if isinstance(name, str) and name and not CONTAINER_ID.fullmatch(name):
                words = "give pod too, or the id of a container, of 12 hexadecimal digits or more"
                yield "container", f"{name[:64]}: {words}"


def is_pid(name: str) -> bool:
    """Return whether a process is named by its number."""
    return _PID.fullmatch(name) is not None


def matches(name: str, globs: Sequence[str]) -> bool:
    """Return whether a name matches one of some globs."""
    return any(fnmatchcase(name, glob) for glob in globs)
