# cython: language_level=3
"""A live capture on libpcap, from opening the interface to the filled blocks.

A `LiveCapture` is driven by one thread: `open`, `extend`, `set_filter`, `run`, `close`. All of them
that block release the GIL. Only `stop`, `extend` and the counters may be used from another thread
meanwhile.
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


@cython.no_gc_clear  # __dealloc__ gives blocks back to the pool
cdef class LiveCapture:
    """One live capture on one interface, into blocks of `pool`.

    Raises `CaptureRefused` with libpcap's own words.

    From `open` on there are its linktype's name, its snapshot length in bytes, and `header`: the 24
    bytes of a pcap file with linktype and snapshot length as they are on this handle, microseconds,
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
        """Open and activate the interface; nothing passes until `set_filter`.

        Blocks for about 10 ms.

        snaplen and buffer_size are bytes. Raises CaptureRefused; `MemoryError` where the pool has
        no block left.
        """
        cdef Block *block = take_block(self.loop.output.pool)
        if block == NULL:
            raise MemoryError("the memory budget is spent")
        append_block(&self.loop.output.blocks, block)
        self.handle.open(
            snaplen=snaplen,
            promiscuous=promiscuous,
            buffer_size=buffer_size,
            buffer_timeout_ms=buffer_timeout_ms,
            loopback=loopback,
        )
        # copies, for they are asked for when the handle is closed already
        self.linktype, self.snaplen = self.handle.linktype, self.handle.snaplen
        self.header = self.handle.file_header
        self.loop.pcap = self.handle.pcap
        self.loop.tick_ns = self.handle.tick_ns
        self.loop.buffer_timeout_ms = buffer_timeout_ms

    def write_as(self, *, bint pcapng, uint64_t overhead, int number=0):
        """Say before `run` what records look like, and the bytes that the file has beside them.

        number is that of the interface description which packets refer to.
        """
        self.loop.output.pcapng = pcapng
        self.loop.output.size = overhead
        self.loop.output.number = number
        self.loop.output.cooked = self.linktype == "LINUX_SLL"
        self.loop.output.mark = pcapng

    def share_limits(self, SharedLimits shared):
        """Count packets, bytes and idle time together with others, from before `run` on."""
        self.shared = shared
        self.loop.output.shared = &shared.counts

    def set_filter(self, str expression, bint optimize):
        """Compile the capture filter on the live handle and arm the capture.

        May block for long on names in DNS.

        From here on packets that match are kept. Raises CaptureRefused.
        """
        cdef Program compiled = self.handle.compile(expression, optimize)
        cdef int status
        # what came before the filter is not of this capture
        begin_counting(&self.loop.counters, self.loop.pcap)
        with nogil:
            status = pcap_setfilter(self.loop.pcap, &compiled.program)
        if status != 0:
            raise self.handle.refused(status)

    def extend(self, *, uint64_t packets, uint64_t size, double duration, double idle_timeout):
        """Make limits at least these, before `run` or while it goes on.

        False where it is over, or about to be.

        size is bytes of the savefile, its headers counted; duration, from the beginning, and
        idle_timeout are seconds.
        """
        if load_int(&self.loop.reason) != RUNNING or load_int(&self.loop.phase) != KEEPING:
            return False
        extend_limits(&self.loop.limits, packets, size, duration, idle_timeout)
        return True

    @property
    def is_running(self):
        """Whether its end is not decided yet."""
        return load_int(&self.loop.reason) == RUNNING and load_int(&self.loop.phase) == KEEPING

    def run(self):
        """Capture until a limit is reached or `stop` is called.

        The word of STOP_REASONS that says which. Blocks.
        """
        with nogil:
            run_loop(&self.loop)
        if self.loop.reason == FAILED:
            self.error = pcap_geterr(self.loop.pcap).decode(errors="replace")
            if self.interface != "any" and if_nametoindex(self.handle.name) == 0:
                store_int(&self.loop.reason, INTERFACE_DOWN)
        return STOP_REASONS[self.loop.reason]

    def stop(self):
        """End `run` soon, from any thread; what the kernel holds is still taken.

        Before `run` it ends it at once.
        """
        cdef uint64_t one = 1
        if self.loop.wake_fd >= 0:
            # holding the GIL, so that `close` cannot come in between
            write(self.loop.wake_fd, &one, sizeof(one))

    def close(self):
        """Give back what is held: the handle, the descriptors, and blocks that were not taken.

        Blocks for about 25 ms, for the kernel waits for readers of its lists.
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
        """Hand the captured records over, once, after `run`."""
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

        While running they are at most about a second old where packets come.
        """
        counters = &self.loop.counters
        by_interface = load(&counters.dropped_by_interface)
        return load(&counters.received), load(&counters.dropped), by_interface


def list_devices():
    """All devices that libpcap knows.

    Tuples of name, description, is loopback, is up, (address, netmask)s. Needs no privilege.
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
    """libpcap's own words about its version."""
    return pcap_lib_version().decode()
