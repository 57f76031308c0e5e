# cython: language_level=3
"""A live capture with libpcap, from opening the interface to the filled blocks.

One thread drives a `LiveCapture`: `open`, `extend`, `set_filter`, `run`, `close`. Those that block
release the GIL. Meanwhile other threads may only use `stop`, `extend` and the counters.
"""

import os

cimport cython
from libc.stdint cimport uint64_t
from posix.unistd cimport write

from pcapdaemon.native.atomic cimport load, load_int, load_time, store_int
from pcapdaemon.native.blocks cimport (
    Block, BlockPool, append_block, blocks_of, give_all, take_block,
)
from pcapdaemon.native.counters cimport begin_counting
from pcapdaemon.native.handle cimport Handle, Program
from pcapdaemon.native.libpcap cimport *
from pcapdaemon.native.limits cimport FAILED, INTERFACE_DOWN, RUNNING, extend_limits
from pcapdaemon.native.loop cimport KEEPING, Loop, run_loop
from pcapdaemon.native.merge cimport SharedLimits
from pcapdaemon.native.posix cimport *
from pcapdaemon.native.records cimport FILE_HEADER

from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.native.limits import STOP_REASONS

cdef enum:
    SOCKADDR_SIZE = 28               # of an IPv6 address, the larger one


@cython.no_gc_clear  # __dealloc__ returns blocks to the pool
cdef class LiveCapture:
    """One live capture on one interface, into blocks of `pool`.

    Raises CaptureRefused with libpcap's own words.

    After `open` it has the name of its linktype, its snapshot length in bytes, and `header`. That
    is the 24 bytes of a pcap file with the handle's linktype and snapshot length, for microseconds,
    little-endian.
    """

    cdef Loop loop
    cdef Handle handle
    cdef BlockPool blocks
    cdef SharedLimits shared
    cdef readonly str interface
    cdef readonly str linktype
    cdef readonly int snaplen
    cdef readonly bytes header
    cdef readonly str error

    def __cinit__(self, str interface, BlockPool pool):
        self.loop.wake_fd = -1
        self.interface = interface
        self.handle = Handle(interface)
        self.blocks = pool
        self.linktype = self.error = ""
        self.header = b""
        self.loop.output.pool = &pool.pool
        self.loop.output.size = FILE_HEADER
        self.loop.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __dealloc__(self):
        self._give_back()

    def open(
        self, *, int snaplen, bint promiscuous, int buffer_size, int buffer_timeout_ms,
        bint loopback
    ):
        """Open and activate the interface. No packet passes until `set_filter`.

        Blocks for about 10 ms.

        `snaplen` and `buffer_size` are bytes. Raises CaptureRefused, or MemoryError if the pool has
        no block left.
        """
        cdef Block *block = take_block(self.loop.output.pool)
        if block == NULL:
            raise MemoryError("all memory for captures is in use ([general] memory)")
        append_block(&self.loop.output.blocks, block)
        self.handle.open(
            snaplen=snaplen,
            promiscuous=promiscuous,
            buffer_size=buffer_size,
            buffer_timeout_ms=buffer_timeout_ms,
            loopback=loopback,
        )
        # Copies, because they are still read after the handle is closed.
        self.linktype, self.snaplen = self.handle.linktype, self.handle.snaplen
        self.header = self.handle.file_header
        self.loop.pcap = self.handle.pcap
        self.loop.tick_ns = self.handle.tick_ns
        self.loop.buffer_timeout_ms = buffer_timeout_ms

    def write_as(self, *, bint pcapng, uint64_t overhead, int number=0):
        """Choose the format of records. Call it before `run`.

        `overhead` is the bytes of the file that are not packets. `number` is the number of the
        interface description that packets refer to.
        """
        self.loop.output.pcapng = pcapng
        self.loop.output.size = overhead
        self.loop.output.number = number
        self.loop.output.cooked = self.linktype == "LINUX_SLL"
        self.loop.output.mark = pcapng

    def share_limits(self, SharedLimits shared):
        """Count packets, bytes and idle time together with other captures. Call it before `run`."""
        self.shared = shared
        self.loop.output.shared = &shared.counts

    def set_filter(self, str expression, bint optimize):
        """Compile the capture filter on the live handle, and begin to keep packets that match.

        Blocks while it resolves names. Raises CaptureRefused.
        """
        cdef Program compiled = self.handle.compile(expression, optimize)
        cdef int status
        # Packets from before the filter do not belong to this capture.
        begin_counting(&self.loop.counters, self.loop.pcap)
        with nogil:
            status = pcap_setfilter(self.loop.pcap, &compiled.program)
        if status != 0:
            raise self.handle.refused(status)

    def extend(self, *, uint64_t packets, uint64_t size, double duration, double idle_timeout):
        """Raise the limits to at least these, before or during `run`.

        Returns False if the capture is over or about to be.

        `size` is bytes of the savefile, including headers. `duration` (from the beginning) and
        `idle_timeout` are seconds.
        """
        if load_int(&self.loop.reason) != RUNNING or load_int(&self.loop.phase) != KEEPING:
            return False
        extend_limits(&self.loop.limits, packets, size, duration, idle_timeout)
        return True

    @property
    def is_running(self):
        """Whether the end of the capture is not decided yet."""
        return load_int(&self.loop.reason) == RUNNING and load_int(&self.loop.phase) == KEEPING

    def run(self):
        """Capture until a limit is reached or `stop` is called. Blocks.

        Returns the word of STOP_REASONS for what ended the capture.
        """
        with nogil:
            run_loop(&self.loop)
        if self.loop.reason == FAILED:
            self.error = pcap_geterr(self.loop.pcap).decode(errors="replace")
            if self.interface != "any" and if_nametoindex(self.handle.name) == 0:
                store_int(&self.loop.reason, INTERFACE_DOWN)
        return STOP_REASONS[self.loop.reason]

    def stop(self):
        """End `run` soon. May be called from any thread.

        `run` still takes the packets that the kernel holds. If it has not begun, it ends at once.
        """
        cdef uint64_t one = 1
        if self.loop.wake_fd >= 0:
            # Under the GIL, so that `close` can't run in between.
            write(self.loop.wake_fd, &one, sizeof(one))

    def close(self):
        """Release the handle, the descriptors, and the blocks that were not taken.

        Blocks for about 25 ms, because the kernel waits for readers of its lists.
        """
        self._give_back()

    cdef int _give_back(self) except -1:
        cdef int wake_fd = self.loop.wake_fd
        self.loop.wake_fd = -1
        self.loop.pcap = NULL
        self.handle = None
        if wake_fd >= 0:
            os.close(wake_fd)
        give_all(self.loop.output.pool, &self.loop.output.blocks)
        return 0

    def take_blocks(self):
        """Return the captured records. Call it once, after `run`."""
        return blocks_of(self.blocks, &self.loop.output.blocks)

    @property
    def packets(self):
        """Packets stored so far."""
        return load(&self.loop.output.packets)

    @property
    def size(self):
        """Bytes of the savefile so far."""
        return load(&self.loop.output.size)

    @property
    def times(self):
        """Times of the first and the last packet stored, nanoseconds since the epoch.

        Zeros before the first.
        """
        return load_time(&self.loop.output.first_ns), load_time(&self.loop.output.last_ns)

    @property
    def stats(self):
        """(received, dropped, dropped by interface) since the filter was set.

        While packets arrive, they are at most about a second old.
        """
        counters = &self.loop.counters
        by_interface = load(&counters.dropped_by_interface)
        return load(&counters.received), load(&counters.dropped), by_interface


