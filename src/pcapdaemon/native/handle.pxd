# cython: language_level=3
"""An open interface or file, and a compiled capture filter."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from pcapdaemon.native.compiling cimport Compiled
from pcapdaemon.native.device cimport Device
from pcapdaemon.native.filter cimport Filter
from pcapdaemon.native.libpcap cimport bpf_program, pcap_stat, pcap_t

cdef class Program:
    cdef bpf_program program
    cdef int take(self, const Compiled *compiled) except -1

cdef class Handle:
    cdef pcap_t *pcap
    cdef int64_t tick_ns             # nanoseconds per unit of `tv_usec` in a packet's time
    cdef Device device
    cdef bytes name
    cdef readonly str interface
    cdef readonly str linktype
    cdef readonly int snaplen
    cdef readonly bytes file_header
    cdef object refused(self, int status)
    cdef bint is_socket              # a packet socket, so the kernel can run filters on it
    # Packets that arrived before anything was filtered, and the wall clock at their end. They are
    # the first that libpcap delivers.
    cdef uint64_t early
    cdef uint32_t keep               # bytes of a packet that the kernel's filter keeps
    cdef int64_t opened_ns
    cdef pcap_stat seen              # what the kernel had counted then
    cdef bint is_cooked(self)
    cdef Program compile(self, str expression, bint names)
    cdef bint attach(self, Program program) except -1
    cdef int tag_at(self)
    cdef int filter_here(self, Filter *filter, Program program, int tag_at) except -1
    cdef bytes header_with(self, int snaplen)
    cdef int _describe(self) except -1
    cdef int _reject_all(self) except -1
    cdef void _let_all_pass(self)
