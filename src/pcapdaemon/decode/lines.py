"""The packets of a savefile as lines of the log, with their sizes but not their content."""

from collections.abc import Iterator
from io import RawIOBase
from itertools import islice

from pcapdaemon.decode.reading import Packet, packets

AT_ONCE = 500


def lines_of(savefile: RawIOBase) -> Iterator[tuple[str, ...]]:
    """Yield AT_ONCE lines at a time. Blocks. Raises OSError and NotASavefile."""
    found = packets(savefile)
    while lines := tuple(map(_line, islice(found, AT_ONCE))):
        yield lines


def _line(packet: Packet) -> str:
    seconds, ns = divmod(packet.ns, 1_000_000_000)
    return f"{seconds}.{ns // 1000:06} captured {len(packet.data)} length {packet.length}"
