# cython: language_level=3
"""The recorder's circle of blocks: one thread fills it, any number of captures read on in it."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pcapdaemon.native.blocks cimport pthread_mutex_t
from pcapdaemon.native.libpcap cimport timespec

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_cond_t:
        pass

cdef extern from *:
    """
    #define load_acquire(at) __atomic_load_n(at, __ATOMIC_ACQUIRE)
    #define store_release(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
    """
    size_t load_acquire(size_t *at) noexcept nogil
    int64_t load_time "load_acquire" (int64_t *at) noexcept nogil
    void store_release(size_t *at, size_t value) noexcept nogil

cdef struct PacketHeader:              # what stands before each packet's bytes; records are aligned to 8 bytes
    int64_t ns                       # since the epoch
    uint32_t captured
    uint32_t length

cdef struct RingBlock:
    RingBlock *next
    uint8_t *data
    size_t used                      # grows while readers look: by store_release, load_acquire
    uint64_t first                   # number of its first packet
    uint64_t packets                 # once it is full
    uint64_t dropped                 # what the kernel had dropped before it
    int64_t begun                    # monotonic: when it was begun, and (once it is full) ended
    int64_t until
    int64_t offset                   # of the clock on the wall to the monotonic one, while it was filled
    int readers
    bint detached                    # given up by the circle while somebody reads it

cdef struct Ring:
    pthread_mutex_t lock             # for all below but the counters, and for the links of blocks
    pthread_cond_t news              # there may be more to read, or nothing more is to come
    uint8_t *memory
    RingBlock *blocks
    size_t count
    size_t block_size
    RingBlock *oldest
    RingBlock *newest
    RingBlock *free
    int64_t dropped_until               # monotonic: packets up to then were given up
    int64_t quiet_at                 # monotonic: when nothing more was waiting to be recorded
    int64_t turned_at                # monotonic: when the recorder last looked for packets
    int64_t wanted_at                # monotonic: a reader wants counters that are not older than this
    int64_t looked_at                # monotonic: when the counters below were brought up to date
    int followers
    uint64_t run                     # number of the time that the interface was opened; even: it is not open
    uint64_t packets
    uint64_t received
    uint64_t dropped
    uint64_t dropped_by_interface
    uint64_t missed                  # packets for which there was no block that nobody reads
    int64_t cpu_ns                   # of the recording thread

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
cdef void ring_wait(Ring *ring, RingBlock *block, size_t at, int64_t until, int *stopped) noexcept nogil
