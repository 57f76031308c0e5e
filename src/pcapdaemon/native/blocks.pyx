# cython: language_level=3
"""Memory for packets: blocks of one size under one budget. Returned blocks stay warm."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from pcapdaemon.native.posix cimport *

# A block holds whole records only, so it must hold the largest one: libpcap's MAXIMUM_SNAPLEN
# (pcap-int.h), a VLAN tag that is put back in, and what a record adds.
MIN_BLOCK = 262144 + 4 + 64


cdef Block *new_block(size_t size) noexcept nogil:
    # Populated at once, because a page fault per 4 KiB inside the packet loop would cost more than
    # the rest of the loop.
    cdef Block *block = <Block *> calloc(1, sizeof(Block))
    cdef void *data
    if block == NULL:
        return NULL
    data = mmap(
        NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0
    )
    if data == MAP_FAILED:
        free(block)
        return NULL
    madvise(data, size, MADV_DONTFORK)  # a child that compiles a filter must not copy packets
    block.data = <uint8_t *> data
    return block

cdef Block **link_after(Pool *pool, size_t keep, bint offered) noexcept nogil:
    """Return where the pool has the next warm block after `keep` others.

    Blocks that were offered count only with `offered`.
    """
    cdef Block **link = &pool.free
    while link[0] != NULL and (keep > 0 or (link[0].offered and not offered)):
        keep -= keep > 0
        link = &link[0].next
    return link

cdef bint unmap_one(Pool *pool, size_t keep) noexcept nogil:
    cdef Block **link = link_after(pool, keep, True)
    cdef Block *block = link[0]
    if block == NULL:
        return False
    link[0] = block.next
    pool.warm -= 1
    pool.blocks -= 1
    munmap(block.data, pool.block_size)
    free(block)
    return True

cdef bint offer_one(Pool *pool, size_t keep) noexcept nogil:
    cdef Block *block = link_after(pool, keep, False)[0]
    if block == NULL:
        return False
    madvise(block.data, pool.block_size, MADV_FREE)
    block.offered = True
    return True

cdef void unmap_warm(Pool *pool) noexcept nogil:
    while unmap_one(pool, 0):
        pass

cdef Block *take_block(Pool *pool) noexcept nogil:
    """Return a warm block or a new one; NULL if the budget is used up or mmap(2) fails."""
    cdef Block *block = NULL
    cdef bint fresh = False
    pthread_mutex_lock(&pool.lock)
    if pool.free != NULL:
        block = pool.free
        pool.free = block.next
        pool.warm -= 1
    elif (pool.blocks + 1) * pool.block_size + pool.reserved <= pool.limit:
        pool.blocks += 1
        fresh = True
    pthread_mutex_unlock(&pool.lock)
    if fresh:
        block = new_block(pool.block_size)
        if block == NULL:
            pthread_mutex_lock(&pool.lock)
            pool.blocks -= 1
            pthread_mutex_unlock(&pool.lock)
    if block != NULL:
        clear_block(block)
    return block

cdef void give_blocks(Pool *pool, Block *first) noexcept nogil:
    cdef Block *block = first if pool.wipe else NULL
    while block != NULL:
        memset(block.data, 0, pool.block_size)
        block = block.next
    pthread_mutex_lock(&pool.lock)
    while first != NULL:
        block = first
        first = block.next
        block.next = pool.free
        pool.free = block
        pool.warm += 1
    # The limit was lowered meanwhile.
    if pool.blocks * pool.block_size + pool.reserved > pool.limit:
        unmap_warm(pool)
    pthread_mutex_unlock(&pool.lock)


cdef class BlockPool:
    """Blocks of one size under one budget. Every method may be called from any thread.

    `limit` and `block_size` are bytes. Returned blocks stay warm (mapped and touched) until `trim`.
    """

    def __cinit__(self, size_t limit, size_t block_size):
        if block_size < MIN_BLOCK:
            raise ValueError(f"block_size must be at least {MIN_BLOCK} bytes, not {block_size}")
        pthread_mutex_init(&self.pool.lock, NULL)
        self.pool.limit = limit
        self.pool.block_size = block_size

    def __dealloc__(self):
        unmap_warm(&self.pool)
        pthread_mutex_destroy(&self.pool.lock)

    def reserve(self, size_t size):
        """Count `size` bytes against the budget, and return whether they fit.

        Counts nothing if they do not fit.
        """
        cdef bint fits
        cdef size_t in_use
        pthread_mutex_lock(&self.pool.lock)
        in_use = (self.pool.blocks - self.pool.warm) * self.pool.block_size
        fits = in_use + self.pool.reserved + size <= self.pool.limit
        if fits:
            self.pool.reserved += size
            if self.pool.blocks * self.pool.block_size + self.pool.reserved > self.pool.limit:
                unmap_warm(&self.pool)
        pthread_mutex_unlock(&self.pool.lock)
        return fits

    def unreserve(self, size_t size):
        """Stop counting `size` bytes that `reserve` counted."""
        pthread_mutex_lock(&self.pool.lock)
        self.pool.reserved -= size
        pthread_mutex_unlock(&self.pool.lock)

    def offer(self, size_t keep):
        """Let the system take the memory of warm blocks if it needs it, but for `keep` of them.

        What it does not take costs the next capture nothing (MADV_FREE, madvise(2)).
        """
        self._each(offer_one, keep)

    def trim(self, size_t keep):
        """Return the warm blocks to the system, but for `keep` of them."""
        self._each(unmap_one, keep)

    cdef void _each(self, bint (*step)(Pool *, size_t) noexcept nogil, size_t keep) noexcept:
        # One block at a time, because a recorder that needs one must not wait for hundreds.
        cdef bint more = True
        with nogil:
            while more:
                pthread_mutex_lock(&self.pool.lock)
                more = step(&self.pool, keep)
                pthread_mutex_unlock(&self.pool.lock)

    @property
    def limit(self):
        """The budget in bytes. A lower one takes effect as blocks are returned."""
        cdef size_t limit
        pthread_mutex_lock(&self.pool.lock)
        limit = self.pool.limit
        pthread_mutex_unlock(&self.pool.lock)
        return limit

    @limit.setter
    def limit(self, size_t limit):
        pthread_mutex_lock(&self.pool.lock)
        self.pool.limit = limit
        pthread_mutex_unlock(&self.pool.lock)

    @property
    def wipe(self):
        """Whether blocks are overwritten when they are returned."""
        return self.pool.wipe

    @wipe.setter
    def wipe(self, bint wipe):
        self.pool.wipe = wipe

    @property
    def used(self):
        """Bytes of the blocks in use and of the reservations."""
        cdef size_t used
        pthread_mutex_lock(&self.pool.lock)
        used = (self.pool.blocks - self.pool.warm) * self.pool.block_size + self.pool.reserved
        pthread_mutex_unlock(&self.pool.lock)
        return used

    @property
    def warm(self):
        """Bytes in warm blocks, which nobody uses."""
        cdef size_t warm
        pthread_mutex_lock(&self.pool.lock)
        warm = self.pool.warm * self.pool.block_size
        pthread_mutex_unlock(&self.pool.lock)
        return warm


# The garbage collector must not clear `pool` before __dealloc__ needs it. None of these objects can
# be part of a cycle by itself.
@cython.no_gc
cdef class _View:
    # One block as a read-only buffer. A memoryview on it keeps all blocks of `owner` alive.
    cdef Blocks owner
    cdef Block *block

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef uint8_t *data = self.block.data + self.block.start
        cdef Py_ssize_t size = <Py_ssize_t> (self.block.used - self.block.start)
        PyBuffer_FillInfo(buffer, self, data, size, 1, flags)


@cython.no_gc
cdef class _Views:
    # Yields a memoryview on each block that is not empty, created on demand.
    cdef Blocks owner
    cdef Block *block

    def __iter__(self):
        return self

    def __next__(self):
        cdef _View view
        while self.block != NULL and self.block.used == self.block.start:
            self.block = self.block.next
        if self.block == NULL:
            raise StopIteration
        view = _View.__new__(_View)
        view.owner, view.block = self.owner, self.block
        self.block = self.block.next
        return memoryview(view)


cdef Blocks blocks_of(BlockPool pool, BlockList *list):
    """Move the blocks of a list into one object. The list is empty afterwards."""
    cdef Blocks blocks = Blocks.__new__(Blocks)
    blocks.pool, blocks.list = pool, list[0]
    list.first = list.last = NULL
    return blocks


@cython.no_gc
cdef class Blocks:
    """Filled blocks of one pool, in order.

    They return to the pool when the last reference is gone.
    """

    def __dealloc__(self):
        if self.list.first != NULL:
            give_all(&self.pool.pool, &self.list)

    def __len__(self):
        cdef Block *block = self.list.first
        number = 0
        while block != NULL:
            number += 1
            block = block.next
        return number

    @property
    def size(self):
        """Bytes in all blocks."""
        cdef Block *block = self.list.first
        cdef size_t size = 0
        while block != NULL:
            size += block.used - block.start
            block = block.next
        return size

    def views(self):
        """Yield a read-only memoryview per block, without copying. Each keeps the blocks alive."""
        cdef _Views views = _Views.__new__(_Views)
        views.owner, views.block = self, self.list.first
        return views

    def pop(self):
        """Remove the first block and return it as `Blocks` of its own; None if there is none."""
        cdef BlockList one
        one.first = one.last = pop_block(&self.list)
        return None if one.first == NULL else blocks_of(self.pool, &one)

    def extend(self, Blocks other):
        """Append the blocks of `other`, which is empty afterwards."""
        cdef Block *block = pop_block(&other.list)
        self.pool = other.pool
        while block != NULL:
            append_block(&self.list, block)
            block = pop_block(&other.list)


@cython.no_gc
cdef class BlockWriter:
    """Writes bytes into blocks.

    It uses `spares` blocks that it takes from the pool at once, then adopted blocks, then new ones.

    Raises MemoryError if the pool has no block left.
    """

    cdef BlockPool pool
    cdef BlockList written
    cdef BlockList spare

    def __cinit__(self, BlockPool pool, int spares):
        cdef Block *block
        self.pool = pool
        for _ in range(spares):
            block = take_block(&pool.pool)
            if block == NULL:
                raise MemoryError("all memory for captures is in use ([general] memory)")
            append_block(&self.spare, block)

    def __dealloc__(self):
        give_all(&self.pool.pool, &self.written)
        give_all(&self.pool.pool, &self.spare)

    def adopt(self, Blocks piece):
        """Reuse the blocks of `piece`, from the same pool. No view on them may be in use."""
        cdef Block *block = pop_block(&piece.list)
        while block != NULL:
            clear_block(block)
            append_block(&self.spare, block)
            block = pop_block(&piece.list)

    def write(self, const uint8_t[::1] data):
        """Append the bytes. Raises MemoryError if the pool has no block left."""
        cdef size_t at = 0, size = data.shape[0], part
        while at < size:
            if self.written.last == NULL or self.written.last.used == self.pool.pool.block_size:
                self._next()
            part = min(size - at, self.pool.pool.block_size - self.written.last.used)
            memcpy(self.written.last.data + self.written.last.used, &data[at], part)
            self.written.last.used += part
            at += part

    def blocks(self):
        """Return the written blocks. Call it once."""
        return blocks_of(self.pool, &self.written)

    cdef int _next(self) except -1:
        cdef Block *block = pop_block(&self.spare)
        if block == NULL:
            block = take_block(&self.pool.pool)
        if block == NULL:
            raise MemoryError("all memory for captures is in use ([general] memory)")
        append_block(&self.written, block)
        return 0
