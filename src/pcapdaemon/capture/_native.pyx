# cython: language_level=3
"""A live capture on libpcap, from opening the interface to the filled blocks.

A `Capture` is driven by one thread: `open`, `extend`, `set_filter`, `run`, `close`. All of them that block release the GIL;
only `stop`, `extend` and the counters may be used from another thread meanwhile.
"""

import os

cimport cython

from libc.stdint cimport int64_t, uint64_t
from libc.stdio cimport FILE, fclose
from libc.stdlib cimport free
from posix.unistd cimport write

from pcapdaemon.capture._blocks cimport Blocks, BlockPool, give_blocks, take_block
from pcapdaemon.capture._libpcap cimport *
from pcapdaemon.capture._loop cimport FAILED, FILE_HEADER, INTERFACE_DOWN, RUNNING, Loop, run_loop
from pcapdaemon.errors import CaptureRefused

cdef enum:
    SECOND = 1000000000
    SOCKADDR_SIZE = 28               # of an IPv6 address, the larger one
    KERNEL_FILTER = 4096             # BPF_MAXINSNS: a longer filter the kernel refuses, and libpcap runs it itself
    SOL_PACKET = 263                 # <bits/socket.h>; linux/if_packet.h does not define it

# In the order of the enumeration in _loop.pxd; `StopReason` in limits.py is made of these words.
STOP_REASONS = ("running", "packets", "bytes", "duration", "idle", "stopped", "memory", "interface-down", "error")