def list_devices():
    """Return all devices that libpcap knows. Needs no privileges.

    Each is a tuple of name, description, whether it is a loopback, whether it is up, and a list of
    (address, netmask).
    """
    cdef pcap_if_t *devices
    cdef pcap_if_t *device
    cdef char error[256]
    cdef int status
    with nogil:
        status = pcap_findalldevs(&devices, error)
    if status != 0:
        raise CaptureRefused(error.decode(errors="replace"))
    found = []
    device = devices
    while device != NULL:
        description = ""
        if device.description != NULL:
            description = device.description.decode(errors="replace")
        loopback, up = bool(device.flags & PCAP_IF_LOOPBACK), bool(device.flags & PCAP_IF_UP)
        name, addresses = device.name.decode(errors="replace"), _addresses(device.addresses)
        found.append((name, description, loopback, up, addresses))
        device = device.next
    pcap_freealldevs(devices)
    return found


cdef list _addresses(pcap_addr *address):
    found = []
    while address != NULL:
        if text := _text(address.addr):
            found.append((text, _text(address.netmask)))
        address = address.next
    return found


cdef str _text(const sockaddr *address):
    cdef char text[64]
    if address == NULL or address.sa_family not in (AF_INET, AF_INET6):
        return ""
    if getnameinfo(address, SOCKADDR_SIZE, text, sizeof(text), NULL, 0, NI_NUMERICHOST) != 0:
        return ""
    return text.decode()


def library_version():
    """Return libpcap's description of its version."""
    return pcap_lib_version().decode()
