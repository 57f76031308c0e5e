# cython: language_level=3
"""Packets of several captures in one order of time, in the memory that they had."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from pcapdaemon.native.blocks cimport (
    Block, BlockList, BlockPool, Blocks, Pool, append_block, blocks_of, clear_block, give_all,
    pop_block, take_block,
)
from pcapdaemon.native.records cimport PACKET_HEADER

cdef struct Merge:
    Block **sources                  # what is left of each; a block's `start` is where it goes on
    size_t count
    Pool *pool
    BlockList merged
    BlockList spare
    uint64_t *packets                # that were kept of each
    uint64_t skip_packets
    uint64_t skip_bytes
    bint marked                      # the first packet after the trigger was there
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
    else:  # another capture's packet was the first after the trigger
        memcpy(header, record, sizeof(header))
        header[1] = <uint32_t> plain + 4 + (12 if directed else 0)
        put(merge, header, sizeof(header))
        put(merge, record + 7, plain - sizeof(header) + (8 if directed else 0))
        if directed:
            put(merge, &none, 4)
        put(merge, &header[1], 4)
    merge.marked = merge.marked or marked

cdef void pass_empty(Merge *merge, Block **source) noexcept nogil:
    # a block is empty when all of it was taken; that of a capture without packets was from the
    # beginning
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

    `overhead` are bytes that their file has beside packets.
    """

    def __cinit__(self, uint64_t overhead):
        self.counts.size = overhead


def merge(list captures, BlockPool pool, uint64_t skip_packets, uint64_t skip_bytes):
    """One `Blocks` of the packets of several, all pcapng, and the number of each one's.

    The captures' own are used up.

    The oldest are left out: so many packets, and as many as make so many bytes. Takes a block of
    the pool for each capture beside theirs, and raises MemoryError where it has not so many; then
    nothing was touched.
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
            raise MemoryError("the memory budget is spent")
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
    """The packets of several one capture after the other: needs no memory."""
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
