"""Interfaces that can be captured on, and the state of their recorders. Pure."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Replay:
    """A savefile that is played in place of an interface.

    With `paced`, it is played at the pace of its packets, otherwise as fast as possible.
    """

    file: str
    paced: bool = False


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

    `replay` is the file that it plays, or None for a device. `description` and `addresses` are only
    set where all interfaces are listed.
    """

    name: str
    kind: InterfaceKind
    description: str = ""
    loopback: bool = False
    up: bool = True
    addresses: tuple[str, ...] = ()
    replay: Replay | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many seconds before a trigger a recorder has, and why not more."""

    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """The state of a recorder.

    `covered` is in seconds. `cpu` is the seconds of CPU used since it began. `reason` says why it
    does not record.
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
