# cython: language_level=3
"""Records an interface all the time, into a ring of blocks.

The recording thread never waits for those who read.

The times of packets are those of the wall clock, which may be stepped. How long ago a packet
arrived is measured with the monotonic clock. So each block has the difference between the two
clocks while it was filled, and a step begins a new block.
"""

import os

cimport cython

from libc.errno cimport ENETDOWN, ENODEV, ENXIO
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy
from posix.unistd cimport close, read, write

from pcapdaemon.native.atomic cimport (
    load, load_int, load_time, store, store_int, store_size, store_time,
)
from pcapdaemon.native.clock cimport MILLISECOND, NEVER, SECOND, clock_ns
from pcapdaemon.native.counters cimport begin_counting, sample
from pcapdaemon.native.device cimport (
    DOWN, GONE, DeviceState, device_state, skip_link_changes,
)
from pcapdaemon.native.filter cimport filter_free, passes
from pcapdaemon.native.handle cimport Handle, Program
from pcapdaemon.native.libpcap cimport *
from pcapdaemon.native.posix cimport *
from pcapdaemon.native.records cimport MOST_CAPTURED
from pcapdaemon.native.ring cimport *


cdef enum:
    BATCH = 65536
    AT_REST_MS = 500                 # how long to wait for packets if nobody reads
    WATCHED_MS = 20                  # and if a reader needs to know that none arrived

cdef int64_t STEP = 50 * MILLISECOND        # a clock that is off by this much was stepped
# Readers are not woken more often than this, and the more readers, the less often.
cdef int64_t NOTIFY_EVERY = 5 * MILLISECOND

WORDS = ("recording", "stopped", "interface-down", "error", "link-down", "link-up")


cdef void look_at_clocks(Recorder *recorder) noexcept nogil:
    # The clocks are read one after the other. If the thread was descheduled in between, it reads
    # them again, because that would look like a clock step. The closest readings count.
    cdef int64_t wall, apart
    cdef int64_t closest = NEVER
    cdef int _
    for _ in range(4):
        recorder.now = clock_ns(CLOCK_MONOTONIC)
        wall = clock_ns(CLOCK_REALTIME)
        apart = clock_ns(CLOCK_MONOTONIC) - recorder.now
        if apart < closest:
            closest, recorder.offset = apart, wall - recorder.now
        if apart < MILLISECOND:
            break

cdef void on_packet(uint8_t *user, const pcap_pkthdr *header, const uint8_t *data) noexcept nogil:
    cdef Recorder *recorder = <Recorder *> user
    cdef Ring *ring = recorder.ring
    cdef RingBlock *block = ring.newest
    cdef uint32_t captured = min(header.caplen, recorder.snaplen)
    cdef size_t size = (sizeof(PacketHeader) + captured + 7) & ~<size_t> 7
    cdef PacketHeader *packet
    cdef int64_t ns = header.ts.tv_sec * SECOND + header.ts.tv_usec * recorder.tick_ns
    if not passes(&recorder.entrance, ns, header, data):
        return
    if header.caplen > MOST_CAPTURED:  # a device that exceeds libpcap's own maximum
        store(&ring.missed, ring.missed + 1)
        return
    if block == NULL or block.used + size > ring.block_size:
        block = ring_begin(ring, clock_ns(CLOCK_MONOTONIC), recorder.offset)
        if block == NULL:
            store(&ring.missed, ring.missed + 1)
            return
    packet = <PacketHeader *> (block.data + block.used)
    packet.ns = ns
    packet.captured = captured
    packet.length = header.len
    memcpy(packet + 1, data, captured)
    store(&ring.packets, ring.packets + 1)
    store_size(&block.used, block.used + size)

cdef void look_around(Recorder *recorder) noexcept nogil:
    """Update the counters, drop blocks that are too old, and store this thread's CPU time.

    Called once a second while packets arrive, and when a reader waits for the counters.
    """
    cdef Ring *ring = recorder.ring
    sample(&ring.counters, recorder.pcap)
    ring_expire(ring, recorder.now - recorder.keep_ns)
    store_time(&ring.cpu_ns, clock_ns(CLOCK_THREAD_CPUTIME_ID))
    store_time(&ring.looked_at, recorder.now)

