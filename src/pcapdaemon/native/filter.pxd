# cython: language_level=3
"""A capture filter that runs on recorded bytes."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pcapdaemon.native.libpcap cimport bpf_insn, bpf_program, pcap_pkthdr

cdef enum:
    SCRATCH = 262144 + 4             # MOST_CAPTURED in records.pxd

cdef struct Filter:
    bpf_insn *code                   # NULL: every packet matches
    unsigned int start               # index of the first instruction to run
    bint asks_for_tag
    int tag_at                       # offset at which libpcap puts a VLAN tag back in; 0: none
    uint8_t *scratch

# What a delivered packet passes before a capture or a recorder takes it.
cdef struct Entrance:
    # Packets from before any filter, and the wall clock at their end, see `Handle`.
    uint64_t early
    int64_t opened_ns
    Filter filter                    # what the kernel can't run
    Filter required                  # what the policy of the requester allows

cdef bint filter_init(Filter *filter, const bpf_program *program, int tag_at) noexcept nogil
cdef void filter_free(Filter *filter) noexcept nogil
cdef bint filter_matches(
    Filter *filter, const uint8_t *data, uint32_t captured, uint32_t length
) noexcept nogil

cdef inline bint passes(
    Entrance *entrance, int64_t ns, const pcap_pkthdr *header, const uint8_t *data
) noexcept nogil:
    if entrance.early:
        entrance.early -= 1
        if ns <= entrance.opened_ns:
            return False
    if entrance.filter.code != NULL:
        if not filter_matches(&entrance.filter, data, header.caplen, header.len):
            return False
    if entrance.required.code == NULL:
        return True
    return filter_matches(&entrance.required, data, header.caplen, header.len)
