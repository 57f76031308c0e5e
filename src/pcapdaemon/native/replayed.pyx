# cython: language_level=3
"""A capture from a savefile. It is used like one from an interface, and needs no privileges.

The file's own clock decides: duration and idle timeout count in the times of its packets. If it is
paced, a packet is kept when its time has come, and gets the current time. Otherwise the file is
read as fast as possible, and packets keep their times.
"""

import os

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from posix.unistd cimport write

from pcapdaemon.native.atomic cimport load, load_int, load_time, store, store_int
from pcapdaemon.native.blocks cimport BlockPool, blocks_of, give_all
from pcapdaemon.native.clock cimport MILLISECOND, SECOND, clock_ns
from pcapdaemon.native.handle cimport Handle, Program
from pcapdaemon.native.libpcap cimport *
from pcapdaemon.native.limits cimport *
from pcapdaemon.native.merge cimport SharedLimits
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
cdef class ReplayedCapture:
    """One capture from a savefile in place of an interface.

    One thread drives it, like a `LiveCapture`.

    `interface` is the name that the file goes by. Raises CaptureRefused with libpcap's own words.
    """

    cdef Replay replay
    cdef Handle handle
    cdef Program program
    cdef BlockPool blocks
    cdef SharedLimits shared
    cdef readonly str interface
    cdef readonly str linktype
    cdef readonly int snaplen
    cdef readonly bytes header
    cdef readonly str error

    def __cinit__(self, str interface, BlockPool pool):
        self.replay.wake_fd = -1
        self.interface, self.blocks = interface, pool
        self.linktype = self.error = ""
        self.header = b""
        self.replay.output.pool = &pool.pool
        self.replay.output.size = FILE_HEADER
        self.replay.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __dealloc__(self):
        self._give_back()

    def open(self, str path, *, int snaplen, bint paced):
        """Open a pcap or pcapng file. Raises CaptureRefused or OSError."""
        self.handle = Handle(self.interface)
        self.handle.read(path)
        self.replay.pcap = self.handle.pcap
        self.replay.paced = paced
        self.linktype, self.snaplen = self.handle.linktype, min(snaplen, self.handle.snaplen)
        self.replay.snaplen = <uint32_t> self.snaplen
        self.header = self.handle.header_with(self.snaplen)

    def write_as(self, *, bint pcapng, uint64_t overhead, int number=0):
        """Choose the format of records. Call it before `run`.

        `overhead` is the bytes of the file that are not packets. `number` is the number of the
        interface description that packets refer to.
        """
        self.replay.output.pcapng = pcapng
        self.replay.output.size = overhead
        self.replay.output.number = number
        self.replay.output.cooked = self.linktype == "LINUX_SLL"
        self.replay.output.mark = pcapng

    def share_limits(self, SharedLimits shared):
        """Count packets, bytes and idle time together with other captures. Call it before `run`."""
        self.shared = shared
        self.replay.output.shared = &shared.counts

    def set_filter(self, str expression, bint optimize):
        """Compile the capture filter for the file's linktype. Raises CaptureRefused."""
        self.program = self.handle.compile(expression, optimize)
        self.replay.filter = self.program.program.bf_insns if expression.strip() else NULL

    def extend(self, *, uint64_t packets, uint64_t size, double duration, double idle_timeout):
        """Raise the limits to at least these, before or during `run`.

        Returns False if the capture is over.
        """
        if load_int(&self.replay.reason) != RUNNING:
            return False
        extend_limits(&self.replay.limits, packets, size, duration, idle_timeout)
        return True

    @property
    def is_running(self):
        """Whether the end of the capture is not decided yet."""
        return load_int(&self.replay.reason) == RUNNING and not load_int(&self.replay.stopped)

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
        cdef uint64_t one = 1
        store_int(&self.replay.stopped, True)
        if self.replay.wake_fd >= 0:
            write(self.replay.wake_fd, &one, sizeof(one))

    def close(self):
        """Release the file, the descriptor, and the blocks that were not taken."""
        self._give_back()

    cdef int _give_back(self) except -1:
        cdef int wake_fd = self.replay.wake_fd
        self.replay.wake_fd = -1
        self.replay.pcap = NULL
        self.handle = None
        if wake_fd >= 0:
            os.close(wake_fd)
        give_all(self.replay.output.pool, &self.replay.output.blocks)
        return 0

    def take_blocks(self):
        """Return the captured records. Call it once, after `run`."""
        return blocks_of(self.blocks, &self.replay.output.blocks)

    @property
    def packets(self):
        """Packets stored so far."""
        return load(&self.replay.output.packets)

    @property
    def size(self):
        """Bytes of the savefile so far."""
        return load(&self.replay.output.size)

    @property
    def times(self):
        """Times of the first and the last packet stored, nanoseconds since the epoch.

        Zeros before the first.
        """
        return load_time(&self.replay.output.first_ns), load_time(&self.replay.output.last_ns)

    @property
    def stats(self):
        """(matched, 0, 0), because a file drops nothing."""
        return load(&self.replay.matched), 0, 0
