"""Savefiles: blocks in memory that read like a file.

A file on disk may replace the blocks while others read.
"""

import errno
import io
import os
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from pcapdaemon.native.blocks import Blocks

CONTENT_TYPES = {
    ".age": "application/octet-stream",
    ".gz": "application/gzip",
    ".zst": "application/zstd",
    ".pcapng": "application/x-pcapng",
    ".pcap": "application/vnd.tcpdump.pcap",
}
"""By the suffix of a savefile's name. IANA has registered all of them except pcapng's."""

_MOST_PARTS = 1024
"""IOV_MAX of writev(2) on Linux."""

_CHUNK = 1024 * 1024
_LARGEST_WRITE = 8 * _CHUNK
"""Bytes that are read from a file on disk at once, and that are held in memory at once."""


def content_type(file_name: str) -> str:
    """Return the media type of a savefile by its name."""
    return next(
        (kind for ending, kind in CONTENT_TYPES.items() if file_name.endswith(ending)),
        CONTENT_TYPES[".pcap"],
    )


class _Memory:
    """Bytes in memory: a header, the blocks of records, and a trailer."""

    def __init__(self, header: bytes, blocks: Blocks, trailer: bytes) -> None:
        self._header, self._blocks, self._trailer = memoryview(header), blocks, memoryview(trailer)
        self.size = len(header) + blocks.size + len(trailer)

    def views(self, start: int, size: int) -> Iterator[memoryview]:
        """Yield `size` bytes from `start` on, as views without a copy."""
        for part in chain((self._header,), self._blocks.views(), (self._trailer,)):
            if size <= 0:
                return
            if start < part.nbytes:
                view = part[start : start + size]
                size -= view.nbytes
                yield view
            start = max(0, start - part.nbytes)


_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""How a file is opened: a link is refused, and opening a pipe does not block."""


class _File:
    """Bytes of a file on disk.

    The file is opened for each reading, because many savefiles may wait and descriptors are few.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.size = path, path.stat().st_size

    def views(self, start: int, size: int) -> Iterator[memoryview]:
        """Yield `size` bytes from `start` on, in chunks. Raises OSError."""
        descriptor = os.open(self._path, _READ)
        try:
            while size > 0 and (chunk := os.pread(descriptor, min(size, _CHUNK), start)):
                start, size = start + len(chunk), size - len(chunk)
                yield memoryview(chunk)
        finally:
            os.close(descriptor)


class _Elsewhere:
    """Bytes that are fetched in chunks from where a destination has them."""

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        self.size, self._fetch = size, fetch

    def views(self, start: int, size: int) -> Iterator[memoryview]:
        """Yield `size` bytes from `start` on, in chunks. Raises what `fetch` raises."""
        while size > 0 and (chunk := self._fetch(start, min(size, _LARGEST_WRITE))):
            start, size = start + len(chunk), size - len(chunk)
            yield memoryview(chunk)


class _Content:
    """Where the bytes are now, shared by a savefile and all its readers."""

    def __init__(self, place: _Memory | _File | _Elsewhere) -> None:
        self.place = place


class Savefile(io.RawIOBase):
    """A finished savefile, read-only and seekable.

    Its memory returns to the budget when it and all its readers are closed, or when it is moved to
    disk. It has one position, so give each reader its own with `reader`. Closing a reader ends what
    another thread reads from it.
    """

    def __init__(self, content: _Content, start: int = 0, size: int | None = None) -> None:
        self._content: _Content | None = content
        self._start, self._position = start, 0
        self._parts: list[Savefile] = []
        self.size = content.place.size - start if size is None else size

    @classmethod
    def of(cls, header: bytes, blocks: Blocks, trailer: bytes = b"") -> "Savefile":
        """Make a savefile of a header, blocks of records, and a trailer."""
        return cls(_Content(_Memory(header, blocks, trailer)))

    @classmethod
    def on_disk(cls, path: Path) -> "Savefile":
        """Open a savefile that is already on disk. Raises OSError."""
        return cls(_Content(_File(path)))

    @classmethod
    def elsewhere(cls, size: int, fetch: Callable[[int, int], bytes]) -> "Savefile":
        """Open a savefile of `size` bytes. `fetch` blocks and returns bytes from an offset on."""
        return cls(_Content(_Elsewhere(size, fetch)))

    def reader(self, start: int = 0, size: int | None = None) -> "Savefile":
        """Return a reader of the file from `start` on, or of `size` bytes of it.

        It has a position of its own, at its beginning, and shares the memory.
        """
        left = self.size - start if size is None else min(size, self.size - start)
        return Savefile(self._there(), self._start + start, left)

    def part(self, start: int, size: int) -> "Savefile":
        """Return a reader of `size` bytes from `start` on, which is closed with this one."""
        part = self.reader(start, size)
        self._parts.append(part)
        return part

    def move_to(self, path: Path) -> None:
        """Release the memory, and read from a file on disk with the same bytes from now on.

        This applies to its readers too. Raises OSError.
        """
        self._there().place = _File(path)

    @property
    def in_memory(self) -> bool:
        """Whether its bytes are in memory."""
        return self._content is not None and isinstance(self._content.place, _Memory)

    def close(self) -> None:
        """Release the memory, and close the parts."""
        self._content = None
        for part in self.__dict__.get("_parts", ()):
            part.close()
        super().close()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes from the beginning."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position like io.IOBase.seek. A position past the end reads as the end."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative position {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the file goes, and return the number of bytes."""
        target = memoryview(buffer).cast("B")
        done = 0
        for part in self.views(self._position, len(target)):
            target[done : done + part.nbytes] = part
            done += part.nbytes
        self._position += done
        return done

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, at most `size` of them.

        The method of the base class would copy them twice, into cold pages.
        """
        data = b"".join(self.views(self._position, size if size >= 0 else None))
        self._position += len(data)
        return data

    def views(self, start: int = 0, size: int | None = None) -> Iterator[memoryview]:
        """Yield the bytes from `start` on, at most `size` of them.

        Bytes in memory come as views without a copy.
        """
        left = max(0, self.size - start)
        return self._there().place.views(
            self._start + start, left if size is None else min(left, size)
        )

    def _there(self) -> _Content:
        if (content := self._content) is None:
            raise ValueError("the savefile is closed")
        return content

    def write_to(self, descriptor: int) -> None:
        """Write the whole file with writev(2), without a copy. Blocks, and raises OSError."""
        done = 0
        while done < self.size:
            parts = [
                part
                for part, _ in zip(
                    self.views(done, _LARGEST_WRITE), range(_MOST_PARTS), strict=False
                )
            ]
            if not parts:
                raise OSError(errno.EIO, "the savefile on disk was truncated")
            done += os.writev(descriptor, parts)