cdef void notify_readers(Recorder *recorder, bint quiet) noexcept nogil:
    cdef Ring *ring = recorder.ring
    cdef int64_t pause = NOTIFY_EVERY * (4 + load_int(&ring.followers)) // 4
    if recorder.now - ring.looked_at > SECOND or load_time(&ring.wanted_at) > ring.looked_at:
        look_around(recorder)
    elif not recorder.unnotified or (not quiet and recorder.now - recorder.notified_at < pause):
        return
    recorder.unnotified = False
    recorder.notified_at = recorder.now
    ring_notify(ring)

cdef bint went_away(Recorder *recorder, short events) noexcept nogil:
    # packet(7): ENETDOWN when the interface went down or away. Packets from before are still there.
    cdef int error = 0
    cdef socklen_t length = sizeof(error)
    getsockopt(pcap_get_selectable_fd(recorder.pcap), SOL_SOCKET, SO_ERROR, &error, &length)
    if events & (POLLHUP | POLLNVAL):
        return True
    return error in (ENETDOWN, ENODEV, ENXIO) and not recorder.device.index

cdef void look_at_device(Recorder *recorder) noexcept nogil:
    """End the recording if its device is gone. If that is only down, it may come up again."""
    cdef DeviceState state = device_state(recorder.device)
    if state == GONE:
        recorder.end = WENT_AWAY
    elif (state == DOWN) != recorder.is_down:
        recorder.is_down = state == DOWN
        recorder.end = LINK_DOWN if recorder.is_down else LINK_UP

cdef void dispatch(Recorder *recorder) noexcept nogil:
    if pcap_dispatch(recorder.pcap, BATCH, on_packet, <uint8_t *> recorder) == PCAP_ERROR:
        recorder.end = BROKE
    recorder.unnotified = True

cdef void turn(Recorder *recorder, pollfd *ready) noexcept nogil:
    """Wait for packets or a nudge, and record what arrived."""
    cdef Ring *ring = recorder.ring
    cdef int64_t begun = clock_ns(CLOCK_MONOTONIC)
    cdef uint64_t nudges
    cdef bint quiet
    ready[0].revents = ready[1].revents = ready[2].revents = 0
    if poll(ready, 3, 0) == 0:
        store_time(&ring.quiet_at, begun)  # nothing waits: everything from before is recorded
        poll(ready, 3, WATCHED_MS if load_int(&ring.followers) else AT_REST_MS)
    look_at_clocks(recorder)
    quiet = not ready[0].revents & POLLIN
    if ready[1].revents:
        read(recorder.wake_fd, &nudges, sizeof(nudges))
    if ring.newest != NULL and abs_of(recorder.offset - ring.newest.offset) > STEP:
        ring_begin(ring, recorder.now, recorder.offset)
    if ready[0].revents & POLLIN:
        dispatch(recorder)
    elif ready[0].revents and went_away(recorder, ready[0].revents):
        dispatch(recorder)
        recorder.end = WENT_AWAY
    if ready[0].revents & ~POLLIN or ready[2].revents:
        skip_link_changes(recorder.device)
        look_at_device(recorder)
    notify_readers(recorder, quiet)

cdef int64_t abs_of(int64_t value) noexcept nogil:
    return -value if value < 0 else value

cdef void run_recorder(Recorder *recorder) noexcept nogil:
    cdef pollfd ready[3]
    recorder.end = GOING_ON
    ready[0].fd = pcap_get_selectable_fd(recorder.pcap)
    ready[1].fd = recorder.wake_fd
    ready[2].fd = recorder.device.link_fd
    ready[0].events = ready[1].events = ready[2].events = POLLIN
    look_at_clocks(recorder)
    store_time(&recorder.ring.quiet_at, recorder.now)
    ring_set_run(recorder.ring, True)
    while not load_int(&recorder.stopped) and recorder.end == GOING_ON:
        turn(recorder, ready)
    if recorder.end == GOING_ON:
        recorder.end = ENDED
    look_around(recorder)
    if recorder.end != LINK_DOWN and recorder.end != LINK_UP:
        ring_set_run(recorder.ring, False)


cdef bint is_device_of(Handle one, Handle other):
    return one.device.index == other.device.index and one.linktype == other.linktype


