# cython: language_level=3
"""What all captures have in common, wherever their packets come from."""

import os

cimport cython
from libc.stdint cimport uint64_t
from posix.unistd cimport close, write

from pcapdaemon.native.atomic cimport load, load_int, load_time
from pcapdaemon.native.blocks cimport blocks_of, give_all
from pcapdaemon.native.filter cimport filter_free
from pcapdaemon.native.handle cimport Program
from pcapdaemon.native.headers cimport beginning_of
from pcapdaemon.native.limits cimport RUNNING, extend_limits

from pcapdaemon.core.errors import CaptureRefused


@cython.no_gc_clear  # subclasses return blocks to the pool in __dealloc__
cdef class Capture:
    """One capture into blocks of a pool.

    One thread drives it, from `open` to `close`. Meanwhile other threads may only use `stop`,
    `extend` and the counters.

    Once it is open, it has the name of its linktype, its snapshot length in bytes, and `header`.
    That is the 24 bytes of a pcap file with this linktype and snapshot length, for microseconds,
    little-endian.
    """

    def __cinit__(self):
        self.wake_fd = -1
        self.linktype = self.error = ""
        self.header = b""

    def write_as(self, *, bint pcapng, uint64_t overhead, int number=0):
        """Choose the format of records. Call it before any packet is taken.

        `overhead` is the bytes of the file that are not packets. `number` is the number of the
        interface description that packets refer to.
        """
        self.describe(self.output, pcapng, number)
        self.output.size = overhead
        self.output.mark = pcapng

    cdef void describe(self, Output *output, bint pcapng, int number):
        output.pcapng = pcapng
        output.number = number
        output.cooked = self.linktype == "LINUX_SLL"

    def require(self, str expression):
        """Keep only packets that match this filter too, which is a program of its own.

        No text of the capture filter can change what it means. Raises CaptureRefused.
        """
        cdef Program compiled = self.handle.compile(expression, False)
        self.is_narrowed = True
        self.handle.filter_here(self.required, compiled, self.tag_at())

    def compiles(self, str expression):
        """Return whether a filter is valid for this linktype. It is not set."""
        try:
            self.handle.compile(expression, False)
        except CaptureRefused:
            return False
        return True

    cdef int tag_at(self):
        return self.handle.tag_at()

    def cut_payload(self):
        """Keep only the headers of packets. Call it before any packet is taken."""
        self.output.headers_only = True
        self.output.beginning = beginning_of(self.linktype)

    def share_limits(self, SharedLimits shared):
        """Count packets, bytes and idle time together with other captures. Call it before `run`."""
        self.shared = shared
        self.output.shared = &shared.counts

    def extend(self, *, uint64_t packets, uint64_t size, double duration, double idle_timeout):
        """Raise the limits to at least these, before or during `run`.

        Returns False if the capture is over or about to be.

        `size` is bytes of the savefile, including headers. `duration` (from the beginning) and
        `idle_timeout` are seconds.
        """
        if not self.runs():
            return False
        extend_limits(self.limits, packets, size, duration, idle_timeout)
        return True

    cdef bint runs(self):
        return load_int(self.reason) == RUNNING

    @property
    def is_running(self):
        """Whether the end of the capture is not decided yet."""
        return self.runs()

    cdef int make_wake(self) except -1:
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return 0

    cdef void wake(self):
        # Under the GIL, so that `close` can't run in between.
        cdef uint64_t one = 1
        if self.wake_fd >= 0:
            write(self.wake_fd, &one, sizeof(one))

    def close(self):
        """Release the handle, the descriptors, and the blocks that were not taken.

        Blocks for about 25 ms if it was open on an interface, because the kernel waits for readers
        of its lists.
        """
        self.give_back()

    cdef int give_back(self) except -1:
        cdef int wake_fd = self.wake_fd
        self.wake_fd = -1
        self.handle = None
        if self.required != NULL:
            filter_free(self.required)
        if wake_fd >= 0:
            close(wake_fd)  # os.close may be gone when the interpreter ends
        if self.output != NULL:          # NULL: the subclass was given unfit arguments
            give_all(self.output.pool, &self.output.blocks)
        return 0

    def take_blocks(self):
        """Return the captured records. Call it once, after `run`."""
        return blocks_of(self.blocks, &self.output.blocks)

    @property
    def packets(self):
        """Packets stored so far."""
        return load(&self.output.packets)

    @property
    def size(self):
        """Bytes of the savefile so far."""
        return load(&self.output.size)

    @property
    def times(self):
        """Times of the first and the last packet stored, nanoseconds since the epoch.

        Zeros before the first.
        """
        return load_time(&self.output.first_ns), load_time(&self.output.last_ns)
