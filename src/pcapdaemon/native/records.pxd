# cython: language_level=3
"""Finished savefile records in blocks of the pool, in one of two formats.

The functions are inline, because every packet passes through them.

pcap: a record as in draft-ietf-opsawg-pcap, microseconds. pcapng: an Enhanced Packet Block,
draft-ietf-opsawg-pcapng section 4.3, nanoseconds. Both are in the host's byte order, which is
little-endian wherever this is built.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from pcapdaemon.native.atomic cimport add, load, load_time, store, store_time
from pcapdaemon.native.blocks cimport Block, BlockList, Pool, append_block, take_block
from pcapdaemon.native.clock cimport SECOND
from pcapdaemon.native.headers cimport Beginning, end_of_common, end_of_headers

cdef enum:
    RECORD_HEADER = 16
    FILE_HEADER = 24
    ENHANCED_PACKET = 6
    PACKET_HEADER = 28               # of an Enhanced Packet Block, without the length at its end
    MOST_OPTIONS = 24                # direction, a comment, the end of options
    MOST_CAPTURED = 262144 + 4       # libpcap's MAXIMUM_SNAPLEN, and a VLAN tag that is put back in

# Of captures that share their limits. Each capture's thread changes packets and size with `add`.
cdef struct SharedCounts:
    uint64_t packets
    uint64_t size
    # monotonic: when the last packet arrived; the latest `store` wins
    int64_t last_at

cdef enum Direction:
    UNKNOWN = 0
    INBOUND = 1
    OUTBOUND = 2

# The capture's thread writes it. Any thread may `load` the four words marked *.
cdef struct Output:
    Pool *pool
    BlockList blocks
    uint64_t packets                 # *
    uint64_t size                    # * bytes of the savefile, including headers
    int64_t first_ns                 # * times of the first and the last packet stored
    int64_t last_ns                  # *
    bint pcapng
    # pcapng: number of the interface description that packets refer to
    uint32_t number
    # Packets begin with a header that has their direction.
    bint cooked
    bint headers_only                # packets are cut after their transport header
    Beginning beginning
    SharedCounts *shared             # NULL: the capture has limits of its own
    # The next packet is the first after the trigger, and gets a comment that says so.
    bint mark

cdef inline uint64_t all_packets(Output *output) noexcept nogil:
    return output.packets if output.shared == NULL else load(&output.shared.packets)

cdef inline uint64_t all_size(Output *output) noexcept nogil:
    return output.size if output.shared == NULL else load(&output.shared.size)

cdef inline bint may_keep(Output *output, uint64_t max_packets, uint64_t max_size) noexcept nogil:
    """Whether the shared limits have room for one more packet, which then counts.

    True if the limits are not shared.
    """
    if output.shared == NULL:
        return True
    return load(&output.shared.size) < max_size and add(&output.shared.packets, 1) <= max_packets

cdef inline int64_t last_of_all(Output *output, int64_t own) noexcept nogil:
    if output.shared == NULL:
        return own
    if own > load_time(&output.shared.last_at):
        store_time(&output.shared.last_at, own)
    return max(own, load_time(&output.shared.last_at))

cdef inline size_t record_size(Output *output, uint32_t captured, uint32_t options) noexcept nogil:
    if not output.pcapng:
        return RECORD_HEADER + captured
    return PACKET_HEADER + ((captured + 3) & ~3) + options + 4

cdef inline uint8_t *room_for(Output *output, size_t size) noexcept nogil:
    """Return where the next record goes; NULL if the pool has no block left."""
    cdef Block *block = output.blocks.last
    if block == NULL or block.used + size > output.pool.block_size:
        block = take_block(output.pool)
        if block == NULL:
            return NULL
        append_block(&output.blocks, block)
    return block.data + block.used

cdef inline Direction direction_of(
    Output *output, const uint8_t *data, uint32_t captured
) noexcept nogil:
    # LINKTYPE_LINUX_SLL: the first two bytes are the packet type. 4 is a packet that this host
    # sent, 0 to 3 one that it received.
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

cdef inline void put_enhanced(
    Output *output, uint8_t *at, int64_t ns, uint32_t captured, uint32_t length,
    const uint8_t *data, const uint32_t *options, uint32_t size_of_options,
) noexcept nogil:
    cdef uint32_t size = <uint32_t> record_size(output, captured, size_of_options)
    cdef uint32_t padding = 0
    cdef uint32_t padded = (captured + 3) & ~<uint32_t> 3
    cdef uint32_t header[7]
    header[0] = ENHANCED_PACKET
    header[1] = size
    header[2] = output.number
    header[3] = <uint32_t> (<uint64_t> ns >> 32)
    header[4] = <uint32_t> <uint64_t> ns
    header[5] = captured
    header[6] = length
    memcpy(at, header, PACKET_HEADER)
    memcpy(at + PACKET_HEADER, data, captured)
    memcpy(at + PACKET_HEADER + captured, &padding, padded - captured)
    memcpy(at + PACKET_HEADER + padded, options, size_of_options)
    memcpy(at + size - 4, &size, 4)

cdef inline void put_plain(uint8_t *at, int64_t ns, uint32_t captured, uint32_t length,
                           const uint8_t *data) noexcept nogil:
    cdef uint32_t header[4]
    header[0] = <uint32_t> (ns // SECOND)
    header[1] = <uint32_t> (ns % SECOND // 1000)
    header[2] = captured
    header[3] = length
    memcpy(at, header, RECORD_HEADER)
    memcpy(at + RECORD_HEADER, data, captured)

cdef inline void count_packet(Output *output, int64_t ns, size_t size) noexcept nogil:
    if output.shared != NULL:
        add(&output.shared.size, size)
    output.blocks.last.used += size
    output.blocks.last.packets += 1
    if output.packets == 0:
        store_time(&output.first_ns, ns)
    store_time(&output.last_ns, ns)
    store(&output.size, output.size + size)
    store(&output.packets, output.packets + 1)

cdef inline bint put_packet(Output *output, int64_t ns, uint32_t captured, uint32_t length,
                            const uint8_t *data) noexcept nogil:
    """Append one packet of at most MOST_CAPTURED bytes.

    Returns False, and does nothing, if the pool has no block left.
    """
    cdef uint32_t options[6]
    cdef uint32_t size_of_options = 0
    cdef uint8_t *at
    if output.headers_only:
        captured = end_of_common(output.beginning, data, captured) or end_of_headers(
            output.beginning, data, captured
        )
    if output.pcapng and (output.mark or output.cooked):
        size_of_options = put_options(options, direction_of(output, data, captured), output.mark)
    at = room_for(output, record_size(output, captured, size_of_options))
    if at == NULL:
        return False
    if output.pcapng:
        put_enhanced(output, at, ns, captured, length, data, options, size_of_options)
    else:
        put_plain(at, ns, captured, length, data)
    count_packet(output, ns, record_size(output, captured, size_of_options))
    output.mark = False
    return True

cdef inline size_t size_of_record(Output *output, const uint8_t *at) noexcept nogil:
    """Return the bytes of the record at this address."""
    cdef uint32_t header[4]
    memcpy(header, at, sizeof(header))
    return header[1] if output.pcapng else RECORD_HEADER + header[2]

cdef inline int64_t time_of_record(Output *output, const uint8_t *at) noexcept nogil:
    """Return nanoseconds since the epoch; a pcap record has microseconds only."""
    cdef uint32_t header[5]
    memcpy(header, at, sizeof(header))
    if output.pcapng:
        return <int64_t> (<uint64_t> header[3] << 32 | header[4])
    return header[0] * SECOND + header[1] * <int64_t> 1000
