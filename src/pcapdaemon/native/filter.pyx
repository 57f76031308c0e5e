# cython: language_level=3
"""Capture filters on recorded bytes, with the same meaning as on the wire.

The kernel removes the first VLAN tag from a frame and stores it beside the frame. The filter runs
in that state, and libpcap puts the tag back afterwards. So `udp port 53` matches a tagged frame,
and `vlan 10` reads the stored tag with "ancillary" loads (libpcap gencode.c, linux/filter.h).

To get the same result on recorded bytes, the same program runs on the frame without its tag. Loads
from two words of scratch memory, which hold the tag, replace the ancillary loads.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from pcapdaemon.native.libpcap cimport *

cdef enum:
    ANCILLARY = 0xfffff000           # SKF_AD_OFF: loads from this offset on do not read the packet
    BESIDE = 0xffe00000              # SKF_LL_OFF, the lowest such offset
    VLAN_TAG = 44                    # SKF_AD_VLAN_TAG
    VLAN_TAG_PRESENT = 48            # SKF_AD_VLAN_TAG_PRESENT
    LOAD_ABSOLUTE = 0x20             # BPF_LD | BPF_ABS, without the size
    LOAD_IMMEDIATE = 0x00
    LOAD_MEMORY = 0x60
    STORE = 0x02
    # The last two of BPF_MEMWORDS. libpcap allocates words from the other end.
    PRESENT_AT = 14
    # Instructions before the program: those that clear the other words, and those that put the tag
    # into these two.
    CLEARING = 1 + PRESENT_AT
    PREFIX = CLEARING + 5
    TAG_AT = 15
    TAG = 4                          # bytes

cdef bint touches_our_words(const bpf_insn *one) noexcept nogil:
    return one.code in (0x02, 0x03, 0x60, 0x61) and one.k >= PRESENT_AT  # ST, STX, LD MEM, LDX MEM

cdef bint reads_memory(const bpf_insn *one) noexcept nogil:
    return one.code in (0x60, 0x61)  # LD MEM, LDX MEM

cdef bint filter_init(Filter *filter, const bpf_program *program, int tag_at) noexcept nogil:
    """Take a program that was compiled on the live handle.

    Returns False if it tests something that is not recorded, or if memory is short.
    """
    cdef bpf_insn *one
    cdef unsigned int n
    filter.code = <bpf_insn *> calloc(program.bf_len + PREFIX, sizeof(bpf_insn))
    filter.scratch = <uint8_t *> malloc(SCRATCH)
    filter.tag_at = tag_at
    filter.start = PREFIX
    if filter.code == NULL or filter.scratch == NULL:
        return False
    memcpy(filter.code + PREFIX, program.bf_insns, program.bf_len * sizeof(bpf_insn))
    for n in range(program.bf_len):
        one = filter.code + PREFIX + n
        if touches_our_words(one):
            return False
        if reads_memory(one):
            filter.start = 0
        if one.code & ~0x18 != LOAD_ABSOLUTE or one.k < BESIDE:
            continue
        if one.k == ANCILLARY + VLAN_TAG or one.k == ANCILLARY + VLAN_TAG_PRESENT:
            one.k = TAG_AT if one.k == ANCILLARY + VLAN_TAG else PRESENT_AT
            one.code = LOAD_MEMORY
            filter.asks_for_tag = True
            filter.start = min(filter.start, CLEARING)
        else:
            return False
    put_prefix(filter.code)
    return True

cdef void put_prefix(bpf_insn *code) noexcept nogil:
    # libpcap forgets to set words that some filters with several of `vlan`, `mpls` and `pppoes`
    # read. The kernel refuses those.
    cdef bpf_insn *tag = code + CLEARING
    cdef unsigned int n
    code[0].code = LOAD_IMMEDIATE
    for n in range(PRESENT_AT):
        code[1 + n].code, code[1 + n].k = STORE, n
    tag[0].code = tag[2].code = tag[4].code = LOAD_IMMEDIATE
    tag[1].code = tag[3].code = STORE
    tag[1].k, tag[3].k = PRESENT_AT, TAG_AT

cdef void filter_free(Filter *filter) noexcept nogil:
    free(filter.code)
    free(filter.scratch)
    filter.code = NULL
    filter.scratch = NULL

cdef bint is_tagged(const uint8_t *data, uint32_t captured, int tag_at) noexcept nogil:
    # The two tags that the kernel removes (skb_vlan_untag): 802.1Q and 802.1ad.
    if tag_at == 0 or captured < <uint32_t> tag_at + TAG:
        return False
    if data[tag_at] == 0x81:
        return data[tag_at + 1] == 0x00
    return data[tag_at] == 0x88 and data[tag_at + 1] == 0xa8

cdef bint filter_matches(
    Filter *filter, const uint8_t *data, uint32_t captured, uint32_t length
) noexcept nogil:
    cdef bint tagged
    cdef uint32_t after
    if filter.code == NULL:
        return True
    tagged = is_tagged(data, captured, filter.tag_at)
    if filter.asks_for_tag:
        filter.code[CLEARING].k = tagged
        after = data[filter.tag_at + 2] << 8 | data[filter.tag_at + 3] if tagged else 0
        filter.code[CLEARING + 2].k = after
    if tagged and captured <= SCRATCH:
        memcpy(filter.scratch, data, filter.tag_at)
        after = filter.tag_at + TAG
        memcpy(filter.scratch + filter.tag_at, data + after, captured - after)
        data, captured, length = filter.scratch, captured - TAG, length - TAG
    return bpf_filter(filter.code + filter.start, data, length, captured) != 0
