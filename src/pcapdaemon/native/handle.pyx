# cython: language_level=3
"""Opens an interface or a file, and compiles capture filters for it.

Errors have libpcap's own words.
"""

import os
from ipaddress import ip_interface

from libc.stdint cimport uint32_t
from libc.stdio cimport FILE
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from pcapdaemon.native.clock cimport clock_ns
from pcapdaemon.native.compiling cimport *
from pcapdaemon.native.device cimport device_close, device_init
from pcapdaemon.native.filter cimport Filter, filter_free, filter_init
from pcapdaemon.native.libpcap cimport *
from pcapdaemon.native.posix cimport *

from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.core.filters import is_simple
from pcapdaemon.native.rtnetlink import networks_of

cdef enum:
    SOL_PACKET = 263                 # <bits/socket.h>; linux/if_packet.h does not define it
    COOKED_HEADER = 16               # SLL_HDR_LEN
    # Classic BPF, see <linux/bpf_common.h> and <linux/filter.h>.
    LOAD = 0
    LOAD_X = 1
    ABSOLUTE = 0x20
    INDIRECT = 0x40
    LENGTH_OF_IP = 0xa0
    RETURN = 0x06                    # BPF_RET | BPF_K
    ANCILLARY = 0xfffff000
    PROTOCOL = 0
    PACKET_TYPE = 4

cdef uint32_t UNKNOWN = PCAP_NETMASK_UNKNOWN
cdef bytes MICROSECONDS = b"\xd4\xc3\xb2\xa1"


cdef class Program:
    """A compiled capture filter."""

    def __dealloc__(self):
        free(self.program.bf_insns)

    cdef int take(self, const Compiled *compiled) except -1:
        """Copy what was compiled."""
        cdef size_t size = compiled.length * sizeof(bpf_insn)
        self.program.bf_insns = <bpf_insn *> malloc(size)
        if self.program.bf_insns == NULL:
            raise MemoryError("no memory for the capture filter")
        memcpy(self.program.bf_insns, compiled.code, size)
        self.program.bf_len = compiled.length
        return 0


cdef object not_compiled(const Compiled *compiled, int error, bint names):
    """Return the exception for a filter that was not compiled."""
    cdef bytes words = compiled.error
    if compiled.state == REFUSED:
        text = words.decode(errors="replace")
        if not names and text.startswith(("unknown host", "unknown network", "unknown ether")):
            text += ": names are not looked up; write the address ([general] filter_names)"
        return CaptureRefused(text, kind="filter")
    if compiled.state == TOO_LONG:
        length = f"the filter compiles to {compiled.length} instructions"
        return CaptureRefused(
            f"{length}, but the kernel accepts at most {MOST_INSTRUCTIONS}; shorten it",
            kind="filter",
        )
    if error == ETIMEDOUT:
        return CaptureRefused("the filter takes too long to compile; shorten it", kind="filter")
    if error:
        return CaptureRefused(f"no process to compile the filter: {os.strerror(error)}")
    return CaptureRefused("the filter takes too much memory to compile; shorten it", kind="filter")


cdef bint move_loads(bpf_insn *code, unsigned int length) noexcept nogil:
    """Make a filter for cooked packets fit what the kernel sees: packets without that header.

    False if it tests what only the header has. Of the header, the kernel knows the packet type and
    the protocol (libpcap pcap-linux.c, fix_offset).
    """
    cdef bpf_insn *one
    cdef unsigned int n, mode
    for n in range(length):
        one = code + n
        mode = one.code & 0xe0
        if one.code & 0x07 not in (LOAD, LOAD_X) or mode not in (ABSOLUTE, INDIRECT, LENGTH_OF_IP):
            continue
        if one.k >= ANCILLARY:
            continue
        if one.k >= COOKED_HEADER:
            one.k -= COOKED_HEADER
        elif one.k == 0:
            one.k = ANCILLARY + PACKET_TYPE
        elif one.k == 14:
            one.k = ANCILLARY + PROTOCOL
        else:
            return False
    return True


cdef bint is_packet_socket(int fd) noexcept nogil:
    # On other sockets, a filter would see headers that libpcap's programs do not expect.
    cdef sockaddr_ll bound
    cdef socklen_t length = sizeof(bound)
    bound.sll_family = 0
    return (
        getsockname(fd, <sockaddr *> &bound, &length) == 0 and bound.sll_family == AF_PACKET
    )


cdef void cut_to(bpf_insn *code, unsigned int length, uint32_t snaplen) noexcept nogil:
    """Have a filter keep this many bytes of a matching packet."""
    cdef unsigned int n
    for n in range(length):
        if code[n].code == RETURN and code[n].k:
            code[n].k = snaplen


