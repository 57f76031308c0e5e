# cython: language_level=3
"""The kernel's counters since a capture began: pcap_stats(3pcap), widened to 64 bits."""

from libc.stdint cimport uint64_t

from pcapdaemon.native.atomic cimport load, store
from pcapdaemon.native.libpcap cimport pcap_stat, pcap_stats, pcap_t

cdef struct Counters:                # written by the thread that reads packets, read by any thread
    # The last result of pcap_stats, for differences modulo 2**32. Only the writing thread uses it.
    pcap_stat seen
    uint64_t received
    uint64_t dropped
    uint64_t dropped_by_interface

cdef inline uint64_t difference(unsigned int now, unsigned int before) noexcept nogil:
    # The kernel's counters wrap. A small step back means that a counter vanished with its
    # interface.
    cdef int grown = <int> (now - before)
    return 0 if grown < 0 else <uint64_t> grown

cdef inline void grow(uint64_t *total, unsigned int now, unsigned int before) noexcept nogil:
    store(total, load(total) + difference(now, before))

cdef inline void begin_counting(Counters *counters, pcap_t *pcap) noexcept nogil:
    """Exclude what the kernel counted before now."""
    pcap_stats(pcap, &counters.seen)

cdef inline void exclude_interface(Counters *counters, pcap_t *pcap) noexcept nogil:
    """Exclude what the interface dropped before now."""
    cdef pcap_stat now
    if pcap_stats(pcap, &now) == 0:
        counters.seen.ps_ifdrop = now.ps_ifdrop

cdef inline void sample(Counters *counters, pcap_t *pcap) noexcept nogil:
    """Add what the kernel counted since the last sample."""
    cdef pcap_stat now
    if pcap_stats(pcap, &now) == 0:
        grow(&counters.received, now.ps_recv, counters.seen.ps_recv)
        grow(&counters.dropped, now.ps_drop, counters.seen.ps_drop)
        grow(&counters.dropped_by_interface, now.ps_ifdrop, counters.seen.ps_ifdrop)
        counters.seen = now
