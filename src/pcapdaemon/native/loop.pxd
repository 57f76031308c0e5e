# cython: language_level=3
"""The state of one packet loop, and the function that runs it."""

from libc.stdint cimport int64_t, uint32_t

from pcapdaemon.native.counters cimport Counters
from pcapdaemon.native.device cimport Device
from pcapdaemon.native.filter cimport Entrance
from pcapdaemon.native.libpcap cimport pcap_t
from pcapdaemon.native.limits cimport Limits
from pcapdaemon.native.records cimport Output
from pcapdaemon.native.stream cimport Stream

cdef enum Phase:
    KEEPING = 0                      # matching packets are kept
    # A time limit was reached. Packets from before the cut-off are still kept.
    DRAINING
    # The idle timeout was reached. As DRAINING, but such a packet leads back to KEEPING.
    DOUBTING
    # A packet from after the cut-off was seen. Nothing more is kept.
    CUT

# The capture's thread writes everything except `limits`. Any thread may `load` the words marked *.
cdef struct Loop:
    pcap_t *pcap
    Device *device
    Entrance entrance
    Output output                    # *
    Limits limits                    # written by any thread
    Counters counters                # *
    int reason                       # * a Reason; the loop is over unless it is RUNNING
    int phase                        # * a Phase
    # Wall clock: packets later than this do not belong to the capture.
    int64_t cutoff_ns
    # Monotonic: when the last packet of all captures that share limits arrived, as known when
    # DOUBTING began.
    int64_t doubted_at
    uint32_t snaplen
    int64_t tick_ns                  # nanoseconds per unit of `tv_usec` in a packet's time
    int64_t last_at                  # monotonic: when the last packet arrived, or the loop began
    int64_t sampled_at
    int64_t down_at                  # monotonic: when the interface went down; 0: it is up
    int64_t down_ns                  # * how long it was down before that
    int wake_fd                      # set before the loop runs
    Stream stream
    int buffer_timeout_ms

cdef void run_loop(Loop *loop) noexcept nogil
