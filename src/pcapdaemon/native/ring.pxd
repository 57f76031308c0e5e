# cython: language_level=3
"""The recorder's circle of blocks: one thread fills it, any number of captures read on in it."""

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
    uint64_t dropped                 # the same: what was lost before it
    int64_t begun                    # the same: monotonic
    int64_t offset                   # the same: of the clock on the wall to the monotonic one
    int64_t until                    # recorder: monotonic, when the block was full; NEVER before
    int readers                      # lock
    bint detached                    # lock: dropped by the circle while somebody reads it

# "recorder": that thread stores, any may load; "lock": under the lock
cdef struct Ring:
    pthread_mutex_t lock
    pthread_cond_t news              # there may be more to read, or nothing more is to come
    uint8_t *memory                  # constant, and the next three
    RingBlock *blocks
    size_t count
    size_t block_size
    RingBlock *oldest                # lock; the recorder alone changes it, and reads it without
    RingBlock *newest                # the same
    RingBlock *free                  # lock
    int64_t dropped_until            # lock: monotonic, packets up to then were dropped
    # recorder: monotonic, when nothing more was waiting to be recorded
    int64_t quiet_at
    int64_t turned_at                # recorder: monotonic, when it last looked for packets
    # readers: monotonic, one wants counters that are not older than this
    int64_t wanted_at
    # recorder: monotonic, when the counters below were brought up to date
    int64_t looked_at
    int followers                    # readers: how many there are
    # recorder: number of the time that the interface was opened; even: it is not open
    uint64_t run
    uint64_t packets                 # recorder
    # recorder: packets for which there was no block that nobody reads
    uint64_t missed
    Counters counters                # recorder
    int64_t cpu_ns                   # recorder: of its thread

cdef bint ring_init(Ring *ring, size_t count, size_t block_size) noexcept nogil
cdef void ring_free(Ring *ring) noexcept nogil
cdef RingBlock *ring_begin(Ring *ring, int64_t now, int64_t offset) noexcept nogil
cdef void ring_expire(Ring *ring, int64_t before) noexcept nogil
cdef void ring_tell(Ring *ring) noexcept nogil
cdef void ring_set_run(Ring *ring, bint open) noexcept nogil
cdef RingBlock *ring_enter(Ring *ring, int64_t since, int64_t *dropped_until) noexcept nogil
cdef size_t ring_size(Ring *ring, int64_t *dropped_until) noexcept nogil
cdef RingBlock *ring_next(Ring *ring, RingBlock *block) noexcept nogil
cdef void ring_leave(Ring *ring, RingBlock *block) noexcept nogil
cdef void ring_wait(
    Ring *ring, RingBlock *block, size_t at, int64_t until, int *stopped
) noexcept nogil
