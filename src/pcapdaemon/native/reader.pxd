# cython: language_level=3
"""The state of one capture that reads from a recording."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from pcapdaemon.native.filter cimport Filter
from pcapdaemon.native.limits cimport Limits
from pcapdaemon.native.records cimport Output
from pcapdaemon.native.ring cimport Ring, RingBlock

# the capture's thread writes all but what says otherwise; * any may load
cdef struct Reader:
    Ring *ring
    RingBlock *block
    size_t at
    uint64_t number                  # of the next packet
    # of the interface: another one means that it went away meanwhile
    uint64_t run
    uint64_t skipped                 # * recorded packets that were gone before they could be read
    uint64_t matched                 # *
    uint64_t evicted                 # * recorded packets for which there was no room
    int64_t seen_ns                  # monotonic: the last packet's
    int64_t since
    int64_t trigger
    int64_t hold_ns                  # how long a packet may be under way in the kernel
    Filter filter
    uint32_t snaplen
    Output past                      # * from before the trigger
    Output live                      # *
    Limits limits                    # of the live part; written by any thread
    # bytes of what came before the trigger, so that others have memory too
    uint64_t most_past
    uint64_t most_packets            # of the whole file
    uint64_t most_size
    int64_t last_at                  # monotonic: the last packet that matched, or the trigger
    int64_t stop_at                  # any thread, before `stopped`
    int stopped                      # any thread
    int stop_seen
    int never
    bint is_live
    int reason                       # * a Reason; not RUNNING: it is over

cdef void catch_up(Reader *reader) noexcept nogil
cdef void follow(Reader *reader) noexcept nogil
