"""What can be captured on, and what a recorder of it has. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interface:
    """A device that libpcap can capture on; `kind` is "network", "any" or "pseudo"; `networks` are addresses with prefixes."""

    name: str
    kind: str
    description: str = ""
    loopback: bool = False
    up: bool = True
    addresses: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many seconds before a trigger were recorded, and why not more."""

    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """What a recorder does and has; `covered` is seconds, `cpu` seconds since it began, `reason` why it does not record."""

    interface: str
    recording: bool
    reason: str
    linktype: str
    snaplen: int
    filter: str
    seconds: int
    memory: int
    covered: float
    bytes: int
    packets: int
    dropped: int
    dropped_by_interface: int
    captures: int
    cpu: float
