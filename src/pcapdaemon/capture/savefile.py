"""A savefile in memory: blocks that read like a file, written to a descriptor without a copy."""

import io
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pcapdaemon.capture._blocks import Blocks

CONTENT_TYPE = "application/vnd.tcpdump.pcap"
_MOST_PARTS = 1024
"""IOV_MAX of writev(2) on Linux."""


class Record(NamedTuple):
    """The metadata of one packet: seconds since the epoch with microseconds, bytes kept, bytes on the wire."""

    seconds: int
    microseconds: int
    captured: int
    length: int


class Savefile(io.RawIOBase):
    """A finished savefile: read-only, seekable.

    Its memory goes back to the budget when it and all its readers are closed. It has one position: give each reader its
    own by `reader`.
    """

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts = [part for part in parts if part.nbytes]
        self._position = 0
        self.size = sum(part.nbytes for part in self._parts)

    @classmethod
    def of(cls, header: bytes, blocks: Blocks) -> "Savefile":
        """The file made of its header and blocks of records."""
        return cls([memoryview(header), *blocks.views()])

    def reader(self) -> "Savefile":
        """The same file with a position of its own, at the beginning; shares the memory."""
        if self.closed:
            raise ValueError("the savefile is closed")
        return Savefile(self._parts)

    def close(self) -> None:
        """Let the memory go."""
        self._parts = []
        super().close()

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be sought in."""
        return True

    def tell(self) -> int:
        """The position in bytes from the beginning."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move as in io.IOBase; a position past the end reads as the end."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative position {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the file goes; the number of bytes."""
        target = memoryview(buffer).cast("B")
        done = 0
        for part in self.views(self._position, len(target)):
            target[done : done + part.nbytes] = part
            done += part.nbytes
        self._position += done
        return done

    def views(self, start: int = 0, size: int | None = None) -> Iterator[memoryview]:
        """The bytes from `start` on, at most `size` of them, as views without a copy."""
        if self.closed:
            raise ValueError("the savefile is closed")
        left = self.size if size is None else size
        for part in self._parts:
            if left <= 0:
                return
            if start < part.nbytes:
                view = part[start : start + left]
                left -= view.nbytes
                yield view
            start = max(0, start - part.nbytes)

    def write_to(self, descriptor: int) -> None:
        """Write the whole file with writev(2), without a copy; blocks, and raises OSError."""
        done = 0
        while done < self.size:
            parts = [part for part, _ in zip(self.views(done), range(_MOST_PARTS), strict=False)]
            done += os.writev(descriptor, parts)

    def records(self) -> Iterator[Record]:
        """The metadata of each packet in order; a Python step per packet, for those who ask for it."""
        for part in self._parts[1:]:
            position = 0
            while position < part.nbytes:
                record = Record(*struct.unpack_from("<IIII", part, position))
                yield record
                position += 16 + record.captured
