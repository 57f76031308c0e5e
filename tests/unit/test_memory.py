"""The memory budget and its blocks."""

import ctypes

import pytest

from pcapdaemon.core.errors import Busy
from pcapdaemon.native.blocks import BlockPool, BlockWriter
from pcapdaemon.native.memory import BLOCK_SIZE, SMALLEST_KERNEL_BUFFER, MemoryBudget

MIB = 1 << 20


def test_kernel_buffers_count_and_are_given_back() -> None:
    budget = MemoryBudget(256 * MIB)
    size = budget.take_kernel_buffer(8 * MIB)
    assert (size, budget.used) == (8 * MIB, 8 * MIB)
    budget.give_kernel_buffer(size)
    assert budget.used == 0


def test_kernel_buffers_shrink_so_that_the_default_number_of_captures_fits() -> None:
    budget = MemoryBudget(256 * MIB)
    sizes = []
    for _ in range(32):
        sizes.append(budget.take_kernel_buffer(8 * MIB))
        assert budget.pool.reserve(BLOCK_SIZE), "the capture's first block"
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 8 * MIB
    assert sizes[-1] >= SMALLEST_KERNEL_BUFFER
    assert budget.used <= budget.limit


def test_busy_where_not_even_the_smallest_buffer_and_a_block_fit() -> None:
    budget = MemoryBudget(4 * MIB)
    budget.take_kernel_buffer(8 * MIB)
    with pytest.raises(Busy, match="memory"):
        budget.take_kernel_buffer(8 * MIB)


def test_a_limit_that_is_lowered_below_what_is_used_refuses_and_breaks_nothing() -> None:
    budget = MemoryBudget(64 * MIB)
    size = budget.take_kernel_buffer(8 * MIB)
    budget.configure(4 * MIB)
    with pytest.raises(Busy):
        budget.take_kernel_buffer(8 * MIB)
    budget.give_kernel_buffer(size)
    assert budget.used == 0


def test_a_block_holds_the_largest_record() -> None:
    with pytest.raises(ValueError, match="block_size must be at least"):
        BlockPool(MIB, 4096)


@pytest.mark.parametrize("wipe", [False, True])
def test_returned_memory_is_overwritten_if_that_is_asked_for(wipe: bool) -> None:
    pool = BlockPool(4 * BLOCK_SIZE, BLOCK_SIZE)
    pool.wipe = wipe
    writer = BlockWriter(pool, 0)
    writer.write(b"secret" * 1000)
    blocks = writer.blocks()
    at = address_of(next(blocks.views()))
    del blocks, writer
    assert pool.warm == BLOCK_SIZE  # it stays mapped
    assert (ctypes.string_at(at, 6) == b"secret") is not wipe


class Buffer(ctypes.Structure):
    """Py_buffer, as far as it is needed."""

    _fields_ = (("buf", ctypes.c_void_p), ("rest", ctypes.c_byte * 128))


def address_of(view: memoryview) -> int:
    buffer = Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return int(buffer.buf or 0)
