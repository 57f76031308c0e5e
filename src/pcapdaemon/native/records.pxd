# cython: language_level=3
"""Finished savefile records in blocks of the pool, in one of two formats; inline, for each packet comes through here.

pcap: a record as in draft-ietf-opsawg-pcap, microseconds. pcapng: an Enhanced Packet Block, draft-ietf-opsawg-pcapng
section 4.3, nanoseconds. Both in the host's byte order, which is little-endian wherever this is built.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from pcapdaemon.native.blocks cimport Block, Pool, take_block

cdef enum:
    RECORD_HEADER = 16
    FILE_HEADER = 24
    ENHANCED_PACKET = 6
    PACKET_HEADER = 28               # of an Enhanced Packet Block, without the length that ends it
    MOST_OPTIONS = 24                # direction, a comment, the end of options

cdef extern from *:
    """
    #define add_and_get(at, value) __atomic_add_fetch(at, value, __ATOMIC_RELAXED)
    #define get_value(at) __atomic_load_n(at, __ATOMIC_RELAXED)
    #define set_value(at, value) __atomic_store_n(at, value, __ATOMIC_RELAXED)
    """
    uint64_t add_and_get(uint64_t *at, uint64_t value) noexcept nogil
    uint64_t get_value(uint64_t *at) noexcept nogil
    int64_t get_time "get_value" (int64_t *at) noexcept nogil
    void set_time "set_value" (int64_t *at, int64_t value) noexcept nogil

cdef struct SharedCounts:                   # what several captures have together that share their limits
    uint64_t packets
    uint64_t size
    int64_t last_at                  # monotonic: when the last packet came

cdef enum Direction:
    UNKNOWN = 0
    INBOUND = 1
    OUTBOUND = 2

cdef struct Output:
    Pool *pool
    Block *first
    Block *last
    uint64_t packets
    uint64_t size                    # of the savefile in bytes, its headers counted
    int64_t first_ns                 # time of the first and the last packet stored
    int64_t last_ns
    bint pcapng
    uint32_t number                  # pcapng: of the interface description that packets belong to
    bint cooked                      # packets begin with a header that says in which direction they went
    SharedCounts *shared                     # NULL: its limits are its own
    bint mark                        # the next packet is the first after the trigger, which a comment says

cdef inline uint64_t all_packets(Output *output) noexcept nogil:
    return output.packets if output.shared == NULL else get_value(&output.shared.packets)

cdef inline uint64_t all_size(Output *output) noexcept nogil:
    return output.size if output.shared == NULL else get_value(&output.shared.size)

cdef inline bint may_keep(Output *output, uint64_t max_packets, uint64_t max_size) noexcept nogil:
    """Whether there is room for one more within limits that are shared; where there is, it is taken."""
    if output.shared == NULL:
        return True
    return get_value(&output.shared.size) < max_size and add_and_get(&output.shared.packets, 1) <= max_packets

cdef inline int64_t last_of_all(Output *output, int64_t own) noexcept nogil:
    if output.shared == NULL:
        return own
    if own > get_time(&output.shared.last_at):
        set_time(&output.shared.last_at, own)
    return max(own, get_time(&output.shared.last_at))

cdef inline size_t record_size(Output *output, uint32_t captured, uint32_t options) noexcept nogil:
    if not output.pcapng:
        return RECORD_HEADER + captured
    return PACKET_HEADER + ((captured + 3) & ~3) + options + 4

cdef inline bint room_for(Output *output, size_t size) noexcept nogil:
    cdef Block *block
    if output.last != NULL and output.last.used + size <= output.pool.block_size:
        return True
    block = take_block(output.pool)
    if block == NULL:
        return False
    if output.last == NULL:
        output.first = block
    else:
        output.last.next = block
    output.last = block
    return True

cdef inline Direction direction_of(Output *output, const uint8_t *data, uint32_t captured) noexcept nogil:
    # LINKTYPE_LINUX_SLL: the first two bytes are the packet type, 4 is what this host sent, up to 3 what came
    if not output.cooked or captured < 2 or data[0] != 0:
        return UNKNOWN
    return OUTBOUND if data[1] == 4 else INBOUND if data[1] < 4 else UNKNOWN

cdef inline uint32_t put_options(uint32_t *at, Direction direction, bint mark) noexcept nogil:
    cdef uint32_t words = 0
    if direction != UNKNOWN:
        at[0] = 2 | 4 << 16          # epb_flags
        at[1] = direction
        words = 2
    if mark:
        at[words] = 1 | 7 << 16      # opt_comment
        memcpy(at + words + 1, b"trigger\0", 8)
        words += 3
    if words:
        at[words] = 0                # opt_endofopt
        words += 1
    return words * 4

cdef inline bint store(Output *output, int64_t ns, uint32_t captured, uint32_t length, const uint8_t *data) noexcept nogil:
    """Append one packet; false, and nothing done, where the memory is spent."""
    cdef uint32_t *record
    cdef uint32_t options[6]
    cdef uint32_t size_of_options = 0
    cdef uint64_t stamp
    cdef size_t size
    if output.pcapng and (output.mark or output.cooked):
        size_of_options = put_options(options, direction_of(output, data, captured), output.mark)
    size = record_size(output, captured, size_of_options)
    if not room_for(output, size):
        return False
    record = <uint32_t *> (output.last.data + output.last.used)
    if output.pcapng:
        stamp = <uint64_t> ns
        record[0] = ENHANCED_PACKET
        record[1] = <uint32_t> size
        record[2] = output.number
        record[3] = <uint32_t> (stamp >> 32)
        record[4] = <uint32_t> stamp
        record[5] = captured
        record[6] = length
        record[6 + (captured + 3) // 4] = 0 if captured else length  # what pads the packet
        memcpy(record + 7, data, captured)
        memcpy(record + 7 + (captured + 3) // 4, options, size_of_options)
        record[size // 4 - 1] = <uint32_t> size
    else:
        record[0] = <uint32_t> (ns // 1000000000)
        record[1] = <uint32_t> (ns % 1000000000 // 1000)
        record[2] = captured
        record[3] = length
        memcpy(record + 4, data, captured)
    if output.shared != NULL:
        add_and_get(&output.shared.size, size)
    output.last.used += size
    output.last.packets += 1
    output.size += size
    if output.packets == 0:
        output.first_ns = ns
    output.last_ns = ns
    output.packets += 1
    output.mark = False
    return True
