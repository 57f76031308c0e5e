# cython: language_level=3
"""A recording: an open interface, and the ring of blocks that it fills."""

from libc.stdint cimport int64_t, uint32_t

from pcapdaemon.native.device cimport Device
from pcapdaemon.native.filter cimport Entrance
from pcapdaemon.native.handle cimport Handle
from pcapdaemon.native.libpcap cimport pcap_t
from pcapdaemon.native.ring cimport Ring

cdef enum End:
    GOING_ON = 0
    ENDED, WENT_AWAY, BROKE
    # The interface exists, and the recorder goes on when it is up again.
    LINK_DOWN, LINK_UP

# only the recording thread uses it, except `stopped` and the constant `wake_fd`
cdef struct Recorder:
    Ring *ring
    pcap_t *pcap
    Device *device
    Entrance entrance
    bint is_down
    int64_t tick_ns
    int64_t keep_ns
    uint32_t snaplen
    # As of the last look at the clocks: monotonic, and the offset of the wall clock to it.
    int64_t now
    int64_t offset
    int64_t notified_at
    bint unnotified                  # readers were not woken for all that is there
    int wake_fd
    int stopped                      # written by any thread
    End end

cdef class Recording:
    cdef Recorder recorder
    cdef Ring ring
    cdef Handle handle
    cdef readonly str interface
    cdef readonly str error
    cdef void nudge(self)
