# cython: language_level=3
"""A live capture with libpcap, from opening the interface to the filled blocks."""

cimport cython
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint32_t

from pcapdaemon.native.atomic cimport load, load_int, load_time, store_int
from pcapdaemon.native.blocks cimport Block, BlockPool, append_block, take_block
from pcapdaemon.native.capture cimport Capture
from pcapdaemon.native.clock cimport SECOND
from pcapdaemon.native.counters cimport begin_counting, exclude_interface
from pcapdaemon.native.device cimport GONE, UP, device_state, new_name
from pcapdaemon.native.filter cimport filter_free
from pcapdaemon.native.handle cimport Handle, Program
from pcapdaemon.native.libpcap cimport *
from pcapdaemon.native.limits cimport FAILED, INTERFACE_DOWN, RUNNING
from pcapdaemon.native.loop cimport KEEPING, Loop, run_loop
from pcapdaemon.native.posix cimport *
from pcapdaemon.native.records cimport FILE_HEADER
from pcapdaemon.native.stream cimport Stream, write_whole

import os

from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.native.limits import STOP_REASONS

cdef enum:
    SOCKADDR_SIZE = 28               # of an IPv6 address, the larger one
    MOST_SNAPLEN = 262144            # libpcap's MAXIMUM_SNAPLEN


@cython.no_gc_clear
cdef class LiveCapture(Capture):
    """One live capture on one interface, into blocks of `pool`. No packet passes before its filter.

    The methods that block release the GIL. Raises CaptureRefused with libpcap's own words.
    """

    cdef Loop loop

    def __cinit__(self, str interface, BlockPool pool):
        self.interface, self.blocks = interface, pool
        self.handle = Handle(interface)
        self.output, self.limits = &self.loop.output, &self.loop.limits
        self.reason = &self.loop.reason
        self.required = &self.loop.entrance.required
        self.output.pool = &pool.pool
        self.output.size = FILE_HEADER
        self.make_wake()
        self.loop.wake_fd = self.wake_fd

    def __dealloc__(self):
        self.give_back()

    def open(
        self, *, int snaplen, bint promiscuous, int buffer_size, int buffer_timeout_ms,
        bint loopback
    ):
        """Open and activate the interface. No packet passes until `set_filter`.

        Blocks for about 10 ms.

        `snaplen` and `buffer_size` are bytes. Raises CaptureRefused, or MemoryError if the pool has
        no block left.
        """
        self._take_block()
        # Whole packets, because a filter that runs in this process needs more than is kept.
        self.open_handle(
            snaplen=MOST_SNAPLEN,
            promiscuous=promiscuous,
            buffer_size=buffer_size,
            buffer_timeout_ms=buffer_timeout_ms,
            loopback=loopback,
        )
        self._use_handle(min(snaplen, self.handle.snaplen), buffer_timeout_ms)

    def open_handle(self, **options):
        """Open the interface as `open` does, for another capture, which will `adopt` the handle."""
        self.handle.open(**options)

    def adopt(self, LiveCapture other, *, int snaplen, int buffer_timeout_ms):
        """Take the open handle of another capture on the same interface, in place of `open`.

        Raises MemoryError if the pool has no block left.
        """
        self._take_block()
        self.handle, other.handle = other.handle, None
        self._use_handle(min(snaplen, self.handle.snaplen), buffer_timeout_ms)

    @property
    def is_packet_socket(self):
        """Whether the kernel runs its filter, so that nothing is buffered before it is adopted."""
        return self.handle is not None and self.handle.is_socket

    @property
    def is_usable(self):
        """Whether its handle is open, and still of the device with this name."""
        return self.handle is not None and device_state(&self.handle.device) == UP

    cdef int _take_block(self) except -1:
        cdef Block *block = take_block(self.loop.output.pool)
        if block == NULL:
            raise MemoryError("all memory for captures is in use ([general] memory)")
        append_block(&self.loop.output.blocks, block)
        return 0

    cdef int _use_handle(self, int snaplen, int buffer_timeout_ms) except -1:
        # Copies, because they are still read after the handle is closed.
        self.linktype, self.snaplen = self.handle.linktype, snaplen
        self.header = self.handle.header_with(snaplen)
        self.handle.keep = self.loop.snaplen = <uint32_t> snaplen
        self.loop.pcap = self.handle.pcap
        self.loop.device = &self.handle.device
        self.loop.tick_ns = self.handle.tick_ns
        self.loop.buffer_timeout_ms = buffer_timeout_ms
        return 0

    def set_filter(self, str expression, bint names):
        """Compile the capture filter on the live handle, and begin to keep packets that match.

        With `names`, it may look up names. Blocks for at most five seconds. Raises CaptureRefused.
        """
        cdef Program compiled = self.handle.compile(expression, names)
        # Packets from before the filter do not belong to this capture. A socket that rejects all
        # counts none, and libpcap takes a while, because it reads files: so not before the filter.
        if self.handle.is_socket:
            self.loop.counters.seen = self.handle.seen
        else:
            begin_counting(&self.loop.counters, self.loop.pcap)
        self.loop.entrance.early = self.handle.early
        self.loop.entrance.opened_ns = self.handle.opened_ns
        self.filtered_in_kernel = self.handle.attach(compiled) and self.handle.is_socket
        if self.handle.is_socket:
            exclude_interface(&self.loop.counters, self.loop.pcap)
        if self.handle.is_socket and not self.filtered_in_kernel:
            self.handle.filter_here(
                &self.loop.entrance.filter, compiled, self.handle.tag_at()
            )

    def require(self, str expression):
        """Keep only packets that match this filter too. Call it before `set_filter`."""
        self.handle.keep = MOST_SNAPLEN  # it must see more than is kept
        Capture.require(self, expression)

    def stream_to(self, int descriptor):
        """Write a pcap file to a descriptor during `run`, in place of keeping its packets."""
        self.loop.stream.fd, self.loop.stream.wake_fd = descriptor, self.wake_fd

    def run(self):
        """Capture until a limit is reached or `stop` is called. Blocks.

        Returns the word of STOP_REASONS for what ended the capture.
        """
        cdef const uint8_t[::1] header = self.header
        cdef Stream *stream = &self.loop.stream
        with nogil:
            if not stream.fd or write_whole(stream, &header[0], FILE_HEADER):
                run_loop(&self.loop)
            else:
                store_int(&self.loop.reason, FAILED)
        if stream.error:
            self.error = f"the output: {os.strerror(stream.error)}"
        elif self.loop.reason == FAILED:
            self.error = pcap_geterr(self.loop.pcap).decode(errors="replace")
            if device_state(self.loop.device) == GONE:
                store_int(&self.loop.reason, INTERFACE_DOWN)
        if self.loop.reason == INTERFACE_DOWN:
            name = new_name(self.loop.device)
            self.error = f"{self.interface} was renamed to {name}" if name else ""
        return STOP_REASONS[self.loop.reason]

    def stop(self):
        """End `run` soon. May be called from any thread.

        `run` still takes the packets that the kernel holds. If it has not begun, it ends at once.
        """
        self.wake()

    cdef bint runs(self):
        return load_int(&self.loop.reason) == RUNNING and load_int(&self.loop.phase) == KEEPING

    @property
    def stats(self):
        """(received, dropped, dropped by interface) since the filter was set.

        While packets arrive, they are at most about a second old.
        """
        counters = &self.loop.counters
        dropped, by_interface = load(&counters.dropped), load(&counters.dropped_by_interface)
        if self.filtered_in_kernel and not self.is_narrowed:
            return load(&counters.received), dropped, by_interface
        # The kernel counts packets that do not match too.
        return load(&self.loop.output.packets) + dropped, dropped, by_interface

    @property
    def down(self):
        """Seconds for which the interface was down, as far as is known at the end."""
        return load_time(&self.loop.down_ns) / <double> SECOND

    cdef int give_back(self) except -1:
        filter_free(&self.loop.entrance.filter)
        return Capture.give_back(self)


