# cython: language_level=3
"""What the packet loop uses of the block pool, without the GIL."""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass

cdef struct Block:
    Block *next
    uint8_t *data
    size_t start                     # bytes at the beginning that are given up, whole records
    size_t used                      # bytes filled, whole records, those given up counted
    uint32_t packets                 # records that are left

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

cdef class BlockPool:
    cdef Pool pool

cdef class Blocks:
    cdef BlockPool pool
    cdef Block *first
