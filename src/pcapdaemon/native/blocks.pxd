# cython: language_level=3
"""Memory for packets: blocks of one size under one budget, taken and returned without the GIL."""

from libc.stdint cimport uint8_t, uint32_t

from pcapdaemon.native.posix cimport pthread_mutex_t

cdef struct Block:                   # belongs to one thread at a time, but for those in the pool
    Block *next
    uint8_t *data
    size_t start                     # bytes at the beginning that were evicted, whole records
    size_t used                      # bytes filled, whole records, those evicted included
    uint32_t packets                 # records that are left

cdef struct BlockList:
    Block *first
    Block *last

# every field is under the lock, but block_size, which is constant
cdef struct Pool:
    pthread_mutex_t lock
    size_t block_size
    size_t limit                     # bytes: blocks that exist and what is reserved stay under it
    size_t reserved                  # bytes that count without being blocks (kernel buffers)
    size_t blocks                    # blocks that exist, in use or warm
    size_t warm
    Block *free

cdef Block *take_block(Pool *pool) noexcept nogil
cdef void give_blocks(Pool *pool, Block *first) noexcept nogil

cdef inline void append_block(BlockList *blocks, Block *block) noexcept nogil:
    block.next = NULL
    if blocks.last == NULL:
        blocks.first = block
    else:
        blocks.last.next = block
    blocks.last = block

cdef inline Block *pop_block(BlockList *blocks) noexcept nogil:
    """The first block, taken out; NULL where there is none."""
    cdef Block *block = blocks.first
    if block != NULL:
        blocks.first = block.next
        if blocks.first == NULL:
            blocks.last = NULL
        block.next = NULL
    return block

cdef inline void give_all(Pool *pool, BlockList *blocks) noexcept nogil:
    if blocks.first != NULL:
        give_blocks(pool, blocks.first)
    blocks.first = blocks.last = NULL

cdef inline void clear_block(Block *block) noexcept nogil:
    block.next = NULL
    block.start = block.used = block.packets = 0

cdef class BlockPool:
    cdef Pool pool

cdef class Blocks:
    cdef BlockPool pool
    cdef BlockList list

cdef Blocks blocks_of(BlockPool pool, BlockList *list)