cdef bint attach_to_socket(int fd, Program program, bint cooked, uint32_t snaplen) noexcept:
    """Have the kernel run a filter.

    False if it can't: with a jump back, longer than net.core.optmem_max, or of the header.
    """
    cdef size_t size = program.program.bf_len * sizeof(bpf_insn)
    cdef bpf_insn *code = <bpf_insn *> malloc(size)
    cdef sock_fprog offered
    cdef bint taken = False
    if code == NULL:
        return False
    memcpy(code, program.program.bf_insns, size)
    cut_to(code, program.program.bf_len, snaplen)
    if not cooked or move_loads(code, program.program.bf_len):
        offered.len = <unsigned short> program.program.bf_len
        offered.filter = <sock_filter *> code
        taken = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &offered, sizeof(offered)) == 0
    free(code)
    return taken


cdef class Handle:
    """One open interface or file. The last reference closes it.

    Closing an interface takes about 25 ms, because the kernel waits for readers of its lists.
    """

    def __cinit__(self, str interface):
        self.device.link_fd = -1
        self.interface = interface
        self.name = interface.encode()

    def __dealloc__(self):
        cdef pcap_t *handle = self.pcap
        self.pcap = NULL
        device_close(&self.device)
        if handle != NULL:
            with nogil:
                pcap_close(handle)

    def open(
        self, *, int snaplen, bint promiscuous, int buffer_size, int buffer_timeout_ms,
        bint loopback
    ):
        """Open and activate the interface. No packet passes until a filter is set.

        Blocks for about 10 ms.

        `snaplen` and `buffer_size` are bytes. Raises CaptureRefused.
        """
        cdef char error[256]
        cdef int status
        self.pcap = pcap_create(self.name, error)
        if self.pcap == NULL:
            raise CaptureRefused(error.decode(errors="replace"))
        pcap_set_snaplen(self.pcap, snaplen)
        # `any` can't be promiscuous (libpcap pcap-linux.c). libpcap would return a warning that
        # nobody can act on.
        pcap_set_promisc(self.pcap, promiscuous and self.interface != "any")
        pcap_set_timeout(self.pcap, buffer_timeout_ms)
        pcap_set_buffer_size(self.pcap, buffer_size)
        status = pcap_set_tstamp_precision(self.pcap, PCAP_TSTAMP_PRECISION_NANO)
        self.tick_ns = 1 if status == 0 else 1000
        with nogil:
            status = pcap_activate(self.pcap)
        if status < 0:
            raise self.refused(status)
        if loopback:
            self._ignore_outgoing()
        self._reject_all()
        if pcap_setnonblock(self.pcap, 1, error) != 0:
            raise CaptureRefused(error.decode(errors="replace"))
        if pcap_get_selectable_fd(self.pcap) < 0:
            raise CaptureRefused("libpcap can't wait for packets on this kind of device")
        if not device_init(&self.device, pcap_get_selectable_fd(self.pcap), self.name):
            raise CaptureRefused(
                f"{self.interface} was renamed while it was opened", kind="interface"
            )
        self._describe()

    def read(self, str path):
        """Open a pcap or pcapng file of any byte order and precision.

        Raises CaptureRefused or OSError.
        """
        cdef char error[256]
        cdef int descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        cdef FILE *file = fdopen(descriptor, "rb")
        if file == NULL:
            os.close(descriptor)
            raise MemoryError
        self.tick_ns = 1
        with nogil:
            self.pcap = pcap_fopen_offline_with_tstamp_precision(
                file, PCAP_TSTAMP_PRECISION_NANO, error
            )
        if self.pcap == NULL:
            fclose(file)
            raise CaptureRefused(error.decode(errors="replace"), kind="file")
        self._describe()

    cdef int _describe(self) except -1:
        cdef const char *linktype = pcap_datalink_val_to_name(pcap_datalink(self.pcap))
        self.snaplen = pcap_snapshot(self.pcap)
        self.keep = self.snaplen
        self.linktype = linktype.decode() if linktype != NULL else f"DLT {pcap_datalink(self.pcap)}"
        self.file_header = MICROSECONDS + self._savefile_header()[4:]
        return 0

    cdef bytes header_with(self, int snaplen):
        """Return the 24 bytes of a pcap file's header with another snapshot length."""
        return self.file_header[:16] + snaplen.to_bytes(4, "little") + self.file_header[20:]

    cdef Program compile(self, str expression, bint names):
        """Compile a capture filter for this handle. With `names`, it may look up names.

        Blocks for at most five seconds, and without `names` for one. libpcap changes nothing in the
        handle except the text of its last error. So several threads may compile at once, and one
        thread may read packets meanwhile. Raises CaptureRefused.
        """
        cdef Program made = Program.__new__(Program)
        cdef Compiled *out = <Compiled *> calloc(2, sizeof(Compiled))
        cdef Compiled *best
        cdef bytes text = expression.encode()
        cdef const char *words = text
        cdef bint simple = is_simple(expression)
        cdef uint32_t netmask = self._netmask() if "broadcast" in expression else UNKNOWN
        cdef int error = 0
        if out == NULL:
            raise MemoryError("no memory to compile the capture filter")
        with nogil:
            if simple:
                compile_here(self.pcap, words, netmask, out)
            else:
                error = compile_apart(self.pcap, words, netmask, names, out)
        best = out + 1 if out[1].state == COMPILED else out
        try:
            if best.state != COMPILED:
                raise not_compiled(best, error, names)
            made.take(best)
        finally:
            free(out)
        return made

    def _netmask(self):
        """The netmask for `ip broadcast`, in network byte order, chosen as by tcpdump."""
        if not self.device.index:
            return UNKNOWN
        networks = [ip_interface(one) for one in networks_of(self.device.index) if "." in one]
        return int.from_bytes(networks[0].netmask.packed, "little") if networks else 0

    cdef bint attach(self, Program program) except -1:
        """Set the capture filter. From here on, matching packets pass.

        Returns False if the kernel can't run it: then all packets pass, and the caller filters
        them. Not with pcap_setfilter: libpcap would filter in user space too, but there `inbound`
        and `ifindex` match nothing, which is also what happens to the first block of packets; it
        counts packets that do not match as received, and writes warnings to stderr.
        """
        cdef int status
        if self.is_socket:
            if attach_to_socket(
                pcap_get_selectable_fd(self.pcap), program, self.is_cooked(), self.keep
            ):
                return True
            self._let_all_pass()
            return False
        with nogil:
            status = pcap_setfilter(self.pcap, &program.program)
        if status != 0:
            raise self.refused(status)
        return True

    cdef bint is_cooked(self):
        """Whether libpcap puts a header in front of packets, which the kernel's filter lacks."""
        return self.linktype == "LINUX_SLL"

    cdef int tag_at(self):
        """The offset at which libpcap puts a VLAN tag back in; 0 if it does not."""
        return {"EN10MB": 12, "LINUX_SLL": 14}.get(self.linktype, 0)

    cdef int filter_here(self, Filter *filter, Program program, int tag_at) except -1:
        """Prepare a filter that runs here, on the packets that libpcap delivers.

        `tag_at` is where libpcap puts a VLAN tag back in, or 0.
        """
        filter_free(filter)
        if not filter_init(filter, &program.program, tag_at):
            raise CaptureRefused(
                "the kernel can't run this filter, and it tests what packets do not contain;"
                " use protochain without inbound, outbound and ifindex",
                kind="filter",
            )
        return 0

    cdef object refused(self, int status):
        """Return the exception for an error of libpcap."""
        detail = pcap_geterr(self.pcap).decode(errors="replace")
        words = detail
        if status != PCAP_ERROR:
            words = pcap_statustostr(status).decode(errors="replace")
        if detail and detail != words:
            words = f"{words} ({detail})"
        if status in (PCAP_ERROR_PERM_DENIED, PCAP_ERROR_PROMISC_PERM_DENIED):
            return CaptureRefused(words, kind="permission")
        if status in (PCAP_ERROR_NO_SUCH_DEVICE, PCAP_ERROR_IFACE_NOT_UP):
            return CaptureRefused(words, kind="interface")
        if "Too many open files" in words:
            return CaptureRefused(words, kind="busy")
        return CaptureRefused(words)

    def _ignore_outgoing(self):
        # On `lo` the kernel delivers each packet twice, and libpcap drops the outgoing copy. If the
        # kernel ignores the copies instead (since 4.20), they don't fill the buffer, and the
        # counters are right.
        cdef int yes = 1
        cdef int fd = pcap_get_selectable_fd(self.pcap)
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes))

    cdef int _reject_all(self) except -1:
        # Until the real filter is compiled, no packet may fill the buffer or count as a match.
        cdef bpf_insn instruction
        cdef sock_fprog program
        cdef bpf_program whole
        cdef int fd = pcap_get_selectable_fd(self.pcap)
        instruction.code = 0x06      # BPF_RET | BPF_K: keep 0 bytes
        instruction.jt = instruction.jf = 0
        instruction.k = 0
        program.len = 1
        program.filter = <sock_filter *> &instruction
        self.is_socket = is_packet_socket(fd) and setsockopt(
            fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)
        ) == 0
        if not self.is_socket:       # libpcap filters these itself: netlink, USB, Bluetooth
            whole.bf_len, whole.bf_insns = 1, &instruction
            pcap_setfilter(self.pcap, &whole)
        self.opened_ns = clock_ns(CLOCK_REALTIME)
        if pcap_stats(self.pcap, &self.seen) == 0:
            self.early = self.seen.ps_recv - self.seen.ps_drop
        return 0

    cdef void _let_all_pass(self):
        cdef int unused = 0
        cdef int fd = pcap_get_selectable_fd(self.pcap)
        setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused))

    def _savefile_header(self):
        # libpcap writes the header, because only libpcap can map its DLT_ values to the LINKTYPE_
        # values of files (DLT_RAW is 12, LINKTYPE_RAW is 101).
        cdef char *buffer = NULL
        cdef size_t size = 0
        cdef FILE *file = open_memstream(&buffer, &size)
        cdef pcap_dumper_t *dumper
        if file == NULL:
            raise MemoryError
        dumper = pcap_dump_fopen(self.pcap, file)
        if dumper == NULL:
            fclose(file)
            free(buffer)
            raise CaptureRefused(pcap_geterr(self.pcap).decode(errors="replace"))
        pcap_dump_close(dumper)
        header = buffer[:size]
        free(buffer)
        return header
