"""Compresses and encrypts a whole savefile, block by block, into the memory that it frees."""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from pcapdaemon.core.outcome import Content
from pcapdaemon.core.recipient import Recipient
from pcapdaemon.native.blocks import BlockPool, Blocks, BlockWriter
from pcapdaemon.savefile.savefile import Savefile

GZIP_LEVEL, ZSTD_LEVEL = 6, 3
"""The default levels of gzip(1) and zstd(1)."""

_GZIP_FORMAT = 31
"""zlib's `wbits` for a gzip header with the largest window."""

GROWTH = 256
"""Incompressible bytes grow by less than one in this many."""


class _Step(Protocol):
    def compress(self, data: Any, /) -> bytes: ...
    def flush(self) -> bytes: ...


def compressed(
    how: str,
    head: bytes,
    blocks: Blocks,
    tail: bytes,
    pool: BlockPool,
    recipients: Sequence[Recipient] = (),
    with_digest: bool = True,
) -> tuple[Savefile, Content]:
    """Compress a savefile by "gzip" or "zstd", encrypt it, and return it and what it contains.

    With "none", it is only encrypted, and without recipients, it is only compressed. The digest of
    what it contains is made `with_digest`, and is otherwise empty.

    Takes long: it compresses tens to hundreds of MB per second.

    The output overwrites blocks that were read. Besides those, it needs two blocks of the pool, and
    one more for each 256. Raises MemoryError if the pool does not have them, and then changes
    nothing.
    """
    writer = BlockWriter(pool, 2 + len(blocks) // GROWTH)
    steps, size = _steps(how, recipients), 0
    digest = hashlib.sha256() if with_digest else None
    for part in _parts(head, blocks, tail):
        for view in part.views() if isinstance(part, Blocks) else [memoryview(part)]:
            with view:
                if digest:
                    digest.update(view)
                size += view.nbytes
                data: Any = view
                for step in steps:
                    data = step.compress(data)
                writer.write(data)
        if isinstance(part, Blocks):
            writer.adopt(part)
    rest = b""
    for step in steps:
        rest = step.compress(rest) + step.flush()
    writer.write(rest)
    sha256, encryption = digest.hexdigest() if digest else "", "age" if recipients else ""
    content = Content(how, size, sha256, encryption, len(recipients))
    return Savefile.of(b"", writer.blocks()), content


def _steps(how: str, recipients: Sequence[Recipient]) -> list[_Step]:
    steps = [] if how == "none" else [_compressor(how)]
    if recipients:
        from pcapdaemon.savefile.age import Age  # noqa: PLC0415  # its library is an extra

        steps.append(Age(recipients))
    return steps


def _compressor(how: str) -> _Step:
    if how == "gzip":
        return zlib.compressobj(GZIP_LEVEL, wbits=_GZIP_FORMAT)
    from pcapdaemon.decode.zstd import zstd  # noqa: PLC0415  # few savefiles are compressed by it

    return zstd.ZstdCompressor(level=ZSTD_LEVEL)


def _parts(head: bytes, blocks: Blocks, tail: bytes) -> Iterator[bytes | Blocks]:
    yield head
    while (block := blocks.pop()) is not None:
        yield block
    yield tail
