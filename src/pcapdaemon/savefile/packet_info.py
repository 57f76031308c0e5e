"""The metadata of the packets of a savefile, whatever its format and compression.

It takes a step in Python per packet, so only those who need it use it.
"""

import gzip
import io
import struct
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from pcapdaemon.savefile.savefile import Savefile

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_CHUNK = 1024 * 1024
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_ENHANCED_PACKET = 6
_COMPRESSED: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"\x28\xb5": zstd.open}


class PacketInfo(NamedTuple):
    """The metadata of one packet.

    `seconds` and `microseconds` are its time since the epoch. `captured` is the bytes that were
    kept, and `length` the bytes on the wire.
    """

    seconds: int
    microseconds: int
    captured: int
    length: int


def packet_infos(savefile: Savefile) -> Iterator[PacketInfo]:
    """Yield the metadata of each packet, in order."""
    with io.BufferedReader(savefile.reader(), _CHUNK) as file:
        opener = _COMPRESSED.get(file.peek(2)[:2])
        yield from _packets(opener(file) if opener else file)


def _packets(file: Any) -> Iterator[PacketInfo]:
    start = file.read(24)
    if start[:4] == _PCAPNG:
        file.read(int.from_bytes(start[4:8], "little") - len(start))
        yield from _enhanced_packets(file)
        return
    while header := file.read(16):
        record = PacketInfo(*struct.unpack("<IIII", header))
        yield record
        file.read(record.captured)


def _enhanced_packets(file: Any) -> Iterator[PacketInfo]:
    while header := file.read(8):
        kind, length = struct.unpack("<II", header)
        body = file.read(length - 8)
        if kind == _ENHANCED_PACKET:
            high, low, captured, size = struct.unpack_from("<IIII", body, 4)
            seconds, nanoseconds = divmod(high << 32 | low, 1_000_000_000)
            yield PacketInfo(seconds, nanoseconds // 1000, captured, size)