def instructions_of(str expression, int linktype=DLT_EN10MB):
    """Return into how many instructions a capture filter compiles. Names are not looked up.

    `linktype` is a DLT_ value. Blocks for at most a second. Raises CaptureRefused.
    """
    cdef Handle handle = Handle("")
    handle.pcap = pcap_open_dead(linktype, MOST_SNAPLEN)
    if handle.pcap == NULL:
        raise MemoryError("no memory to compile a capture filter")
    return handle.compile(expression, False).program.bf_len


def refusal_of(str expression):
    """Return why libpcap refuses a capture filter on Ethernet, or "". Names are not looked up.

    Blocks for at most a second.
    """
    try:
        instructions_of(expression)
    except CaptureRefused as error:
        return str(error)
    return ""


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


def enter_namespace(str path):
    """Move the calling thread to the network namespace of a file, for the rest of its life.

    Raises CaptureRefused of kind "inside" without the privilege, and of kind "device" if the
    namespace is gone or is the thread's own.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        kind = "inside" if isinstance(error, PermissionError) else "device"
        raise CaptureRefused(f"{path}: {error.strerror}", kind) from None
    try:
        if os.path.samestat(os.fstat(descriptor), os.stat("/proc/thread-self/ns/net")):
            raise CaptureRefused(f"{path} is the network namespace of the host", "device")
        failed = errno if setns(descriptor, CLONE_NEWNET) != 0 else 0
    finally:
        os.close(descriptor)
    if failed:
        raise CaptureRefused(f"setns to {path}: {os.strerror(failed)}", "inside")
