# cython: language_level=3
"""The recorder's ring of blocks: one thread fills it, and any number of captures read it."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pcapdaemon.native.counters cimport Counters
from pcapdaemon.native.posix cimport pthread_cond_t, pthread_mutex_t

cdef struct PacketHeader:            # precedes each packet's bytes; aligned to 8 bytes
    int64_t ns                       # since the epoch
    uint32_t captured
    uint32_t length

cdef struct RingBlock:
    RingBlock *next                  # lock
    uint8_t *data                    # constant
    size_t used                      # recorder: `store_size` as it grows, readers `load_size`
    # recorder, before readers know the block: number of its first packet
    uint64_t first
    uint64_t dropped                 # the same: packets that were lost before it
    int64_t begun                    # the same: monotonic
    int64_t offset                   # the same: of the wall clock to the monotonic clock
    int64_t until                    # recorder: monotonic, when the block was full; NEVER before
    int readers                      # lock
    bint detached                    # lock: dropped from the ring while somebody reads it

# "recorder": that thread stores, any thread may load. "lock": under the lock.
cdef struct Ring:
    pthread_mutex_t lock
    # there may be more to read, or the interface was opened or closed
    pthread_cond_t news
    uint8_t *memory                  # constant, like the next three
    RingBlock *blocks
    size_t count
    size_t block_size
    RingBlock *oldest                # lock; only the recorder changes it, and reads it unlocked
    RingBlock *newest                # the same
    RingBlock *free                  # lock
    int64_t dropped_until            # lock: monotonic, packets up to then were dropped
    # recorder: monotonic, when no packet was waiting to be recorded
    int64_t quiet_at
    # readers: monotonic, one of them needs counters that are not older than this
    int64_t wanted_at
    # recorder: monotonic, when the counters below were updated
    int64_t looked_at
    int followers                    # readers: their number
    # recorder: counts each opening and closing of the interface; odd while it is open
    uint64_t run
    uint64_t packets                 # recorder
    # recorder: packets lost because readers held all blocks, or because they were too large
    uint64_t missed
    Counters counters                # recorder
    int64_t cpu_ns                   # recorder: CPU time of its thread

cdef bint ring_init(Ring *ring, size_t count, size_t block_size) noexcept nogil
cdef void ring_free(Ring *ring) noexcept nogil
cdef RingBlock *ring_begin(Ring *ring, int64_t now, int64_t offset) noexcept nogil
cdef void ring_expire(Ring *ring, int64_t before) noexcept nogil
cdef void ring_notify(Ring *ring) noexcept nogil
cdef void ring_set_run(Ring *ring, bint open) noexcept nogil
cdef RingBlock *ring_enter(Ring *ring, int64_t since, int64_t *dropped_until) noexcept nogil
cdef size_t ring_size(Ring *ring, int64_t *dropped_until) noexcept nogil
cdef struct Step:                    # what was recorded in one step of time
    uint64_t packets
    uint64_t bytes                   # on the wire

cdef void ring_count(
    Ring *ring, int64_t since, int64_t begin, int64_t step, Step *steps, size_t number
) noexcept nogil
cdef RingBlock *ring_next(Ring *ring, RingBlock *block) noexcept nogil
cdef void ring_leave(Ring *ring, RingBlock *block) noexcept nogil
cdef void ring_wait(
    Ring *ring, RingBlock *block, size_t at, int64_t until, int *stopped
) noexcept nogil