@cython.no_gc_clear  # __dealloc__ gives blocks back to the pool
cdef class Capture:
    """One live capture on one interface, into blocks of `pool`; raises `CaptureRefused` with libpcap's own words."""

    cdef Loop loop
    cdef BlockPool blocks
    cdef bytes name
    cdef bytes file_header
    cdef readonly str interface
    cdef readonly str linktype
    cdef readonly int snaplen
    cdef readonly str error

    def __cinit__(self, str interface, BlockPool pool):
        self.loop.wake_fd = -1
        self.interface = interface
        self.name = interface.encode()
        self.blocks = pool
        self.error = ""
        self.loop.pool = &pool.pool
        self.loop.size = FILE_HEADER
        self.loop.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __dealloc__(self):
        self.close()

    def open(self, *, int snaplen, bint promiscuous, int buffer_size, int buffer_timeout_ms, bint loopback):
        """Open and activate the interface; nothing passes until `set_filter`. Blocks for about 10 ms.

        snaplen and buffer_size are bytes. Raises CaptureRefused; `MemoryError` where the pool has no block left.
        """
        cdef char error[256]
        cdef pcap_t *handle
        cdef const char *linktype
        cdef int status
        self.loop.first = self.loop.last = take_block(self.loop.pool)
        if self.loop.first == NULL:
            raise MemoryError("the memory budget is spent")
        handle = pcap_create(self.name, error)
        if handle == NULL:
            raise CaptureRefused(error.decode(errors="replace"))
        self.loop.pcap = handle
        self.loop.buffer_timeout_ms = buffer_timeout_ms
        pcap_set_snaplen(handle, snaplen)
        # `any` cannot be promiscuous (libpcap pcap-linux.c), and says so by a warning that nobody can act on
        pcap_set_promisc(handle, promiscuous and self.interface != "any")
        pcap_set_timeout(handle, buffer_timeout_ms)
        pcap_set_buffer_size(handle, buffer_size)
        with nogil:
            status = pcap_activate(handle)
        if status < 0:
            raise self._refused(status)
        if loopback:
            self._ignore_outgoing()
        self._reject_all()
        if pcap_setnonblock(handle, 1, error) != 0:
            raise CaptureRefused(error.decode(errors="replace"))
        if pcap_get_selectable_fd(handle) < 0:
            raise CaptureRefused("this kind of device can't be waited for")
        self.snaplen = pcap_snapshot(handle)
        linktype = pcap_datalink_val_to_name(pcap_datalink(handle))
        self.linktype = linktype.decode() if linktype != NULL else f"DLT {pcap_datalink(handle)}"
        self.file_header = self._savefile_header()

    def set_filter(self, str expression, bint optimize):
        """Compile the capture filter on the live handle and arm the capture; may block for long on names in DNS.

        From here on packets that match are kept. The netmask is unknown, as pcap_compile(3pcap) has it, so an
        interface without an IPv4 address is no error. Raises CaptureRefused.
        """
        cdef bpf_program program
        cdef bytes text = expression.encode()
        cdef const char *words = text
        cdef int status
        with nogil:
            status = pcap_compile(self.loop.pcap, &program, words, optimize, PCAP_NETMASK_UNKNOWN)
            if status == 0 and program.bf_len > KERNEL_FILTER and not optimize:
                pcap_freecode(&program)
                status = pcap_compile(self.loop.pcap, &program, words, True, PCAP_NETMASK_UNKNOWN)
        if status != 0:
            raise CaptureRefused(pcap_geterr(self.loop.pcap).decode(errors="replace"), kind="filter")
        if program.bf_len > KERNEL_FILTER:
            length = program.bf_len
            pcap_freecode(&program)
            raise CaptureRefused(f"{length} instructions, and the kernel takes {KERNEL_FILTER}: shorten it", kind="filter")
        pcap_stats(self.loop.pcap, &self.loop.seen)  # what came before the filter is not of this capture
        with nogil:
            status = pcap_setfilter(self.loop.pcap, &program)
            pcap_freecode(&program)
        if status != 0:
            raise self._refused(status)

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

    def run(self):
        """Capture until a limit is reached or `stop` is called; the word of STOP_REASONS that says which. Blocks."""
        with nogil:
            run_loop(&self.loop)
        if self.loop.reason == FAILED:
            self.error = pcap_geterr(self.loop.pcap).decode(errors="replace")
            if self.interface != "any" and if_nametoindex(self.name) == 0:
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
        self._close_handle()
        if wake_fd >= 0:
            os.close(wake_fd)
        if self.loop.first != NULL:
            give_blocks(self.loop.pool, self.loop.first)
            self.loop.first = self.loop.last = NULL

    def take_blocks(self):
        """Hand the captured records over, once, after `run`."""
        cdef Blocks blocks = Blocks.__new__(Blocks)
        blocks.pool = self.blocks
        blocks.first = self.loop.first
        self.loop.first = self.loop.last = NULL
        return blocks

    @property
    def header(self):
        """The savefile's 24 bytes: linktype and snaplen as they are on this handle, microseconds, little-endian."""
        return self.file_header

    @property
    def packets(self):
        """Packets stored so far."""
        return self.loop.packets

    @property
    def size(self):
        """Bytes of the savefile so far."""
        return self.loop.size

    @property
    def times(self):
        """Times of the first and the last packet stored, microseconds since the epoch; zeros before the first."""
        return self.loop.first_us, self.loop.last_us

    @property
    def stats(self):
        """(received, dropped, dropped by interface) since the filter was set: pcap_stats(3pcap), widened to 64 bits.

        While running they are at most about a second old where packets come.
        """
        return self.loop.received, self.loop.dropped, self.loop.dropped_by_interface

    def _close_handle(self):
        cdef pcap_t *handle = self.loop.pcap
        self.loop.pcap = NULL
        if handle != NULL:
            with nogil:
                pcap_close(handle)

    def _refused(self, int status):
        words = (pcap_statustostr(status) if status != PCAP_ERROR else pcap_geterr(self.loop.pcap)).decode(errors="replace")
        detail = pcap_geterr(self.loop.pcap).decode(errors="replace")
        if detail and detail != words:
            words = f"{words} ({detail})"
        if status in (PCAP_ERROR_PERM_DENIED, PCAP_ERROR_PROMISC_PERM_DENIED):
            return CaptureRefused(words, kind="permission")
        if status in (PCAP_ERROR_NO_SUCH_DEVICE, PCAP_ERROR_IFACE_NOT_UP):
            return CaptureRefused(words, kind="interface")
        return CaptureRefused(words)

    def _ignore_outgoing(self):
        # On `lo` the kernel shows each packet twice and libpcap drops the outgoing copy. Refused by the kernel (4.20),
        # the copies never fill the buffer, and the counters are right.
        cdef int yes = 1
        setsockopt(pcap_get_selectable_fd(self.loop.pcap), SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes))

    def _reject_all(self):
        # Compiling the real filter takes a while; until then nothing may fill the buffer or be taken for a match.
        cdef bpf_insn instruction
        cdef bpf_program program
        instruction.code = 0x06      # BPF_RET | BPF_K, bytes to keep: none
        instruction.jt = instruction.jf = 0
        instruction.k = 0
        program.bf_len = 1
        program.bf_insns = &instruction
        pcap_setfilter(self.loop.pcap, &program)

    def _savefile_header(self):
        # libpcap writes it, for it alone maps its DLT_ values to the LINKTYPE_ values of files (DLT_RAW is 12, and 101)
        cdef char *buffer = NULL
        cdef size_t size = 0
        cdef FILE *file = open_memstream(&buffer, &size)
        cdef pcap_dumper_t *dumper
        if file == NULL:
            raise MemoryError
        dumper = pcap_dump_fopen(self.loop.pcap, file)
        if dumper == NULL:
            fclose(file)
            free(buffer)
            raise CaptureRefused(pcap_geterr(self.loop.pcap).decode(errors="replace"))
        pcap_dump_close(dumper)
        header = buffer[:size]
        free(buffer)
        return header


def list_devices():
    """All devices that libpcap knows: tuples of name, description, is loopback, is up, addresses. Needs no privilege."""
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
    cdef char text[64]
    found = []
    while address != NULL:
        if address.addr != NULL and address.addr.sa_family in (AF_INET, AF_INET6):
            if getnameinfo(address.addr, SOCKADDR_SIZE, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0:
                found.append(text.decode())
        address = address.next
    return found


def library_version():
    """libpcap's own words about its version."""
    return pcap_lib_version().decode()
