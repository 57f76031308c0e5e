"""How a capture ended: its packets, its losses, and why packets may be missing. Pure.

To report a new fact about the end of a capture, add a field to `Outcome`. Results, the API, log
lines, the spool's manifests and the comment in a pcapng savefile contain all its fields, through
the codec in wire.py.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from pcapdaemon.core.limits import StopReason

ONE_SIDED = (
    "no packet to the target passed the host's end of its interface: the network plug-in may bypass"
    " it (bpf_redirect_peer); use `inside`"
)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a capture has so far, and what it lost.

    `size` is bytes of the savefile, including headers. The last three are those of
    pcap_stats(3pcap).
    """

    packets: int = 0
    size: int = 0
    received: int = 0
    dropped: int = 0
    dropped_by_interface: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, name) + getattr(other, name) for name in Counts.__slots__))


@dataclass(frozen=True, slots=True)
class Lookback:
    """What a savefile has from before its trigger.

    `asked` and `covered` are seconds. `reason` says why not all of them are covered.
    """

    asked: int | float
    covered: float
    packets: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a compressed or encrypted savefile.

    `size` is its bytes before that, and `sha256` is their SHA-256 in hexadecimal: empty of an
    encrypted one, unless the request asked for it. `encryption` is "age" or empty, and `recipients`
    are how many can decrypt it.
    """

    compression: str
    size: int
    sha256: str
    encryption: str = ""
    recipients: int = 0


class Place(StrEnum):
    """Where a capture filter ran.

    In the process of the daemon, every packet of the interface uses the capture's buffer, so more
    are dropped at high rates.
    """

    KERNEL = "kernel"
    PROCESS = "process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Counts):
    """The end of a capture. Times are seconds since the epoch, or None without a packet.

    `trigger` is the moment from which its limits count, and `seconds` is how long it ran.
    `down` is for how many seconds the interface was down meanwhile. `lookback` is set if packets
    from before the trigger were asked for. `content` is set if the savefile is compressed, and
    `size` is then the size of the content. `target` is what the interface leads to, as in
    `described`. With `one_sided`, packets from there passed the interface meanwhile, but none to
    it.
    """

    stop_reason: StopReason
    seconds: float
    trigger: float
    first_packet_at: float | None = None
    last_packet_at: float | None = None
    lookback: Lookback | None = None
    content: Content | None = None
    down: float = 0.0
    filtered_in: Place = Place.KERNEL
    target: dict[str, Any] | None = None
    one_sided: bool = False
    error: str = ""

    DERIVED: ClassVar = ("complete", "missing")

    @property
    def missing(self) -> tuple[str, ...]:
        """The reasons why the savefile may lack packets that the requester expects.

        Empty if it is complete.
        """
        reasons = {
            StopReason.MEMORY: (
                "the memory for captures ran out before the capture reached a limit"
            ),
            StopReason.SHUTDOWN: ("the daemon was shut down before the capture reached a limit"),
            StopReason.INTERFACE_DOWN: self.error or "the interface went down or away",
            StopReason.ERROR: self.error,
        }
        drops = {
            "packets were dropped: the kernel's buffer was full ([capture] buffer)": self.dropped,
            "packets were dropped by the interface": self.dropped_by_interface,
        }
        why = reasons.get(self.stop_reason) or self.error  # one of several interfaces may be gone
        words = [f"{number} {text}" for text, number in drops.items() if number]
        words += [ONE_SIDED] if self.one_sided else []
        words += [f"the link was down for {self.down:.1f} s"] if self.down else []
        return (*words, *([why] if why else []))

    @property
    def complete(self) -> bool:
        """Whether every packet that was asked for is in the savefile, as far as is known."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a destination reports about a savefile that it has.

    `where` is a path or a URL for people, without secrets. `id` is the destination's own name for
    it. `link` opens the savefile for anyone who has the link, so only the requester receives it,
    and it is never logged.
    """

    where: str
    id: str = ""
    link: str = ""
