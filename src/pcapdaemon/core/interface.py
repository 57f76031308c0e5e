"""What can be captured on, and what a recorder of it has. Pure."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Replay:
    """A savefile that is played in place of an interface.

    At the pace of its packets, or as fast as the machine can.
    """

    file: str
    paced: bool = False


class InterfaceKind(StrEnum):
    """What an interface is.

    A pseudo-device is one that is no network interface, such as nflog or usbmon0.
    """

    NETWORK = "network"
    ANY = "any"
    PSEUDO = "pseudo"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class Interface:
    """Something that can be captured on.

    `networks` are addresses with prefixes. `replay` is the file that it plays, if it is no device.
    """

    name: str
    kind: InterfaceKind
    description: str = ""
    loopback: bool = False
    up: bool = True
    addresses: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    replay: Replay | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many seconds before a trigger were recorded, and why not more."""

    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """What a recorder does and has.

    `covered` is seconds, `cpu` seconds since it began, `reason` why it does not record.
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
