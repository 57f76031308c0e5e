# cython: language_level=3
"""The limits of one capture, which may grow while it runs, and the reasons why captures end."""

from libc.stdint cimport int64_t, uint64_t

from pcapdaemon.native.atomic cimport load, load_time, store, store_time
from pcapdaemon.native.clock cimport SECOND

cdef enum Reason:                    # in the order of STOP_REASONS in limits.pyx
    RUNNING = 0
    PACKETS, BYTES, DURATION, IDLE, STOPPED, MEMORY, INTERFACE_DOWN, FAILED, END_OF_FILE

# Any thread may raise them. The capture's thread reads them in every turn of its loop.
cdef struct Limits:
    uint64_t packets
    uint64_t size
    int64_t duration_ns
    int64_t idle_ns

cdef inline void extend_limits(Limits *limits, uint64_t packets, uint64_t size, double duration,
                               double idle_timeout) noexcept nogil:
    """Raise the limits to at least these. Durations are seconds."""
    cdef int64_t duration_ns = <int64_t> (duration * SECOND)
    cdef int64_t idle_ns = <int64_t> (idle_timeout * SECOND)
    store(&limits.packets, max(load(&limits.packets), packets))
    store(&limits.size, max(load(&limits.size), size))
    store_time(&limits.duration_ns, max(load_time(&limits.duration_ns), duration_ns))
    store_time(&limits.idle_ns, max(load_time(&limits.idle_ns), idle_ns))
