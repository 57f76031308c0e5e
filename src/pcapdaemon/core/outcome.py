"""How a capture ended: what it has, what it lost, and why it may lack packets. Pure.

A new fact about the end of a capture is one more field of `Outcome`. Results, the API, log lines,
the spool's manifests and the comment in a pcapng savefile carry every field of it, by the codec in
wire.py.
"""

from dataclasses import dataclass
from typing import ClassVar

from pcapdaemon.core.limits import StopReason


@dataclass(frozen=True, slots=True)
class Counts:
    """What a capture has so far, and what was lost.

    `size` is bytes of the savefile, its headers counted. The last three are those of
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

    Seconds asked for and covered, packets, and why it is not all.
    """

    asked: int
    covered: float
    packets: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """What is inside a compressed savefile.

    How it was compressed, its bytes, and their SHA-256 in hexadecimal.
    """

    compression: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Counts):
    """The end of a capture. Times are seconds since the epoch, and None where there is no packet.

    `trigger` is the moment from which its limits count, `seconds` how long it ran. `lookback` is
    there where packets from before the trigger were asked for. `content` is what is inside the
    savefile where that is compressed; then `size` is that of the content.
    """

    stop_reason: StopReason
    seconds: float
    trigger: float
    first_packet_at: float | None = None
    last_packet_at: float | None = None
    lookback: Lookback | None = None
    content: Content | None = None
    error: str = ""

    DERIVED: ClassVar = ("complete", "missing")

    @property
    def missing(self) -> tuple[str, ...]:
        """Why the savefile may lack packets that a requester expects in it.

        Empty where it is complete.
        """
        reasons = {
            StopReason.MEMORY: (
                "the memory for captures was spent before a limit of the request was reached"
            ),
            StopReason.SHUTDOWN: (
                "the daemon was shut down before a limit of the request was reached"
            ),
            StopReason.INTERFACE_DOWN: "the interface went down or away",
            StopReason.ERROR: self.error,
        }
        drops = {
            "packets were dropped: the kernel's buffer was full ([capture] buffer)": self.dropped,
            "packets were dropped by the interface": self.dropped_by_interface,
        }
        why = reasons.get(self.stop_reason) or self.error  # of several interfaces one may have gone
        words = [f"{number} {text}" for text, number in drops.items() if number]
        return (*words, *([why] if why else []))

    @property
    def complete(self) -> bool:
        """Whether every packet that was asked for is in the savefile, as far as anybody knows."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a destination says of a savefile that it has.

    `where` is a path or a URL for people, without secrets; `id` the destination's own name for it.
    `link` opens the savefile for whoever has it: it is for the requester alone, and never logged.
    """

    where: str
    id: str = ""
    link: str = ""
