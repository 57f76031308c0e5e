# cython: language_level=3
"""Memory for packets: blocks of one size under one budget, taken and given back without the GIL, used again warm."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_POPULATE
    void *MAP_FAILED

cdef extern from "<pthread.h>" nogil:
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)

# A block holds whole records only: libpcap's MAXIMUM_SNAPLEN (pcap-int.h), a VLAN tag put back in, what a record adds.
MIN_BLOCK = 262144 + 4 + 64


cdef Block *new_block(size_t size) noexcept nogil:
    # Populated in one go: a page fault per 4 KiB inside the packet loop costs more than all the rest of it.
    cdef Block *block = <Block *> calloc(1, sizeof(Block))
    cdef void *data
    if block == NULL:
        return NULL
    data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)
    if data == MAP_FAILED:
        free(block)
        return NULL
    block.data = <uint8_t *> data
    return block

cdef void unmap_warm(Pool *pool, size_t keep) noexcept nogil:
    cdef Block *block
    while pool.warm > keep:
        block = pool.free
        pool.free = block.next
        pool.warm -= 1
        pool.blocks -= 1
        munmap(block.data, pool.block_size)
        free(block)

cdef Block *take_block(Pool *pool) noexcept nogil:
    """A warm block, else a new one, else NULL: the budget is spent."""
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
        block.next = NULL
        block.start = block.used = block.packets = 0
    return block

cdef void give_blocks(Pool *pool, Block *first) noexcept nogil:
    cdef Block *block
    pthread_mutex_lock(&pool.lock)
    while first != NULL:
        block = first
        first = block.next
        block.next = pool.free
        pool.free = block
        pool.warm += 1
    if pool.blocks * pool.block_size + pool.reserved > pool.limit:  # the limit was lowered meanwhile
        unmap_warm(pool, 0)
    pthread_mutex_unlock(&pool.lock)


cdef class BlockPool:
    """Blocks of one size under one budget; every method may be called from any thread.

    `limit` and `block_size` are bytes. Blocks given back stay warm (mapped and touched) until `trim`.
    """

    def __cinit__(self, size_t limit, size_t block_size):
        if block_size < MIN_BLOCK:
            raise ValueError(f"a block must hold a record of {MIN_BLOCK} bytes")
        pthread_mutex_init(&self.pool.lock, NULL)
        self.pool.limit = limit
        self.pool.block_size = block_size

    def __dealloc__(self):
        unmap_warm(&self.pool, 0)
        pthread_mutex_destroy(&self.pool.lock)

    def reserve(self, size_t size):
        """Count `size` bytes against the budget; false, and nothing counted, where they do not fit."""
        cdef bint fits
        cdef size_t in_use
        pthread_mutex_lock(&self.pool.lock)
        in_use = (self.pool.blocks - self.pool.warm) * self.pool.block_size
        fits = in_use + self.pool.reserved + size <= self.pool.limit
        if fits:
            self.pool.reserved += size
            if self.pool.blocks * self.pool.block_size + self.pool.reserved > self.pool.limit:
                unmap_warm(&self.pool, 0)
        pthread_mutex_unlock(&self.pool.lock)
        return fits

    def unreserve(self, size_t size):
        """Give back what `reserve` counted."""
        pthread_mutex_lock(&self.pool.lock)
        self.pool.reserved -= size
        pthread_mutex_unlock(&self.pool.lock)

    def trim(self):
        """Give the warm blocks back to the system."""
        pthread_mutex_lock(&self.pool.lock)
        unmap_warm(&self.pool, 0)
        pthread_mutex_unlock(&self.pool.lock)

    @property
    def limit(self):
        """The budget in bytes; lowering it takes effect as blocks come back."""
        return self.pool.limit

    @limit.setter
    def limit(self, size_t limit):
        pthread_mutex_lock(&self.pool.lock)
        self.pool.limit = limit
        pthread_mutex_unlock(&self.pool.lock)

    @property
    def used(self):
        """Bytes in use: blocks given out, and what is reserved."""
        return (self.pool.blocks - self.pool.warm) * self.pool.block_size + self.pool.reserved

    @property
    def warm(self):
        """Bytes in warm blocks that nobody uses."""
        return self.pool.warm * self.pool.block_size


@cython.no_gc
cdef class _View:
    # One block as a read-only buffer; the blocks live as long as any memoryview on them.
    cdef Blocks owner
    cdef Block *block

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(
            buffer, self, self.block.data + self.block.start, <Py_ssize_t> (self.block.used - self.block.start), 1, flags
        )


# The collector must not take `pool` away before __dealloc__ needs it; neither class can be part of a cycle by itself.
@cython.no_gc
cdef class Blocks:
    """Filled blocks of one pool, in order; they go back to the pool when the last reference is gone."""

    def __dealloc__(self):
        if self.first != NULL:
            give_blocks(&self.pool.pool, self.first)

    def views(self):
        """A list with one read-only memoryview per block, without a copy; each keeps the blocks alive."""
        cdef Block *block = self.first
        cdef _View view
        views = []
        while block != NULL:
            if block.used > block.start:
                view = _View.__new__(_View)
                view.owner = self
                view.block = block
                views.append(memoryview(view))
            block = block.next
        return views

    def pieces(self):
        """The same blocks one by one, each of which goes back on its own; this one has none then."""
        cdef Blocks piece
        found = []
        while self.first != NULL:
            piece = Blocks.__new__(Blocks)
            piece.pool, piece.first = self.pool, self.first
            self.first = self.first.next
            piece.first.next = NULL
            found.append(piece)
        return found


@cython.no_gc
cdef class BlockWriter:
    """Bytes written into blocks: into `spares` that are taken from the pool at once, those that are adopted, and new ones.

    Raises MemoryError where the pool has none.
    """

    cdef BlockPool pool
    cdef Block *first
    cdef Block *last
    cdef Block *spare

    def __cinit__(self, BlockPool pool, int spares):
        cdef Block *block
        self.pool = pool
        for _ in range(spares):
            block = take_block(&pool.pool)
            if block == NULL:
                raise MemoryError("the memory budget is spent")
            self._put_by(block)

    def __dealloc__(self):
        if self.first != NULL:
            give_blocks(&self.pool.pool, self.first)
        if self.spare != NULL:
            give_blocks(&self.pool.pool, self.spare)

    cdef void _put_by(self, Block *block):
        block.start = block.used = block.packets = 0
        block.next = self.spare
        self.spare = block

    def adopt(self, Blocks piece):
        """Use a block of the same pool, which nobody looks at any more."""
        cdef Block *block = piece.first
        piece.first = NULL
        if block != NULL:
            self._put_by(block)

    def write(self, const uint8_t[::1] data):
        """Append."""
        cdef size_t at = 0, size = data.shape[0], part
        while at < size:
            if self.last == NULL or self.last.used == self.pool.pool.block_size:
                self._next()
            part = min(size - at, self.pool.pool.block_size - self.last.used)
            memcpy(self.last.data + self.last.used, &data[at], part)
            self.last.used += part
            at += part

    def blocks(self):
        """What was written, once."""
        cdef Blocks blocks = Blocks.__new__(Blocks)
        blocks.pool, blocks.first = self.pool, self.first
        self.first = self.last = NULL
        return blocks

    cdef int _next(self) except -1:
        cdef Block *block = self.spare
        if block != NULL:
            self.spare = block.next
            block.next = NULL
        else:
            block = take_block(&self.pool.pool)
        if block == NULL:
            raise MemoryError("the memory budget is spent")
        if self.last == NULL:
            self.first = block
        else:
            self.last.next = block
        self.last = block
        return 0
