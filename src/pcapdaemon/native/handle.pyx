# cython: language_level=3
"""Opens an interface or a file, and compiles capture filters for it.

Errors have libpcap's own words.
"""

import os

from libc.stdio cimport FILE, fclose
from libc.stdlib cimport free

from pcapdaemon.native.libpcap cimport *
from pcapdaemon.native.posix cimport *
from pcapdaemon.core.errors import CaptureRefused

cdef enum:
    # BPF_MAXINSNS. The kernel refuses a longer filter, and libpcap would then run it in user space.
    KERNEL_FILTER = 4096
    SOL_PACKET = 263                 # <bits/socket.h>; linux/if_packet.h does not define it

cdef bytes MICROSECONDS = b"\xd4\xc3\xb2\xa1"


cdef class Program:
    """A compiled capture filter."""

    def __dealloc__(self):
        pcap_freecode(&self.program)


cdef class Handle:
    """One open interface or file. The last reference closes it.

    Closing an interface takes about 25 ms, because the kernel waits for readers of its lists.
    """

    def __cinit__(self, str interface):
        self.interface = interface
        self.name = interface.encode()

    def __dealloc__(self):
        cdef pcap_t *handle = self.pcap
        self.pcap = NULL
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
        self.linktype = linktype.decode() if linktype != NULL else f"DLT {pcap_datalink(self.pcap)}"
        self.file_header = MICROSECONDS + self._savefile_header()[4:]
        return 0

    cdef bytes header_with(self, int snaplen):
        """Return the 24 bytes of a pcap file's header with another snapshot length."""
        return self.file_header[:16] + snaplen.to_bytes(4, "little") + self.file_header[20:]

    cdef Program compile(self, str expression, bint optimize):
        """Compile a capture filter for this handle. Blocks while it resolves names.

        The netmask is PCAP_NETMASK_UNKNOWN, see pcap_compile(3pcap), so an interface without an
        IPv4 address is no error. libpcap changes nothing in the handle except the text of its last
        error. So several threads may compile at once, and one thread may read packets meanwhile.
        Raises CaptureRefused.
        """
        cdef Program made = Program.__new__(Program)
        cdef bytes text = expression.encode()
        cdef const char *words = text
        cdef int status
        with nogil:
            status = pcap_compile(self.pcap, &made.program, words, optimize, PCAP_NETMASK_UNKNOWN)
            if status == 0 and made.program.bf_len > KERNEL_FILTER and not optimize:
                pcap_freecode(&made.program)
                status = pcap_compile(self.pcap, &made.program, words, True, PCAP_NETMASK_UNKNOWN)
        if status != 0:
            raise CaptureRefused(pcap_geterr(self.pcap).decode(errors="replace"), kind="filter")
        if made.program.bf_len > KERNEL_FILTER:
            length = f"the filter compiles to {made.program.bf_len} instructions"
            limit = f"the kernel accepts at most {KERNEL_FILTER}"
            raise CaptureRefused(f"{length}, but {limit}; shorten it", kind="filter")
        return made

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
        return CaptureRefused(words)

    def _ignore_outgoing(self):
        # On `lo` the kernel delivers each packet twice, and libpcap drops the outgoing copy. If the
        # kernel ignores the copies instead (since 4.20), they don't fill the buffer, and the
        # counters are right.
        cdef int yes = 1
        cdef int fd = pcap_get_selectable_fd(self.pcap)
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes))

    def _reject_all(self):
        # Compiling the real filter takes a while. Until then no packet may fill the buffer or count
        # as a match.
        cdef bpf_insn instruction
        cdef bpf_program program
        instruction.code = 0x06      # BPF_RET | BPF_K: keep 0 bytes
        instruction.jt = instruction.jf = 0
        instruction.k = 0
        program.bf_len = 1
        program.bf_insns = &instruction
        pcap_setfilter(self.pcap, &program)

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
