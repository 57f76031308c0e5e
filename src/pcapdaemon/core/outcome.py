"""What a capture had, and what it lacks. Pure."""

from dataclasses import dataclass

from pcapdaemon.core.limits import StopReason


@dataclass(frozen=True, slots=True)
class Counts:
    """What one capture took and lost; `size` is bytes of the savefile. See the glossary in ARCHITECTURE.md."""

    packets: int = 0
    size: int = 0
    received: int = 0
    dropped: int = 0
    dropped_by_interface: int = 0


@dataclass(frozen=True, slots=True)
class Lookback:
    """What a savefile has from before its trigger: seconds asked for and covered, packets, and why it is not all."""

    asked: int
    covered: float
    packets: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """What is inside of a compressed savefile: how it was compressed, its bytes, and their SHA-256 in hex."""

    compression: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a destination says of a savefile that it has.

    `where` is a path or a URL for people, without secrets; `id` the destination's own name for it. `link` opens the savefile
    for whoever has it: it is for the requester alone, and never logged.
    """

    where: str
    id: str = ""
    link: str = ""


def shortfalls(reason: StopReason, counts: Counts, error: str) -> tuple[str, ...]:
    """Why a capture that ended so may lack packets; empty: it does not."""
    words = {
        StopReason.MEMORY: "the memory for captures was spent before a limit of the request was reached",
        StopReason.SHUTDOWN: "the daemon was shut down before a limit of the request was reached",
        StopReason.INTERFACE_DOWN: "the interface went down or away",
        StopReason.ERROR: error,
    }
    drops = {
        "packets were dropped: the kernel's buffer was full ([capture] buffer)": counts.dropped,
        "packets were dropped by the interface": counts.dropped_by_interface,
    }
    why = words.get(reason) or error  # of several interfaces one may have gone, and the others went on
    return (*(f"{number} {text}" for text, number in drops.items() if number), *([why] if why else []))
