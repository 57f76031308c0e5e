"""Packet sources: the contract of live interfaces, recorders and replayed files.

A source is used once, by one thread, in this order: `arm`, `run`, `take_blocks`, `close`. Those
block. Other threads may use `stop`, `extend` and the properties at any time.
"""

from dataclasses import asdict, dataclass, replace
from typing import Protocol

from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.core.filters import without
from pcapdaemon.core.limits import CaptureLimits
from pcapdaemon.core.outcome import Lookback
from pcapdaemon.native.blocks import Blocks
from pcapdaemon.native.merge import SharedLimits

PACKET_BUFFER_TIMEOUT_MS = 70
"""How long the kernel may hold packets back, in order to deliver many at once.

With 0, the kernel would never deliver a block that is not full. Immediate mode falls back to
TPACKET_V2, whose slots hold far fewer packets in the same buffer (libpcap pcap-linux.c). Each
capture is woken this often, and its end is reported this late.
"""


NO_TAGS = "no VLAN support"
"""libpcap's words about `vlan` in a filter for such a linktype (gencode.c)."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What a capture needs from its source.

    With `names`, the filter may contain names. `untagged_filter` replaces it where the linktype has
    no VLAN tags. What `exclude` matches is not kept, nor what `required` does not match. With
    `headers_only`, packets are cut after their transport header. `overhead` is the bytes of the
    savefile that are not packets. With `shared`, it is one of several captures
    whose packets go into one pcapng file, and `number` is the number of its interface there. The
    whole file has at most `most_packets` packets and `most_size` bytes.
    """

    capture_filter: str
    snaplen: int
    limits: CaptureLimits
    untagged_filter: str = ""
    exclude: str = ""
    required: str = ""
    headers_only: bool = False
    names: bool = False
    pcapng: bool = False
    overhead: int = 0
    number: int = 0
    shared: SharedLimits | None = None
    most_packets: int = 0
    most_size: int = 0


class PacketSource(Protocol):
    """The packets of one capture, of one linktype, in blocks of the memory budget."""

    @property
    def interface(self) -> str: ...
    @property
    def linktype(self) -> str: ...
    @property
    def snaplen(self) -> int:
        """Most bytes that are kept of a packet."""

    @property
    def header(self) -> bytes:
        """The 24 bytes of the header of a pcap file with these packets."""

    @property
    def error(self) -> str:
        """The words of libpcap, if `run` returned "error"."""

    def arm(self, options: SourceOptions) -> None:
        """Open the source and set its filter. From here on matching packets are kept.

        Raises CaptureRefused with libpcap's words, or Busy or MemoryError if memory is short.
        """

    def extend(self, *, packets: int, size: int, duration: float, idle_timeout: float) -> bool:
        """Raise the limits to at least these; False if the capture is over or about to be."""

    @property
    def is_running(self) -> bool:
        """Whether the end of the capture is not decided yet."""

    def run(self) -> str:
        """Keep packets until a limit is reached or `stop` is called.

        Returns the word of STOP_REASONS for what ended the capture.
        """

    def stop(self) -> None:
        """End `run` soon. If `run` has not begun, it ends at once."""

    def close(self) -> None:
        """Release what is held. May be called twice, and without `run`."""

    def take_blocks(self) -> Blocks:
        """Return the records of all packets. Call it once, after `run`."""

    def past(self, asked: float) -> Lookback:
        """Return what it has of the `asked` seconds before its trigger. Call it after `run`."""

    @property
    def packets(self) -> int: ...
    @property
    def size(self) -> int:
        """Bytes of the savefile so far."""

    @property
    def times(self) -> tuple[int, int]:
        """Times of the first and the last packet, nanoseconds since the epoch.

        Zeros before the first packet.
        """

    @property
    def filtered_in_kernel(self) -> bool:
        """Whether the kernel runs the capture filter. Otherwise it runs in this process."""

    @property
    def down(self) -> float:
        """Seconds after the trigger for which the interface was down. Call it after `run`."""

    @property
    def stats(self) -> tuple[int, int, int]:
        """(received, dropped, dropped by interface), see pcap_stats(3pcap)."""


class _Native(Protocol):
    def extend(self, *, packets: int, size: int, duration: float, idle_timeout: float) -> bool: ...
    def write_as(self, *, pcapng: bool, overhead: int, number: int = 0) -> None: ...
    def share_limits(self, shared: SharedLimits) -> None: ...
    def require(self, expression: str) -> None: ...
    def cut_payload(self) -> None: ...
    def compiles(self, expression: str) -> bool: ...
    def set_filter(self, expression: str, names: bool) -> None: ...


def prepare(source: _Native, options: SourceOptions) -> None:
    """Set the limits, the record format and the filter of an open source."""
    source.extend(**asdict(options.limits))
    if options.pcapng:
        source.write_as(pcapng=True, overhead=options.overhead, number=options.number)
    if options.shared:
        source.share_limits(options.shared)
    if options.headers_only:
        source.cut_payload()
    if options.required:
        source.require(options.required)
    _set_filter(source, options)


def _set_filter(source: _Native, options: SourceOptions) -> None:
    try:
        _set_without_excluded(source, options)
    except CaptureRefused as error:
        if NO_TAGS not in str(error) or not options.untagged_filter:
            raise
        untagged = replace(options, capture_filter=options.untagged_filter)
        _set_without_excluded(source, untagged)


def _set_without_excluded(source: _Native, options: SourceOptions) -> None:
    try:
        source.set_filter(without(options.capture_filter, options.exclude), options.names)
    except CaptureRefused as error:
        # on nlmon, for example, none is TCP
        if error.kind != "filter" or not options.exclude or source.compiles(options.exclude):
            raise
        source.set_filter(options.capture_filter, options.names)
