# cython: language_level=3
"""Compiles capture filters, those of strangers in a process of their own."""

from libc.stdint cimport uint32_t

from pcapdaemon.native.libpcap cimport bpf_insn, bpf_program, pcap_t

cdef enum:
    MOST_INSTRUCTIONS = 4096         # BPF_MAXINSNS in the kernel

cdef enum CompileState:
    UNDONE = 0                       # the process ended, or was ended, before it had a result
    COMPILED
    REFUSED                          # by libpcap, whose words are `error`
    TOO_LONG

# Written by the process that compiles.
cdef struct Compiled:
    int state
    unsigned int length              # instructions; also of a program that is too long
    char error[256]
    bpf_insn code[MOST_INSTRUCTIONS]

cdef void compile_here(
    pcap_t *pcap, const char *text, uint32_t netmask, Compiled *out) noexcept nogil
cdef int compile_apart(
    pcap_t *pcap, const char *text, uint32_t netmask, bint names, Compiled *out) noexcept nogil
