# cython: language_level=3
"""Merges the packets of several captures in time order, in the memory that they already have."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from pcapdaemon.native.blocks cimport (
    Block, BlockList, BlockPool, Blocks, Pool, append_block, blocks_of, clear_block, give_all,
    pop_block, take_block,
)
from pcapdaemon.native.records cimport PACKET_HEADER

cdef struct Merge:
    # what is left of each capture; `start` of a block is where it continues
    Block **sources
    size_t count
    Pool *pool
    BlockList merged
    BlockList spare
    uint64_t *packets                # packets kept of each capture
    uint64_t skip_packets
    uint64_t skip_bytes
    bint marked                      # the first packet after the trigger was seen
    bint short_of_memory

cdef uint64_t stamp(Block *block) noexcept nogil:
    cdef uint32_t *record = <uint32_t *> (block.data + block.start)
    return <uint64_t> record[3] << 32 | record[4]

cdef Block **earliest(Merge *merge) noexcept nogil:
    cdef Block **found = NULL
    cdef size_t n
    for n in range(merge.count):
        if merge.sources[n] == NULL:
            continue
        if found == NULL or stamp(merge.sources[n]) < stamp(found[0]):
            found = &merge.sources[n]
    return found

cdef bint next_block(Merge *merge) noexcept nogil:
    cdef Block *block = pop_block(&merge.spare)
    if block == NULL:
        block = take_block(merge.pool)
    if block == NULL:
        merge.short_of_memory = True
        return False
    clear_block(block)
    append_block(&merge.merged, block)
    return True

cdef void put(Merge *merge, const void *data, size_t size) noexcept nogil:
    cdef const uint8_t *at = <const uint8_t *> data
    cdef size_t part
    while size and not merge.short_of_memory:
        if merge.merged.last == NULL or merge.merged.last.used == merge.pool.block_size:
            if not next_block(merge):
                return
        part = min(size, merge.pool.block_size - merge.merged.last.used)
        memcpy(merge.merged.last.data + merge.merged.last.used, at, part)
        merge.merged.last.used += part
        at += part
        size -= part

cdef void put_record(Merge *merge, uint32_t *record) noexcept nogil:
    cdef size_t plain = PACKET_HEADER + ((record[5] + 3) & ~<uint32_t> 3)
    cdef uint8_t *options = <uint8_t *> record + plain
    cdef bint directed = record[1] > plain + 4 and options[0] == 2
    cdef bint marked = record[1] > plain + 4 and options[8 if directed else 0] == 1
    cdef uint32_t header[7]
    cdef uint32_t none = 0
    if not marked or not merge.marked:
        put(merge, record, record[1])
    else:  # the first packet after the trigger came from another capture
        memcpy(header, record, sizeof(header))
        header[1] = <uint32_t> plain + 4 + (12 if directed else 0)
        put(merge, header, sizeof(header))
        put(merge, record + 7, plain - sizeof(header) + (8 if directed else 0))
        if directed:
            put(merge, &none, 4)
        put(merge, &header[1], 4)
    merge.marked = merge.marked or marked

cdef void pass_empty(Merge *merge, Block **source) noexcept nogil:
    # A block is empty once all of it was taken. A capture without packets has an empty block from
    # the beginning.
    cdef Block *block = source[0]
    while block != NULL and block.start >= block.used:
        source[0] = block.next
        append_block(&merge.spare, block)
        block = source[0]

cdef void step(Merge *merge, Block **source) noexcept nogil:
    cdef Block *block = source[0]
    cdef uint32_t *record = <uint32_t *> (block.data + block.start)
    cdef size_t size = record[1]
    if merge.skip_packets or merge.skip_bytes:
        merge.skip_packets -= min(merge.skip_packets, 1)
        merge.skip_bytes -= min(merge.skip_bytes, size)
    else:
        put_record(merge, record)
        merge.packets[source - merge.sources] += 1
    block.start += size
    pass_empty(merge, source)

cdef void run(Merge *merge) noexcept nogil:
    cdef Block **source = earliest(merge)
    while source != NULL and not merge.short_of_memory:
        step(merge, source)
        source = earliest(merge)


cdef class SharedLimits:
    """The counts of captures that share their limits.

    `overhead` is the bytes of their file that are not packets.
    """

    def __cinit__(self, uint64_t overhead):
        self.counts.size = overhead


def merge(list captures, BlockPool pool, uint64_t skip_packets, uint64_t skip_bytes):
    """Merge pcapng captures in time order; return the `Blocks`, and each one's number of packets.

    The captures are empty afterwards. The oldest packets are left out: `skip_packets` of them, and
    as many as make up `skip_bytes`.

    Takes one block of the pool per capture, and one more. Raises MemoryError if the pool does not
    have them, and then changes nothing.
    """
    cdef Merge state
    cdef Blocks blocks
    cdef size_t n
    memset(&state, 0, sizeof(Merge))
    state.count, state.pool = len(captures), &pool.pool
    state.skip_packets, state.skip_bytes = skip_packets, skip_bytes
    for _ in range(len(captures) + 1):
        if not _take_spare(&state):
            give_all(state.pool, &state.spare)
            raise MemoryError("all memory for captures is in use ([general] memory)")
    state.sources = <Block **> calloc(len(captures), sizeof(Block *))
    state.packets = <uint64_t *> calloc(len(captures), sizeof(uint64_t))
    for n in range(state.count):
        blocks = captures[n]
        state.sources[n] = blocks.list.first
        blocks.list.first = blocks.list.last = NULL
        pass_empty(&state, &state.sources[n])
    with nogil:
        run(&state)
    give_all(state.pool, &state.spare)
    kept = [state.packets[n] for n in range(state.count)]
    free(state.sources)
    free(state.packets)
    return blocks_of(pool, &state.merged), kept


def join(list captures, BlockPool pool):
    """Return the packets of one capture after the other. Needs no memory."""
    cdef Blocks blocks, joined = Blocks.__new__(Blocks)
    joined.pool = pool
    for blocks in captures:
        joined.extend(blocks)
    return joined


cdef bint _take_spare(Merge *state):
    cdef Block *block = take_block(state.pool)
    if block == NULL:
        return False
    append_block(&state.spare, block)
    return True
