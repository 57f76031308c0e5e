# cython: language_level=3
"""The recorder's ring of blocks.

A reader holds the block that it reads, and the recorder never waits for a reader. If a reader holds
the oldest block when the ring needs one, that block is detached: it lives until its reader leaves
it, and the ring takes the next oldest block instead. The reader continues with the oldest block
that is left. The numbers of packets show how many it missed.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from pcapdaemon.native.atomic cimport (
    add_int, load_int, load_size, store, store_size, store_time,
)
from pcapdaemon.native.clock cimport NEVER, SECOND
from pcapdaemon.native.posix cimport *

cdef bint ring_init(Ring *ring, size_t count, size_t block_size) noexcept nogil:
    """Map and touch all memory at once; False if there is not enough."""
    cdef pthread_condattr_t attributes
    cdef void *memory
    cdef size_t n
    memset(ring, 0, sizeof(Ring))
    ring.blocks = <RingBlock *> calloc(count, sizeof(RingBlock))
    if ring.blocks == NULL:
        return False
    memory = mmap(
        NULL,
        count * block_size,
        PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
        -1,
        0,
    )
    if memory == MAP_FAILED:
        free(ring.blocks)
        ring.blocks = NULL
        return False
    madvise(memory, count * block_size, MADV_DONTFORK)
    ring.memory, ring.count, ring.block_size = <uint8_t *> memory, count, block_size
    for n in range(count):
        ring.blocks[n].data = ring.memory + n * block_size
        ring.blocks[n].next = ring.free
        ring.free = &ring.blocks[n]
    pthread_mutex_init(&ring.lock, NULL)
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(&ring.news, &attributes)
    pthread_condattr_destroy(&attributes)
    return True

cdef void ring_free(Ring *ring) noexcept nogil:
    if ring.blocks == NULL:
        return
    munmap(ring.memory, ring.count * ring.block_size)
    free(ring.blocks)
    pthread_mutex_destroy(&ring.lock)
    pthread_cond_destroy(&ring.news)
    ring.blocks = NULL

cdef void drop_oldest(Ring *ring) noexcept nogil:
    cdef RingBlock *block = ring.oldest
    ring.oldest = block.next
    ring.dropped_until = max(ring.dropped_until, block.until)
    if block.readers:
        block.detached = True
    else:
        block.next = ring.free
        ring.free = block

cdef RingBlock *ring_begin(Ring *ring, int64_t now, int64_t offset) noexcept nogil:
    """End the newest block and begin another.

    Returns NULL, and leaves the newest block open, if readers hold all blocks.
    """
    cdef RingBlock *block
    pthread_mutex_lock(&ring.lock)
    while ring.free == NULL and ring.oldest != NULL and ring.oldest != ring.newest:
        drop_oldest(ring)
    block = ring.free
    if block != NULL:
        ring.free = block.next
        block.next = NULL
        store_size(&block.used, 0)
        block.first = ring.packets
        block.dropped = ring.counters.dropped + ring.missed
        block.begun, block.offset = now, offset
        store_time(&block.until, NEVER)
        block.readers, block.detached = 0, False
        if ring.newest == NULL:
            ring.oldest = block
        else:
            store_time(&ring.newest.until, now)
            ring.newest.next = block
        ring.newest = block
    pthread_mutex_unlock(&ring.lock)
    return block

cdef void ring_expire(Ring *ring, int64_t before) noexcept nogil:
    """Drop blocks that are older than `before` (monotonic)."""
    if ring.oldest == ring.newest or ring.oldest.until >= before:
        return
    pthread_mutex_lock(&ring.lock)
    while ring.oldest != ring.newest and ring.oldest.until < before:
        drop_oldest(ring)
    pthread_mutex_unlock(&ring.lock)

cdef void ring_notify(Ring *ring) noexcept nogil:
    """Wake all readers."""
    pthread_mutex_lock(&ring.lock)
    pthread_cond_broadcast(&ring.news)
    pthread_mutex_unlock(&ring.lock)

cdef void ring_set_run(Ring *ring, bint open) noexcept nogil:
    """Store that the interface was opened or closed, and wake all readers."""
    pthread_mutex_lock(&ring.lock)
    if (ring.run & 1) != open:
        store(&ring.run, ring.run + 1)
    pthread_cond_broadcast(&ring.news)
    pthread_mutex_unlock(&ring.lock)

cdef RingBlock *ring_enter(Ring *ring, int64_t since, int64_t *dropped_until) noexcept nogil:
    """Hold the block with the first packet from `since` (monotonic) on.

    Returns NULL if nothing was ever recorded.
    """
    cdef RingBlock *block
    pthread_mutex_lock(&ring.lock)
    block = ring.oldest
    while block != NULL and block != ring.newest and block.until < since:
        block = block.next
    if block != NULL:
        block.readers += 1
    add_int(&ring.followers, 1)
    dropped_until[0] = ring.dropped_until
    pthread_mutex_unlock(&ring.lock)
    return block

cdef size_t ring_size(Ring *ring, int64_t *dropped_until) noexcept nogil:
    """Return the bytes that are kept."""
    cdef size_t size = 0
    cdef RingBlock *block
    pthread_mutex_lock(&ring.lock)
    block = ring.oldest
    while block != NULL:
        size += load_size(&block.used)
        block = block.next
    dropped_until[0] = ring.dropped_until
    pthread_mutex_unlock(&ring.lock)
    return size

cdef void let_go(Ring *ring, RingBlock *block) noexcept nogil:
    block.readers -= 1
    if block.detached and block.readers == 0:
        block.next = ring.free
        ring.free = block

cdef RingBlock *ring_next(Ring *ring, RingBlock *block) noexcept nogil:
    """Release this block and hold the one after it; if there is none yet, keep this one."""
    cdef RingBlock *following
    pthread_mutex_lock(&ring.lock)
    following = ring.oldest if block == NULL or block.detached else block.next
    if following != NULL:
        following.readers += 1
        if block != NULL:
            let_go(ring, block)
    else:
        following = block
    pthread_mutex_unlock(&ring.lock)
    return following

cdef void ring_leave(Ring *ring, RingBlock *block) noexcept nogil:
    """Stop reading."""
    pthread_mutex_lock(&ring.lock)
    if block != NULL:
        let_go(ring, block)
    add_int(&ring.followers, -1)
    pthread_mutex_unlock(&ring.lock)

cdef bint is_all_read(Ring *ring, RingBlock *block, size_t at) noexcept nogil:
    return block == NULL or (block == ring.newest and load_size(&block.used) == at)

cdef void ring_wait(
    Ring *ring, RingBlock *block, size_t at, int64_t until, int *stopped
) noexcept nogil:
    """Wait for news until `until` (monotonic).

    Returns at once if there is more to read, or if the reader was stopped.
    """
    cdef timespec deadline
    deadline.tv_sec, deadline.tv_nsec = until // SECOND, until % SECOND
    pthread_mutex_lock(&ring.lock)
    if not load_int(stopped) and is_all_read(ring, block, at):
        pthread_cond_timedwait(&ring.news, &ring.lock, &deadline)
    pthread_mutex_unlock(&ring.lock)

cdef void ring_count(
    Ring *ring, int64_t since, int64_t begin, int64_t step, Step *steps, size_t number
) noexcept nogil:
    """Count the packets from `since` (monotonic) on in steps of equal length.

    The first step begins at `begin`, in nanoseconds since the epoch.
    """
    cdef int64_t dropped_until
    cdef RingBlock *block = ring_enter(ring, since, &dropped_until)
    cdef RingBlock *following = NULL
    while block != NULL and block != following:
        count_block(block, begin, step, steps, number)
        following = block
        block = ring_next(ring, block)
    ring_leave(ring, block)

cdef void count_block(
    RingBlock *block, int64_t begin, int64_t step, Step *steps, size_t number
) noexcept nogil:
    cdef PacketHeader *packet
    cdef size_t at = 0
    cdef size_t used = load_size(&block.used)
    cdef int64_t which
    while at < used:
        packet = <PacketHeader *> (block.data + at)
        at += (sizeof(PacketHeader) + packet.captured + 7) & ~<size_t> 7
        which = (packet.ns - begin) // step
        if packet.ns >= begin and which < <int64_t> number:
            steps[which].packets += 1
            steps[which].bytes += packet.length
