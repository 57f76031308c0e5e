# cython: language_level=3
"""A recording: an open interface, and the circle of blocks that it fills."""

from libc.stdint cimport int64_t, uint64_t

from pcapdaemon.native.handle cimport Handle
from pcapdaemon.native.libpcap cimport pcap_t
from pcapdaemon.native.ring cimport Ring

cdef enum End:
    GOING_ON = 0
    ENDED, WENT_DOWN, BROKE

cdef struct Recorder:                # the recording thread's alone, but for `stopped`
    Ring *ring
    pcap_t *pcap
    int64_t tick_ns
    int64_t keep_ns
    # monotonic, and the wall clock's offset to it: as of the last look
    int64_t now
    int64_t offset
    int64_t told_at
    bint untold                      # readers do not know of all that is there
    int wake_fd
    int stopped                      # any thread
    End end

cdef class Recording:
    cdef Recorder recorder
    cdef Ring ring
    cdef Handle handle
    cdef readonly str interface
    cdef readonly str error
    cdef void nudge(self)
