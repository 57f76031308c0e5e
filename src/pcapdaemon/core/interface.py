"""Interfaces that can be captured on, and the state of their recorders. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Replay:
    """A savefile that is played in place of an interface.

    With `paced`, it is played at the pace of its packets, otherwise as fast as possible.
    """

    file: str
    paced: bool = False


class TargetKind(StrEnum):
    """The kind of a target. The words are the fields of a message that name one."""

    POD = "pod"
    CONTAINER = "container"
    NETNS = "netns"
    PROCESS = "process"
    UNIT = "unit"


@dataclass(frozen=True, slots=True)
class Target:
    """A pod, a container or something else with a network namespace of its own.

    `uid` and `containers` are a pod's. With `inside`, it is captured in its namespace, otherwise on
    the host's end of its interface. `witnesses` are paths: while one exists, the target does.
    """

    kind: TargetKind
    name: str
    uid: str = ""
    containers: tuple[str, ...] = ()
    inside: bool = False
    witnesses: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its kind and name, as in tags."""
        return f"{self.kind}:{self.name}"


def described(targets: Sequence[Target]) -> dict[str, Any] | None:
    """Return what results and savefiles say of the targets of one savefile.

    Names of several are joined by `+`.
    """
    if not targets:
        return None
    names: dict[str, list[str]] = {}
    for one in targets:
        names.setdefault(one.kind.value, []).append(one.name)
    found: dict[str, Any] = {kind: _joined(several) for kind, several in names.items()}
    if uid := _joined([one.uid for one in targets if one.uid]):
        found["uid"] = uid
    if containers := dict.fromkeys(name for one in targets for name in one.containers):
        found["container"] = list(containers)
    return {**found, "inside": targets[0].inside}


def _joined(names: Sequence[str]) -> str:
    return "+".join(dict.fromkeys(names))


class InterfaceKind(StrEnum):
    """The kind of an interface.

    A pseudo-device is not a network interface, for example nflog or usbmon0.
    """

    NETWORK = "network"
    ANY = "any"
    PSEUDO = "pseudo"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that can be captured on.

    `replay` is the file that it plays, or None for a device. `target` is what is at its other end,
    or, with `namespace`, where it is: `namespace` is the file of a network namespace, and `device`
    is the interface's name there. `description` and `addresses` are only
    set where all interfaces are listed.
    """

    name: str
    kind: InterfaceKind
    description: str = ""
    loopback: bool = False
    up: bool = True
    addresses: tuple[str, ...] = ()
    replay: Replay | None = None
    target: Target | None = None
    namespace: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many seconds before a trigger a recorder has, and why not more."""

    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RecordedRates:
    """What a recorder has over time: packets, and bytes on the wire, a second.

    `at` are the beginnings of equal steps, in seconds since the epoch.
    """

    at: list[float]
    packets: list[float]
    bytes: list[float]


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """The state of a recorder.

    `covered` is in seconds. `cpu` is the seconds of CPU used since it began. `reason` says why it
    does not record. `target` is what its interface leads to.
    """

    interface: str
    recording: bool
    reason: str
    linktype: str
    snaplen: int
    capture_filter: str
    seconds: int
    memory: int
    covered: float
    bytes: int
    packets: int
    dropped: int
    dropped_by_interface: int
    captures: int
    cpu: float
    target: dict[str, Any] | None = None
