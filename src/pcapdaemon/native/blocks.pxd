# cython: language_level=3
"""Memory for packets: blocks of one size under one budget, taken and returned without the GIL."""

from libc.stdint cimport uint8_t, uint32_t

from pcapdaemon.native.posix cimport pthread_mutex_t

cdef struct Block:                   # owned by one thread at a time; free blocks belong to the pool
    Block *next
    uint8_t *data
    size_t start                     # bytes at the beginning that were evicted (whole records)
    size_t used                      # bytes filled, including evicted ones (whole records)
    uint32_t packets                 # records that were not evicted
    bint offered                     # warm, and the system may take its memory

cdef struct BlockList:
    Block *first
    Block *last

# The lock protects every field except block_size, which is constant.
cdef struct Pool:
    pthread_mutex_t lock
    size_t block_size
    size_t limit                     # bytes that blocks and reservations may take together
    # bytes counted for something other than blocks (kernel buffers)
    size_t reserved
    size_t blocks                    # blocks that exist, in use or warm
    size_t warm
    bint wipe                        # returned blocks are overwritten
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
    """Remove and return the first block; NULL if the list is empty."""
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
    block.offered = False

cdef class BlockPool:
    cdef Pool pool
    cdef void _each(self, bint (*step)(Pool *, size_t) noexcept nogil, size_t keep) noexcept

cdef class Blocks:
    cdef BlockPool pool
    cdef BlockList list

cdef Blocks blocks_of(BlockPool pool, BlockList *list)
