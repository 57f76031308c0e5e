# cython: language_level=3
"""An open interface or file, and a compiled capture filter."""

from libc.stdint cimport int64_t

from pcapdaemon.native.libpcap cimport bpf_program, pcap_t

cdef class Program:
    cdef bpf_program program

cdef class Handle:
    cdef pcap_t *pcap
    cdef int64_t tick_ns             # nanoseconds per unit of `tv_usec` in a packet's time
    cdef bytes name
    cdef readonly str interface
    cdef readonly str linktype
    cdef readonly int snaplen
    cdef readonly bytes file_header
    cdef object refused(self, int status)
    cdef Program compile(self, str expression, bint optimize)
    cdef bytes header_with(self, int snaplen)
    cdef int _describe(self) except -1
