"""Where a capture's packets come from.

The contract of live interfaces, recorders and replayed files.

A source is used once, by one thread, in this order: `arm`, `run`, `take_blocks`, `close`. Those
block. `stop`, `extend` and what can be asked of it may be used from any other thread at any time.
"""

from dataclasses import asdict, dataclass
from typing import Protocol

from pcapdaemon.core.limits import CaptureLimits
from pcapdaemon.core.outcome import Lookback
from pcapdaemon.native.blocks import Blocks
from pcapdaemon.native.merge import SharedLimits

OPTIMIZED_FILTER = 256
"""Capture filters up to this length are optimized.

Beyond, libpcap's optimizer may take seconds of CPU.
"""

PACKET_BUFFER_TIMEOUT_MS = 70
"""How long the kernel may hold packets back to hand over many at once.

0 would never hand over a block that is not full. Immediate mode falls back to TPACKET_V2, whose
slots hold far fewer packets in the same buffer (libpcap pcap-linux.c). Each capture is woken this
often, and its end is reported this late.
"""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What a capture wants of its source.

    `overhead` is bytes that the savefile has beside packets. With `shared` it is one of several
    whose packets come into one pcapng file, where its interface has this `number`. The whole file
    has at most `most_packets` and `most_size` bytes.
    """

    capture_filter: str
    snaplen: int
    limits: CaptureLimits
    pcapng: bool = False
    overhead: int = 0
    number: int = 0
    shared: SharedLimits | None = None
    most_packets: int = 0
    most_size: int = 0


class PacketSource(Protocol):
    """One capture's packets, of one linktype, kept in blocks of the memory budget."""

    @property
    def interface(self) -> str: ...
    @property
    def linktype(self) -> str: ...
    @property
    def snaplen(self) -> int:
        """Bytes kept of a packet at most."""

    @property
    def header(self) -> bytes:
        """The 24 bytes of a pcap file with these packets."""

    @property
    def error(self) -> str:
        """The words of libpcap, where `run` returned "error"."""

    def arm(self, options: SourceOptions) -> None:
        """Open it and set its filter: packets that match are kept from here on.

        Raises CaptureRefused with libpcap's words, Busy or MemoryError where there is no memory.
        """

    def extend(self, *, packets: int, size: int, duration: float, idle_timeout: float) -> bool:
        """Make limits at least these; False where it is over, or about to be."""

    @property
    def is_running(self) -> bool:
        """Whether its end is not decided yet."""

    def run(self) -> str:
        """Keep packets until a limit is reached or `stop` is called.

        The word of STOP_REASONS that says which.
        """

    def stop(self) -> None:
        """End `run` soon; before `run` it ends it at once."""

    def close(self) -> None:
        """Give back what is held. May be called twice, and without `run`."""

    def take_blocks(self) -> Blocks:
        """The records of all packets, once, after `run`."""

    def past(self, asked: int) -> Lookback:
        """What it has of the `asked` seconds before its trigger; after `run`."""

    @property
    def packets(self) -> int: ...
    @property
    def size(self) -> int:
        """Bytes of the savefile so far."""

    @property
    def times(self) -> tuple[int, int]:
        """Times of the first and the last packet, nanoseconds since the epoch.

        Zeros before the first.
        """

    @property
    def stats(self) -> tuple[int, int, int]:
        """(received, dropped, dropped by interface), see pcap_stats(3pcap)."""


class _Native(Protocol):
    def extend(self, *, packets: int, size: int, duration: float, idle_timeout: float) -> bool: ...
    def write_as(self, *, pcapng: bool, overhead: int, number: int = 0) -> None: ...
    def share_limits(self, shared: SharedLimits) -> None: ...
    def set_filter(self, expression: str, optimize: bool) -> None: ...


def prepare(source: _Native, options: SourceOptions) -> None:
    """Set the limits, the form of records and the filter of a source that is open."""
    source.extend(**asdict(options.limits))
    if options.pcapng:
        source.write_as(pcapng=True, overhead=options.overhead, number=options.number)
    if options.shared:
        source.share_limits(options.shared)
    source.set_filter(options.capture_filter, len(options.capture_filter) <= OPTIMIZED_FILTER)
