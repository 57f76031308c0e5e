"""Compresses a whole savefile, block by block, into the memory that it frees."""

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
"""The default levels of gzip(1) and zstd(1)."""

_GZIP_FORMAT = 31
"""zlib's `wbits` for a gzip header with the largest window."""

GROWTH = 256
"""Incompressible bytes grow by less than one in this many."""


class _Compressor(Protocol):
    def compress(self, data: Any, /) -> bytes: ...
    def flush(self) -> bytes: ...


def compressed(
    how: str, head: bytes, blocks: Blocks, tail: bytes, pool: BlockPool
) -> tuple[Savefile, Content]:
    """Compress a savefile by "gzip" or "zstd", and return it and what it contains.

    Takes long: it compresses tens to hundreds of MB per second.

    The output overwrites blocks that were read. Besides those, it needs two blocks of the pool, and
    one more for each 256. Raises MemoryError if the pool does not have them, and then changes
    nothing.
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
