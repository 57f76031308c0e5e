# cython: language_level=3
"""The state of one capture that reads from a recording."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from pcapdaemon.native.filter cimport Filter
from pcapdaemon.native.limits cimport Limits
from pcapdaemon.native.records cimport Output
from pcapdaemon.native.ring cimport Ring, RingBlock
from pcapdaemon.native.stream cimport Stream

# The capture's thread writes every field that does not say otherwise. Any thread may `load` the
# fields marked *.
cdef struct Reader:
    Ring *ring
    RingBlock *block
    size_t at
    uint64_t number                  # of the next packet
    # `ring.run` when the capture entered. Another number means that the interface went away
    # meanwhile.
    uint64_t run
    uint64_t skipped                 # * recorded packets that were gone before they could be read
    uint64_t matched                 # *
    uint64_t evicted                 # * recorded packets that had no room
    int64_t seen_ns                  # monotonic: time of the last packet
    int64_t read_at                  # monotonic: what is read now was recorded before
    int64_t since
    int64_t trigger
    int64_t hold_ns                  # how long the kernel may hold a packet
    Filter filter
    Filter required                  # what the policy of the requester allows
    uint32_t snaplen
    Output past                      # * packets from before the trigger
    Output live                      # *
    Limits limits                    # of the live part; written by any thread
    # Most bytes from before the trigger, so that other captures have memory too.
    uint64_t most_past
    uint64_t most_packets            # of the whole file
    uint64_t most_size
    # monotonic: when the last matching packet arrived, or the trigger
    int64_t last_at
    int64_t stop_at                  # written by any thread, before `stopped`
    int stopped                      # any thread
    int stop_seen
    int never
    # Records are written there as they come, also those from before the trigger.
    Stream stream
    bint is_live
    int reason                       # * a Reason; the capture is over unless it is RUNNING

cdef void catch_up(Reader *reader) noexcept nogil
cdef void follow(Reader *reader) noexcept nogil
