# cython: language_level=3
"""Compares two compiled forms of one capture filter on generated packets.

libpcap's optimizer miscompiles some filters. Random packets would not show that, because hardly any
gets past a filter's first tests. So a packet is made by a walk through the plain form: at each test
of a field the walk takes either branch by chance, and writes into the packet what leads there.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from pcapdaemon.native.libpcap cimport bpf_filter, bpf_insn, bpf_program

cdef enum:
    PACKET = 512                     # bytes of a generated packet
    MOST_SAMPLES = 4000
    MOST_STEPS = 20000               # of one walk; a filter with `protochain` has a loop
    # Classic BPF, see <linux/bpf_common.h>.
    CLASS = 0x07
    LD = 0
    LDX = 1
    ST = 2
    STX = 3
    ALU = 4
    JMP = 5
    RET = 6
    MISC = 7
    MODE = 0xe0
    ABS = 0x20
    IND = 0x40
    MEM = 0x60
    MSH = 0xa0
    JA = 0x00
    JEQ = 0x10
    JGT = 0x20
    JGE = 0x30
    JSET = 0x40
    AND = 0x50
    FROM_X = 0x08

cdef struct Walk:
    uint8_t data[PACKET]
    uint8_t fixed[PACKET]            # bits that an earlier test decided
    uint64_t random
    # Where the accumulator was loaded from: `width` bytes at `at`, and `mask`; width 0: elsewhere.
    uint32_t at
    uint32_t width
    uint32_t mask
    uint32_t accumulator
    uint32_t index
    uint32_t memory[16]
    # The same three for each word of memory, because libpcap stores fields there.
    uint32_t memory_at[16]
    uint32_t memory_width[16]
    uint32_t memory_mask[16]

cdef uint32_t chance(Walk *walk) noexcept nogil:
    walk.random = walk.random * <uint64_t> 6364136223846793005 + <uint64_t> 1442695040888963407
    return <uint32_t> (walk.random >> 33)

cdef uint32_t read_at(const uint8_t *data, uint32_t at, uint32_t width) noexcept nogil:
    cdef uint32_t value = 0
    cdef uint32_t n
    for n in range(width):
        value = value << 8 | data[at + n]
    return value

cdef bint write_at(Walk *walk, uint32_t value) noexcept nogil:
    """Give the field under test a value; False if earlier tests decided otherwise."""
    cdef uint32_t n, shift
    cdef uint8_t wanted, bits
    for n in range(walk.width):
        shift = 8 * (walk.width - 1 - n)
        wanted, bits = <uint8_t> (value >> shift), <uint8_t> (walk.mask >> shift)
        if (walk.data[walk.at + n] ^ wanted) & bits & walk.fixed[walk.at + n]:
            return False
    for n in range(walk.width):
        shift = 8 * (walk.width - 1 - n)
        wanted, bits = <uint8_t> (value >> shift), <uint8_t> (walk.mask >> shift)
        walk.data[walk.at + n] = (walk.data[walk.at + n] & ~bits) | (wanted & bits)
        walk.fixed[walk.at + n] |= bits
    return True

cdef bint load(Walk *walk, const bpf_insn *one) noexcept nogil:
    cdef uint32_t mode = one.code & MODE
    cdef uint32_t width = 4 >> ((one.code >> 3) & 3)
    walk.width = 0
    if mode == ABS or mode == IND:
        walk.at = one.k + (walk.index if mode == IND else 0)
        if walk.at > PACKET - 4:     # also what the kernel has beside the packet
            return False
        walk.width = width
        walk.mask = 0xffffffff
        walk.accumulator = read_at(walk.data, walk.at, width)
    elif mode == MEM:
        walk.accumulator = walk.memory[one.k & 15]
        walk.at, walk.width = walk.memory_at[one.k & 15], walk.memory_width[one.k & 15]
        walk.mask = walk.memory_mask[one.k & 15]
    else:
        walk.accumulator = one.k if mode == 0 else PACKET  # the packet's length
    return True

cdef bint load_index(Walk *walk, const bpf_insn *one) noexcept nogil:
    cdef uint32_t mode = one.code & MODE
    if mode == MSH:
        if one.k >= PACKET:
            return False
        if not walk.fixed[one.k]:    # an IP header without options, as nearly all are
            walk.data[one.k] = 0x45
            walk.fixed[one.k] = 0x0f
        walk.index = (walk.data[one.k] & 0x0f) << 2
    elif mode == MEM:
        walk.index = walk.memory[one.k & 15]
    else:
        walk.index = one.k if mode == 0 else PACKET
    return True

cdef void store(Walk *walk, const bpf_insn *one) noexcept nogil:
    cdef uint32_t word = one.k & 15
    if one.code & CLASS == STX:
        walk.memory[word], walk.memory_width[word] = walk.index, 0
        return
    walk.memory[word] = walk.accumulator
    walk.memory_at[word], walk.memory_width[word] = walk.at, walk.width
    walk.memory_mask[word] = walk.mask

cdef bint compute(Walk *walk, const bpf_insn *one) noexcept nogil:
    cdef uint32_t value = walk.index if one.code & FROM_X else one.k
    cdef uint32_t operation = one.code & 0xf0
    if operation == AND:
        walk.accumulator &= value
        walk.mask &= value
        return True
    walk.width = 0
    if operation == 0x00:
        walk.accumulator += value
    elif operation == 0x10:
        walk.accumulator -= value
    elif operation == 0x20:
        walk.accumulator *= value
    elif operation == 0x40:
        walk.accumulator |= value
    elif operation == 0x60:
        walk.accumulator = walk.accumulator << value if value < 32 else 0
    elif operation == 0x70:
        walk.accumulator = walk.accumulator >> value if value < 32 else 0
    elif operation == 0x80:
        walk.accumulator = -walk.accumulator
    elif operation == 0xa0:
        walk.accumulator ^= value
    elif value == 0:
        return False
    else:
        walk.accumulator = (
            walk.accumulator // value if operation == 0x30 else walk.accumulator % value
        )
    return True

cdef bint holds(uint32_t test, uint32_t left, uint32_t right) noexcept nogil:
    if test == JEQ:
        return left == right
    if test == JGT:
        return left > right
    return left >= right if test == JGE else (left & right) != 0

cdef bint decide(Walk *walk, const bpf_insn *one) noexcept nogil:
    """Return which branch the walk takes at a test."""
    cdef uint32_t test = one.code & 0xf0
    cdef uint32_t value = walk.index if one.code & FROM_X else one.k
    cdef bint wanted = chance(walk) & 3 != 0
    cdef uint32_t made
    if not walk.width:
        return holds(test, walk.accumulator, value)
    if test == JEQ:
        made = value if wanted else value ^ (1 + chance(walk) % 255)
    elif test == JSET:
        made = walk.accumulator | value if wanted else walk.accumulator & ~value
    else:
        made = value + chance(walk) % 3 - 1
    if write_at(walk, made):
        walk.accumulator = read_at(walk.data, walk.at, walk.width) & walk.mask
    return holds(test, walk.accumulator, value)

cdef void make_packet(Walk *walk, const bpf_program *program) noexcept nogil:
    cdef const bpf_insn *one
    cdef uint32_t kind
    cdef long at = 0
    cdef int _
    memset(walk.data, 0, PACKET)
    memset(walk.fixed, 0, PACKET)
    memset(walk.memory, 0, sizeof(walk.memory))
    memset(walk.memory_width, 0, sizeof(walk.memory_width))
    walk.width = walk.accumulator = walk.index = 0
    for _ in range(MOST_STEPS):
        if at < 0 or at >= program.bf_len:
            return
        one = &program.bf_insns[at]
        at += 1
        kind = one.code & CLASS
        if kind == RET:
            return
        if kind == JMP:
            if one.code & 0xf0 == JA:
                at += <int> one.k
            else:
                at += one.jt if decide(walk, one) else one.jf
        elif not step(walk, one, kind):
            return

cdef bint step(Walk *walk, const bpf_insn *one, uint32_t kind) noexcept nogil:
    if kind == LD:
        return load(walk, one)
    if kind == LDX:
        return load_index(walk, one)
    if kind == ALU:
        return compute(walk, one)
    if kind == MISC:
        if one.code & 0xf8 == 0:     # tax
            walk.index = walk.accumulator
        else:
            walk.accumulator, walk.width = walk.index, 0
    else:
        store(walk, one)
    return True

cdef bint agree(const bpf_program *plain, const bpf_program *other) noexcept nogil:
    """Return whether both forms decide alike about all generated packets."""
    cdef Walk walk
    cdef int _
    cdef bint keeps
    walk.random = plain.bf_len
    for _ in range(min(MOST_SAMPLES, <int> plain.bf_len * 4)):
        make_packet(&walk, plain)
        keeps = bpf_filter(plain.bf_insns, walk.data, PACKET, PACKET) != 0
        if (bpf_filter(other.bf_insns, walk.data, PACKET, PACKET) != 0) != keeps:
            return False
    return True
