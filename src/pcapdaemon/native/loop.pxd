# cython: language_level=3
"""The state of one running packet loop, and what drives it."""

from libc.stdint cimport int64_t, uint64_t

from pcapdaemon.native.counters cimport Counters
from pcapdaemon.native.libpcap cimport pcap_t
from pcapdaemon.native.limits cimport Limits
from pcapdaemon.native.records cimport Output

cdef enum Phase:
    KEEPING = 0                      # packets that match are kept
    # a limit of time was reached: what came before the cut-off is still kept
    DRAINING
    # the idle timeout was reached: the same, and a packet from before proves the contrary
    DOUBTING
    # a packet from after the cut-off was seen: nothing more is kept
    CUT

# the capture's thread writes all but `limits`; any may `load` the words marked *
cdef struct Loop:
    pcap_t *pcap
    Output output                    # *
    Limits limits                    # written by any thread
    Counters counters                # *
    int reason                       # * a Reason; not RUNNING: it is over
    int phase                        # * a Phase
    # of the clock on the wall: packets later than this do not belong to it
    int64_t cutoff_ns
    # monotonic: the last packet of all that was known when DOUBTING began
    int64_t doubted_at
    int64_t tick_ns                  # of the second part of a packet's time
    int64_t last_at                  # monotonic: when the last packet came, or the loop began
    int64_t sampled_at
    int wake_fd                      # set before it runs
    int buffer_timeout_ms

cdef void run_loop(Loop *loop) noexcept nogil
