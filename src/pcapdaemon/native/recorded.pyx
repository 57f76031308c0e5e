# cython: language_level=3
"""A capture from a recording. It is used like one from an interface."""

import os

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint64_t

from pcapdaemon.native.atomic cimport load, load_int, load_time, store_int, store_time
from pcapdaemon.native.blocks cimport BlockPool, blocks_of, give_all
from pcapdaemon.native.capture cimport Capture
from pcapdaemon.native.clock cimport MILLISECOND, NEVER, clock_ns
from pcapdaemon.native.filter cimport filter_free, filter_init
from pcapdaemon.native.handle cimport Program
from pcapdaemon.native.limits cimport FAILED
from pcapdaemon.native.posix cimport CLOCK_MONOTONIC
from pcapdaemon.native.reader cimport Reader, catch_up, follow
from pcapdaemon.native.recording cimport Recording
from pcapdaemon.native.records cimport FILE_HEADER
from pcapdaemon.native.ring cimport ring_enter, ring_leave, ring_notify, ring_wait
from pcapdaemon.native.stream cimport Stream, write_whole

from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.native.limits import STOP_REASONS

cdef int64_t SLACK = 30 * MILLISECOND  # added to the packet buffer timeout, for a busy machine


@cython.no_gc_clear
cdef class RecordedCapture(Capture):
    """One capture of what a recording has and will have.

    `trigger` and `since` are monotonic nanoseconds. Packets from `since` on are taken. Packets from
    `trigger` on count towards the limits.
    """

    cdef Reader reader
    cdef Recording recording
    cdef bint entered
    cdef uint64_t dropped_before
    cdef uint64_t ifdropped_before
    cdef int64_t dropped_until

    def __cinit__(
        self, Recording recording, BlockPool pool, *, int64_t trigger, int64_t since, int hold_ms
    ):
        cdef Reader *reader = &self.reader
        self.recording = recording
        self.handle = recording.handle
        self.blocks = pool
        self.interface = recording.interface
        # Copies, because they are still read after the handle is released.
        self.linktype = self.handle.linktype
        self.header = self.handle.header_with(recording.recorder.snaplen)
        self.snaplen = recording.recorder.snaplen
        self.output, self.limits, self.reason = &reader.live, &reader.limits, &reader.reason
        self.required = &reader.required
        reader.ring = &recording.ring
        reader.trigger = reader.last_at = trigger
        reader.since = since
        reader.hold_ns = hold_ms * MILLISECOND + SLACK
        reader.stop_at = NEVER
        reader.snaplen = self.snaplen
        reader.past.pool = reader.live.pool = &pool.pool
        reader.live.size = FILE_HEADER
        reader.most_packets = reader.most_size = reader.most_past = 0xffffffffffffffff
        self._enter()

    def __dealloc__(self):
        self.give_back()

    def _enter(self):
        # From here on packets wait for this reader, because compiling its filter may take a while.
        cdef Reader *reader = &self.reader
        self.dropped_before = load(&reader.ring.counters.dropped) + load(&reader.ring.missed)
        self.ifdropped_before = load(&reader.ring.counters.dropped_by_interface)
        reader.run = load(&reader.ring.run)
        reader.block = ring_enter(reader.ring, reader.since, &self.dropped_until)
        self.entered = True
        if reader.block != NULL:
            reader.number = reader.block.first
            reader.seen_ns = reader.block.begun
            if reader.since < reader.trigger:
                self.dropped_before = min(self.dropped_before, reader.block.dropped)
        self.recording.nudge()

    def write_as(self, *, bint pcapng, uint64_t overhead, int number=0):
        """Choose the format of records. Call it before `catch_up`."""
        self.describe(&self.reader.past, pcapng, number)
        Capture.write_as(self, pcapng=pcapng, overhead=overhead, number=number)

    def cut_payload(self):
        """Keep only the headers of packets. Call it before `catch_up`."""
        Capture.cut_payload(self)
        self.reader.past.headers_only = True
        self.reader.past.beginning = self.output.beginning

    def keep_within(self, *, uint64_t packets, uint64_t size, uint64_t past, int snaplen):
        """Limit what is kept.

        `packets` and `size` limit the whole file, `past` the bytes from before the trigger, and
        `snaplen` the bytes of each packet.
        """
        self.reader.most_past = past
        self.reader.most_packets, self.reader.most_size = packets, size
        self.snaplen = min(snaplen, <int> self.recording.recorder.snaplen)
        self.reader.snaplen = self.snaplen
        self.header = self.handle.header_with(self.snaplen)

    def set_filter(self, str expression, bint names):
        """Compile the capture filter as for the live handle. Blocks for at most five seconds.

        With `names`, it may look up names. Raises CaptureRefused. Its kind is "unrecorded" if the
        filter tests what recorded packets do not contain.
        """
        cdef Program compiled = self.handle.compile(expression, names)
        if not expression.strip():
            return
        filter_free(&self.reader.filter)
        if not filter_init(&self.reader.filter, &compiled.program, self.handle.tag_at()):
            words = "the capture filter tests what recorded packets do not contain"
            raise CaptureRefused(words, kind="unrecorded")

    def stream_to(self, int descriptor):
        """Write a pcap file to a descriptor as packets come, in place of keeping them.

        Call it before `catch_up`.
        """
        self.reader.stream.fd, self.reader.stream.stopped = descriptor, &self.reader.stopped

    def catch_up(self, bint skip):
        """Take what was recorded until now, or skip it. Blocks.

        From here on the capture is live.
        """
        cdef const uint8_t[::1] header = self.header
        cdef Stream *stream = &self.reader.stream
        if skip:
            self.reader.since = self.reader.trigger
        with nogil:
            if not stream.fd or write_whole(stream, &header[0], FILE_HEADER):
                catch_up(&self.reader)
            else:
                store_int(&self.reader.reason, FAILED)

    def run(self):
        """Capture until a limit is reached or `stop` is called. Blocks.

        Returns the word of STOP_REASONS for what ended the capture.
        """
        with nogil:
            follow(&self.reader)
        if self.reader.stream.error:
            self.error = f"the output: {os.strerror(self.reader.stream.error)}"
        self._bring_counters_up_to_date()
        return STOP_REASONS[<int> self.reader.reason]

    def stop(self):
        """End `run` soon. May be called from any thread."""
        if not load_int(&self.reader.stopped):
            store_time(&self.reader.stop_at, clock_ns(CLOCK_MONOTONIC))
            store_int(&self.reader.stopped, True)
        ring_notify(self.reader.ring)

    @property
    def is_running(self):
        """Whether the end of the capture is not decided yet."""
        return self.runs() and not load_int(&self.reader.stopped)

    cdef int give_back(self) except -1:
        """Leave the recording too."""
        if self.entered:
            ring_leave(self.reader.ring, self.reader.block)
            self.reader.block = NULL
            self.entered = False
        filter_free(&self.reader.filter)
        give_all(self.reader.past.pool, &self.reader.past.blocks)
        return Capture.give_back(self)

    def take_blocks(self):
        """Return the captured records. Call it once, after `run`."""
        taken = blocks_of(self.blocks, &self.reader.past.blocks)
        taken.extend(Capture.take_blocks(self))
        return taken

    @property
    def packets(self):
        """Packets stored so far, including those from before the trigger."""
        return load(&self.reader.past.packets) + load(&self.reader.live.packets)

    @property
    def from_before(self):
        """(packets kept from before the trigger, packets evicted for lack of room)."""
        return load(&self.reader.past.packets), load(&self.reader.evicted)

    @property
    def size(self):
        """Bytes of the savefile so far."""
        return load(&self.reader.past.size) + load(&self.reader.live.size)

    @property
    def times(self):
        """Times of the first and the last packet stored, nanoseconds since the epoch.

        Zeros if there is none.
        """
        past, live = &self.reader.past, &self.reader.live
        first = load_time(&past.first_ns) if load(&past.packets) else load_time(&live.first_ns)
        last = load_time(&live.last_ns) if load(&live.packets) else load_time(&past.last_ns)
        if not self.packets:
            return 0, 0
        return first, last

    @property
    def stats(self):
        """(matched and lost, lost by the recorder or on the way from it, dropped by the interface).

        They cover the time of this capture.
        """
        ring = self.reader.ring
        dropped = load(&ring.counters.dropped) + load(&ring.missed) - self.dropped_before
        dropped += load(&self.reader.skipped)
        by_interface = load(&ring.counters.dropped_by_interface) - self.ifdropped_before
        return load(&self.reader.matched) + dropped, dropped, by_interface

    @property
    def recorded_until(self):
        """Monotonic nanoseconds up to which packets had been dropped when this capture began.

        0 if none had been.
        """
        return self.dropped_until

    def _bring_counters_up_to_date(self):
        # Only the recorder may ask the kernel for its counters.
        cdef Reader *reader = &self.reader
        cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
        cdef int64_t deadline = now + 200 * MILLISECOND
        cdef int never = 0
        if not load(&reader.ring.run) & 1:
            return
        if load_time(&reader.ring.wanted_at) < now:
            store_time(&reader.ring.wanted_at, now)
        self.recording.nudge()
        with nogil:
            while load_time(&reader.ring.looked_at) < now and clock_ns(CLOCK_MONOTONIC) < deadline:
                ring_wait(reader.ring, NULL, 0, clock_ns(CLOCK_MONOTONIC) + 5 * MILLISECOND, &never)
