# cython: language_level=3
"""A live capture on libpcap, from opening the interface to the filled blocks.

A `LiveCapture` is driven by one thread: `open`, `extend`, `set_filter`, `run`, `close`. All of them that block release the GIL;
only `stop`, `extend` and the counters may be used from another thread meanwhile.
"""

import os

cimport cython

from libc.stdint cimport int64_t, uint64_t
from posix.unistd cimport write

from pcapdaemon.native.blocks cimport Blocks, BlockPool, give_blocks, take_block
from pcapdaemon.native.handle cimport Handle, Program
from pcapdaemon.native.libpcap cimport *
from pcapdaemon.native.loop cimport FAILED, INTERFACE_DOWN, RUNNING, Loop, run_loop
from pcapdaemon.native.merge cimport SharedLimits
from pcapdaemon.native.records cimport FILE_HEADER
from pcapdaemon.core.errors import CaptureRefused

cdef enum:
    SECOND = 1000000000
    SOCKADDR_SIZE = 28               # of an IPv6 address, the larger one

# In the order of the enumeration in _loop.pxd; `StopReason` in limits.py is made of these words.
STOP_REASONS = ("running", "packets", "bytes", "duration", "idle", "stopped", "memory", "interface-down", "error")


@cython.no_gc_clear  # __dealloc__ gives blocks back to the pool
cdef class LiveCapture:
    """One live capture on one interface, into blocks of `pool`; raises `CaptureRefused` with libpcap's own words.

    From `open` on there are its linktype's name, its snapshot length in bytes, and `header`: the 24 bytes of a pcap file with
    linktype and snapshot length as they are on this handle, microseconds, little-endian.
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
        self.close()

    def open(self, *, int snaplen, bint promiscuous, int buffer_size, int buffer_timeout_ms, bint loopback):
        """Open and activate the interface; nothing passes until `set_filter`. Blocks for about 10 ms.

        snaplen and buffer_size are bytes. Raises CaptureRefused; `MemoryError` where the pool has no block left.
        """
        self.loop.output.first = self.loop.output.last = take_block(self.loop.output.pool)
        if self.loop.output.first == NULL:
            raise MemoryError("the memory budget is spent")
        self.handle.open(
            snaplen=snaplen,
            promiscuous=promiscuous,
            buffer_size=buffer_size,
            buffer_timeout_ms=buffer_timeout_ms,
            loopback=loopback,
        )
        # copies, for they are asked for when the handle is closed already
        self.linktype, self.snaplen, self.header = self.handle.linktype, self.handle.snaplen, self.handle.file_header
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
        self.loop.output.shared = &shared.shared

    def set_filter(self, str expression, bint optimize):
        """Compile the capture filter on the live handle and arm the capture; may block for long on names in DNS.

        From here on packets that match are kept. Raises CaptureRefused.
        """
        cdef Program compiled = self.handle.compile(expression, optimize)
        cdef int status
        pcap_stats(self.loop.pcap, &self.loop.seen)  # what came before the filter is not of this capture
        with nogil:
            status = pcap_setfilter(self.loop.pcap, &compiled.program)
        if status != 0:
            raise self.handle.refused(status)

    def extend(self, *, uint64_t packets, uint64_t size, double duration, double idle_timeout):
        """Make limits at least these, before `run` or while it goes on; False where it is over, or about to be.

        size is bytes of the savefile, its headers counted; duration, from the beginning, and idle_timeout are seconds.
        """
        if self.loop.reason != RUNNING or self.loop.ending:
            return False
        self.loop.max_packets = max(self.loop.max_packets, packets)
        self.loop.max_size = max(self.loop.max_size, size)
        self.loop.duration_ns = max(self.loop.duration_ns, <int64_t> (duration * SECOND))
        self.loop.idle_ns = max(self.loop.idle_ns, <int64_t> (idle_timeout * SECOND))
        return True

    @property
    def is_running(self):
        """Whether its end is not decided yet."""
        return self.loop.reason == RUNNING and not self.loop.ending

    def run(self):
        """Capture until a limit is reached or `stop` is called; the word of STOP_REASONS that says which. Blocks."""
        with nogil:
            run_loop(&self.loop)
        if self.loop.reason == FAILED:
            self.error = pcap_geterr(self.loop.pcap).decode(errors="replace")
            if self.interface != "any" and if_nametoindex(self.handle.name) == 0:
                self.loop.reason = INTERFACE_DOWN
        return STOP_REASONS[self.loop.reason]

    def stop(self):
        """End `run` soon, from any thread; what the kernel holds is still taken. Before `run` it ends it at once."""
        cdef uint64_t one = 1
        if self.loop.wake_fd >= 0:
            write(self.loop.wake_fd, &one, sizeof(one))  # holding the GIL, so that `close` cannot come in between

    def close(self):
        """Give back what is held: the handle, the descriptors, and blocks that were not taken.

        Blocks for about 25 ms, for the kernel waits for readers of its lists.
        """
        cdef int wake_fd = self.loop.wake_fd
        self.loop.wake_fd = -1
        self.loop.pcap = NULL
        self.handle = None
        if wake_fd >= 0:
            os.close(wake_fd)
        if self.loop.output.first != NULL:
            give_blocks(self.loop.output.pool, self.loop.output.first)
            self.loop.output.first = self.loop.output.last = NULL

    def take_blocks(self):
        """Hand the captured records over, once, after `run`."""
        cdef Blocks blocks = Blocks.__new__(Blocks)
        blocks.pool = self.blocks
        blocks.first = self.loop.output.first
        self.loop.output.first = self.loop.output.last = NULL
        return blocks

    @property
    def packets(self):
        """Packets stored so far."""
        return self.loop.output.packets

    @property
    def size(self):
        """Bytes of the savefile so far."""
        return self.loop.output.size

    @property
    def times(self):
        """Times of the first and the last packet stored, nanoseconds since the epoch; zeros before the first."""
        return self.loop.output.first_ns, self.loop.output.last_ns

    @property
    def stats(self):
        """(received, dropped, dropped by interface) since the filter was set: pcap_stats(3pcap), widened to 64 bits.

        While running they are at most about a second old where packets come.
        """
        return self.loop.received, self.loop.dropped, self.loop.dropped_by_interface


def list_devices():
    """All devices that libpcap knows: tuples of name, description, is loopback, is up, (address, netmask)s. Needs no privilege."""
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
        description = device.description.decode(errors="replace") if device.description != NULL else ""
        loopback, up = bool(device.flags & PCAP_IF_LOOPBACK), bool(device.flags & PCAP_IF_UP)
        found.append((device.name.decode(errors="replace"), description, loopback, up, _addresses(device.addresses)))
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
