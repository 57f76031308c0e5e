# cython: language_level=3
"""A capture filter that runs on recorded bytes."""

from libc.stdint cimport uint8_t, uint32_t

from pcapdaemon.native.libpcap cimport bpf_insn, bpf_program

cdef enum:
    SCRATCH = 262144 + 4             # MOST_CAPTURED in records.pxd

cdef struct Filter:
    bpf_insn *code                   # NULL: every packet matches
    unsigned int start               # index of the first instruction to run
    bint asks_for_tag
    int tag_at                       # offset at which libpcap puts a VLAN tag back in; 0: none
    uint8_t *scratch

cdef bint filter_init(Filter *filter, const bpf_program *program, int tag_at) noexcept nogil
cdef void filter_free(Filter *filter) noexcept nogil
cdef bint filter_matches(
    Filter *filter, const uint8_t *data, uint32_t captured, uint32_t length
) noexcept nogil
