# cython: language_level=3
"""The state of one running packet loop, and what drives it."""

from libc.stdint cimport int64_t, uint64_t

from pcapdaemon.native.libpcap cimport pcap_stat, pcap_t
from pcapdaemon.native.records cimport Output

cdef enum Reason:
    RUNNING = 0
    PACKETS, BYTES, DURATION, IDLE, STOPPED, MEMORY, INTERFACE_DOWN, FAILED

cdef struct Loop:
    pcap_t *pcap
    Output output
    int64_t tick_ns                  # of the second part of a packet's time
    uint64_t max_packets
    uint64_t max_size
    int64_t duration_ns
    int64_t idle_ns
    bint ending                      # a limit of time was reached: what the kernel holds is taken, then it is over
    int64_t cutoff_ns                # while draining: packets later than this do not belong to the capture; 0: none
    bint idle_drain                  # a packet from before the cutoff proves that it was not idle after all
    bint past_cutoff
    Reason reason
    int wake_fd
    int buffer_timeout_ms
    int64_t last_at                  # monotonic: when the last packet came, or the loop began
    int64_t stats_at
    pcap_stat seen                   # what pcap_stats said last, for differences modulo 2**32
    uint64_t received
    uint64_t dropped
    uint64_t dropped_by_interface

cdef void run_loop(Loop *loop) noexcept nogil
