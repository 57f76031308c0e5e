"""Compressed savefiles contain the same bytes, in the memory that the packets had."""

import gzip
import hashlib
import os

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from pcapdaemon.native.blocks import BlockPool, Blocks, BlockWriter
from pcapdaemon.savefile.compression import compressed

MIB = 1 << 20
OPEN = {"gzip": gzip.decompress, "zstd": zstd.decompress}


def filled(pool: BlockPool, data: bytes) -> Blocks:
    writer = BlockWriter(pool, 0)
    writer.write(data)
    return writer.blocks()


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(list(OPEN)),
    st.binary(max_size=2000),
    st.integers(0, 2000),
    st.binary(max_size=200),
)
def test_what_is_inside_is_what_went_in(how: str, unit: bytes, times: int, tail: bytes) -> None:
    pool = BlockPool(64 * MIB, MIB)
    savefile, content = compressed(how, b"head", filled(pool, unit * times), tail, pool)
    whole = b"head" + unit * times + tail
    with savefile:
        assert OPEN[how](savefile.read()) == whole
    assert (content.compression, content.size, content.sha256) == (
        how,
        len(whole),
        hashlib.sha256(whole).hexdigest(),
    )
    del savefile
    assert pool.used == 0


@pytest.mark.parametrize("how", list(OPEN))
def test_it_needs_two_blocks_beside_those_of_the_packets_even_where_nothing_can_be_compressed(
    how: str,
) -> None:
    data = os.urandom(30 * MIB)
    pool = BlockPool(32 * MIB, MIB)
    savefile, _ = compressed(how, b"", filled(pool, data), b"", pool)
    assert OPEN[how](savefile.read()) == data
    savefile.close()


def test_without_them_nothing_is_touched() -> None:
    pool = BlockPool(3 * MIB, MIB)
    blocks = filled(pool, b"x" * (2 * MIB))
    with pytest.raises(MemoryError):
        compressed("zstd", b"", blocks, b"", pool)
    assert b"".join(blocks.views()) == b"x" * (2 * MIB)
    assert pool.used == 2 * MIB


def test_what_is_compressed_well_gives_memory_back() -> None:
    pool = BlockPool(64 * MIB, MIB)
    savefile, _ = compressed("zstd", b"", filled(pool, bytes(40 * MIB)), b"", pool)
    assert savefile.size < MIB
    assert pool.used == MIB
    savefile.close()