@cython.no_gc_clear
cdef class Recording:
    """The ring for one interface, and the handle that fills it.

    One thread drives it: `open`, `run`, and then again.

    `memory` is the bytes of the ring. `seconds` is how long packets are kept at most. Raises
    MemoryError.
    """

    def __cinit__(self, str interface, size_t memory, size_t block_size, double seconds):
        self.recorder.wake_fd = -1
        if not ring_init(&self.ring, max(2, memory // block_size), block_size):
            raise MemoryError(f"can't allocate {memory} bytes for a recorder")
        self.interface = interface
        self.error = ""
        self.recorder.ring = &self.ring
        self.recorder.keep_ns = <int64_t> (seconds * SECOND)
        self.recorder.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __dealloc__(self):
        if self.recorder.wake_fd >= 0:
            close(self.recorder.wake_fd)  # os.close may be gone when the interpreter ends
        filter_free(&self.recorder.entrance.filter)
        ring_free(&self.ring)

    def open(self, str expression, **options):
        """Open the interface as `Handle.open` does, and begin to keep packets that match.

        Returns False if it is not the device of before. Raises CaptureRefused.
        """
        cdef Handle handle = Handle(self.interface)
        cdef Program compiled
        keep = options["snaplen"]
        handle.open(**{**options, "snaplen": MOST_CAPTURED - 4})
        handle.keep = min(<int> keep, handle.snaplen)
        if self.handle is not None and not is_device_of(handle, self.handle):
            return False
        compiled = handle.compile(expression, True)
        self.recorder.snaplen = handle.keep
        self.recorder.pcap, self.recorder.tick_ns = handle.pcap, handle.tick_ns
        self.recorder.device, self.recorder.is_down = &handle.device, False
        begin_counting(&self.ring.counters, handle.pcap)
        self.recorder.entrance.early = handle.early
        self.recorder.entrance.opened_ns = handle.opened_ns
        if not handle.attach(compiled):
            handle.filter_here(&self.recorder.entrance.filter, compiled, handle.tag_at())
        self.handle = handle
        return True

    def run(self):
        """Record until `stop` is called or the interface is gone. Blocks.

        Returns the word of WORDS for what ended it. After "link-down" and "link-up", captures still
        read from it, and `run` has to be called again.
        """
        with nogil:
            run_recorder(&self.recorder)
        if self.recorder.end == BROKE:
            self.error = pcap_geterr(self.recorder.pcap).decode(errors="replace")
            if device_state(self.recorder.device) == GONE:
                self.recorder.end = WENT_AWAY
        return WORDS[self.recorder.end]

    def stop(self):
        """End `run`, for good. May be called from any thread."""
        store_int(&self.recorder.stopped, True)
        self.nudge()

    cdef void nudge(self):
        cdef uint64_t one = 1
        write(self.recorder.wake_fd, &one, sizeof(one))

    @property
    def device(self):
        """The index of the device that it records; 0 before it was first open, and for `any`."""
        return self.handle.device.index if self.handle is not None else 0

    @property
    def is_open(self):
        """Whether it records now."""
        return bool(load(&self.ring.run) & 1)

    @property
    def linktype(self):
        """The name of the linktype in libpcap; empty before the interface was first open."""
        return self.handle.linktype if self.handle is not None else ""

    @property
    def snaplen(self):
        """Most bytes that are kept of a packet; 0 before the interface was first open."""
        return self.recorder.snaplen

    @property
    def followers(self):
        """Captures that read from it."""
        return load_int(&self.ring.followers)

    @property
    def counters(self):
        """(packets, received, dropped, dropped by interface, missed, nanoseconds of CPU).

        They count from the creation of the recording, and are up to a second old while packets
        arrive.
        """
        ring, counters = &self.ring, &self.ring.counters
        return (
            load(&ring.packets),
            load(&counters.received),
            load(&counters.dropped),
            load(&counters.dropped_by_interface),
            load(&ring.missed),
            load_time(&ring.cpu_ns),
        )

    def counts(self, int64_t since, int64_t begin, int64_t step, int number):
        """Return the packets and the bytes on the wire in each of `number` steps of time.

        `since` is where to begin, in monotonic nanoseconds, and `begin` the same moment since the
        epoch. Reads all that is kept since then, which takes milliseconds for each 64 MiB.
        """
        cdef Step *steps = <Step *> calloc(number, sizeof(Step))
        cdef int n
        if steps == NULL:
            raise MemoryError("no memory to count what a recorder has")
        try:
            with nogil:
                ring_count(&self.ring, since, begin, step, steps, number)
            return [(steps[n].packets, steps[n].bytes) for n in range(number)]
        finally:
            free(steps)

    def kept(self):
        """(bytes kept, monotonic nanoseconds up to which packets were dropped, or 0 for none)."""
        cdef int64_t dropped_until
        cdef size_t size = ring_size(&self.ring, &dropped_until)
        return size, dropped_until
