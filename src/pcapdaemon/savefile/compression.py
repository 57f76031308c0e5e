"""Savefiles compressed as a whole, block by block, into the memory that they free."""

import hashlib
import sys
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from pcapdaemon.core.outcome import Content
from pcapdaemon.native.blocks import BlockPool, Blocks, BlockWriter
from pcapdaemon.savefile.savefile import Savefile

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP_LEVEL, ZSTD_LEVEL = 6, 3
"""What gzip(1) and zstd(1) take by default."""

_GZIP_FORMAT = 31
"""zlib's `wbits` for a gzip header with the largest window."""

GROWTH = 256
"""Bytes that can't be compressed grow by less than one in this many."""


class _Compressor(Protocol):
    def compress(self, data: Any, /) -> bytes: ...
    def flush(self) -> bytes: ...


def compressed(
    how: str, head: bytes, blocks: Blocks, tail: bytes, pool: BlockPool
) -> tuple[Savefile, Content]:
    """The savefile made of these, compressed by "gzip" or "zstd".

    Takes long: tens to hundreds of MB per second.

    What was read is written over: beside the blocks themselves it takes two of the pool, and one
    for each 256. Raises MemoryError where it has not this many; then nothing was touched.
    """
    writer = BlockWriter(pool, 2 + len(blocks) // GROWTH)
    compressor, digest, size = _compressor(how), hashlib.sha256(), 0
    for part in _parts(head, blocks, tail):
        for view in part.views() if isinstance(part, Blocks) else [memoryview(part)]:
            with view:
                digest.update(view)
                size += view.nbytes
                writer.write(compressor.compress(view))
        if isinstance(part, Blocks):
            writer.adopt(part)
    writer.write(compressor.flush())
    return Savefile.of(b"", writer.blocks()), Content(how, size, digest.hexdigest())


def _compressor(how: str) -> _Compressor:
    return (
        zlib.compressobj(GZIP_LEVEL, wbits=_GZIP_FORMAT)
        if how == "gzip"
        else zstd.ZstdCompressor(level=ZSTD_LEVEL)
    )


def _parts(head: bytes, blocks: Blocks, tail: bytes) -> Iterator[bytes | Blocks]:
    yield head
    while (block := blocks.pop()) is not None:
        yield block
    yield tail
