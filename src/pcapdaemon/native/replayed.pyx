# cython: language_level=3
"""A capture from a savefile. It is used like one from an interface, and needs no privileges.

The file's own clock decides: duration and idle timeout count in the times of its packets. If it is
paced, a packet is kept when its time has come, and gets the current time. Otherwise the file is
read as fast as possible, and packets keep their times.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pcapdaemon.native.atomic cimport load, load_int, load_time, store, store_int
from pcapdaemon.native.blocks cimport BlockPool
from pcapdaemon.native.capture cimport Capture
from pcapdaemon.native.clock cimport MILLISECOND, SECOND, clock_ns
from pcapdaemon.native.filter cimport Filter, filter_matches
from pcapdaemon.native.handle cimport Handle, Program
from pcapdaemon.native.libpcap cimport *
from pcapdaemon.native.limits cimport *
from pcapdaemon.native.posix cimport *
from pcapdaemon.native.records cimport (
    FILE_HEADER, MOST_CAPTURED, Output, all_packets, all_size, last_of_all, may_keep, put_packet,
)

from pcapdaemon.native.limits import STOP_REASONS

cdef int64_t LONGEST_WAIT = 60 * SECOND

# The capture's thread writes everything except `limits` and `stopped`. Any thread may `load` the
# words marked *.
cdef struct Replay:
    pcap_t *pcap
    const bpf_insn *filter
    Filter required                  # what the policy of the requester allows
    Output output                    # *
    Limits limits                    # written by any thread
    uint64_t matched                 # *
    uint32_t snaplen
    bint paced
    int64_t began                    # monotonic: when the replay began
    int64_t shift                    # from the file's clock to the savefile's
    # the file's clock at the beginning, which is the time of its first packet
    int64_t zero
    int64_t last_at                  # nanoseconds after `zero`: the last packet that matched
    int reason                       # * a Reason
    int stopped                      # written by any thread
    int wake_fd

cdef void end(Replay *replay, Reason reason) noexcept nogil:
    store_int(&replay.reason, reason)

cdef void wait_until(Replay *replay, int64_t at) noexcept nogil:
    """If the replay is paced, wait until `at` nanoseconds after its beginning or a stop."""
    cdef pollfd ready
    cdef int64_t left = replay.began + at - clock_ns(CLOCK_MONOTONIC)
    ready.fd, ready.events = replay.wake_fd, POLLIN
    while replay.paced and left > 0 and not load_int(&replay.stopped):
        ready.revents = 0
        poll(&ready, 1, <int> ((min(left, LONGEST_WAIT) + MILLISECOND - 1) // MILLISECOND))
        left = replay.began + at - clock_ns(CLOCK_MONOTONIC)

cdef int64_t idle_from(Replay *replay) noexcept nogil:
    # Captures that share their limits compare monotonic times.
    return last_of_all(&replay.output, replay.began + replay.last_at) - replay.began

cdef void wait_for(Replay *replay, int64_t at) noexcept nogil:
    """Let time pass until the packet at `at`, or until the limit that comes first."""
    cdef int64_t duration, idle_at, due
    while replay.reason == RUNNING:
        duration = load_time(&replay.limits.duration_ns)
        idle_at = idle_from(replay) + load_time(&replay.limits.idle_ns)
        due = min(at, min(duration, idle_at))
        wait_until(replay, due)
        if load_int(&replay.stopped):
            end(replay, STOPPED)
        elif due == at:
            return
        elif load_time(&replay.limits.duration_ns) <= due:  # it may have grown meanwhile
            end(replay, DURATION)
        elif idle_from(replay) + load_time(&replay.limits.idle_ns) <= due:
            end(replay, IDLE)

cdef void keep(
    Replay *replay, int64_t ns, const pcap_pkthdr *header, const uint8_t *data
) noexcept nogil:
    cdef uint64_t most = load(&replay.limits.packets)
    cdef uint64_t most_size = load(&replay.limits.size)
    cdef uint32_t captured = min(header.caplen, replay.snaplen)
    if may_keep(&replay.output, most, most_size):
        if not put_packet(&replay.output, ns + replay.shift, captured, header.len, data):
            end(replay, MEMORY)
            return
    if all_packets(&replay.output) >= most:
        end(replay, PACKETS)
    elif all_size(&replay.output) >= most_size:
        end(replay, BYTES)

cdef void take(Replay *replay, const pcap_pkthdr *header, const uint8_t *data) noexcept nogil:
    cdef int64_t ns = header.ts.tv_sec * SECOND + header.ts.tv_usec
    if replay.zero == 0:
        replay.zero = ns
        replay.shift = clock_ns(CLOCK_REALTIME) - ns if replay.paced else 0
    wait_for(replay, max(ns - replay.zero, 0))
    if replay.reason != RUNNING or header.caplen > MOST_CAPTURED:
        return
    if replay.filter != NULL and bpf_filter(replay.filter, data, header.len, header.caplen) == 0:
        return
    if not filter_matches(&replay.required, data, header.caplen, header.len):
        return
    store(&replay.matched, replay.matched + 1)
    replay.last_at = max(replay.last_at, ns - replay.zero)
    keep(replay, ns, header, data)

cdef void run_replay(Replay *replay) noexcept nogil:
    cdef pcap_pkthdr *header
    cdef const uint8_t *data
    cdef int status
    replay.began = clock_ns(CLOCK_MONOTONIC)
    while replay.reason == RUNNING:
        if load_int(&replay.stopped):
            end(replay, STOPPED)
            return
        status = pcap_next_ex(replay.pcap, &header, &data)
        if status == 1:
            take(replay, header, data)
        elif status == PCAP_ERROR_BREAK:
            end(replay, END_OF_FILE)
        else:
            end(replay, FAILED)


@cython.no_gc_clear
cdef class ReplayedCapture(Capture):
    """One capture from a savefile in place of an interface, into blocks of `pool`.

    `interface` is the name that the file goes by. Raises CaptureRefused with libpcap's own words.
    """

    cdef Replay replay
    cdef Program program

    def __cinit__(self, str interface, BlockPool pool):
        self.interface, self.blocks = interface, pool
        self.output, self.limits = &self.replay.output, &self.replay.limits
        self.reason = &self.replay.reason
        self.required = &self.replay.required
        self.output.pool = &pool.pool
        self.output.size = FILE_HEADER
        self.make_wake()
        self.replay.wake_fd = self.wake_fd

    def __dealloc__(self):
        self.give_back()

    def open(self, str path, *, int snaplen, bint paced):
        """Open a pcap or pcapng file. Raises CaptureRefused or OSError."""
        self.handle = Handle(self.interface)
        self.handle.read(path)
        self.replay.pcap = self.handle.pcap
        self.replay.paced = paced
        self.linktype, self.snaplen = self.handle.linktype, min(snaplen, self.handle.snaplen)
        self.replay.snaplen = <uint32_t> self.snaplen
        self.header = self.handle.header_with(self.snaplen)

    def set_filter(self, str expression, bint names):
        """Compile the capture filter for the file's linktype. Raises CaptureRefused."""
        self.program = self.handle.compile(expression, names)
        self.replay.filter = self.program.program.bf_insns if expression.strip() else NULL

    cdef int tag_at(self):
        return 0  # tags in a file are where they were

    def run(self):
        """Read until a limit is reached, the file ends or `stop` is called. Blocks.

        Returns the word of STOP_REASONS for what ended the capture.
        """
        with nogil:
            run_replay(&self.replay)
        if self.replay.reason == FAILED:
            self.error = pcap_geterr(self.replay.pcap).decode(errors="replace")
        return STOP_REASONS[self.replay.reason]

    def stop(self):
        """End `run` soon. May be called from any thread."""
        store_int(&self.replay.stopped, True)
        self.wake()

    @property
    def is_running(self):
        """Whether the end of the capture is not decided yet."""
        return self.runs() and not load_int(&self.replay.stopped)

    @property
    def stats(self):
        """(matched, 0, 0), because a file drops nothing."""
        return load(&self.replay.matched), 0, 0
