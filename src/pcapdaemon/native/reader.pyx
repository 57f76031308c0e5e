# cython: language_level=3
"""Reading on in a recording, without the GIL: from before the trigger to the capture's own end, in one stream.

What was recorded and what comes live are the same records in the same order, so there is no seam at which one could be
missing or be there twice. The stream is followed until a packet is later than the capture's end, or until the recorder
says that nothing from before it can be under way any more.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pcapdaemon.native.blocks cimport Block, give_blocks
from pcapdaemon.native.filter cimport filter_matches
from pcapdaemon.native.libpcap cimport CLOCK_MONOTONIC, clock_gettime, timespec
from pcapdaemon.native.loop cimport BYTES, DURATION, IDLE, INTERFACE_DOWN, MEMORY, PACKETS, RUNNING, STOPPED
from pcapdaemon.native.records cimport all_packets, all_size, last_of_all, may_keep, store
from pcapdaemon.native.ring cimport *

cdef enum:
    SECOND = 1000000000
    MILLISECOND = 1000000
    TURN = 100 * MILLISECOND         # a packet that was recorded may have come so long after the recorder began to look

cdef int64_t NEVER = 0x7fffffffffffffff

cdef int64_t clock_ns(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return now.tv_sec * <int64_t> SECOND + now.tv_nsec

cdef bint evict_first(Output *past) noexcept nogil:
    """Give a block of the oldest packets back; false where there is none."""
    cdef Block *block = past.first
    if block == NULL:
        return False
    past.first = block.next
    if past.first == NULL:
        past.last = NULL
    past.packets -= block.packets
    past.size -= block.used - block.start
    block.next = NULL
    give_blocks(past.pool, block)
    return True

cdef void keep_past(Reader *reader, PacketHeader *record, uint32_t captured) noexcept nogil:
    cdef Output *past = &reader.past
    cdef uint64_t before = past.packets
    cdef bint kept = store(past, record.ns, captured, record.length, <uint8_t *> (record + 1))
    while not kept and evict_first(past):
        kept = store(past, record.ns, captured, record.length, <uint8_t *> (record + 1))
    while past.first != past.last and (
        past.size - past.first.used >= min(reader.most_size, reader.most_past) or past.packets - past.first.packets >= reader.most_packets
    ):
        evict_first(past)
    reader.evicted += before + 1 - past.packets

cdef void keep_live(Reader *reader, PacketHeader *record, uint32_t captured) noexcept nogil:
    cdef Output *live = &reader.live
    cdef uint64_t past = reader.past.packets
    if not may_keep(live, reader.max_packets, reader.max_size):
        reader.reason = PACKETS if all_packets(live) >= reader.max_packets else BYTES
        return
    while not store(live, record.ns, captured, record.length, <uint8_t *> (record + 1)):
        if not evict_first(&reader.past):
            reader.reason = MEMORY
            return
        reader.evicted += past - reader.past.packets
        past = reader.past.packets
    reader.last_at = reader.seen_ns
    if all_packets(live) >= reader.max_packets:
        reader.reason = PACKETS
    elif all_size(live) >= reader.max_size:
        reader.reason = BYTES

cdef int64_t end_of(Reader *reader) noexcept nogil:
    return min(reader.trigger + reader.duration_ns, reader.stop_at)

cdef void end_by(Reader *reader, int64_t at) noexcept nogil:
    """End it where a limit of time lies before `at`, up to which everything is known."""
    if at > end_of(reader):
        reader.reason = STOPPED if reader.stop_at < reader.trigger + reader.duration_ns else DURATION
    elif at > last_of_all(&reader.live, reader.last_at) + reader.idle_ns:
        reader.reason = IDLE

cdef int64_t came_at(Reader *reader, int64_t ns) noexcept nogil:
    # Clocks are compared per block; a packet from right before or after a step gets the nearest time that is possible.
    cdef int64_t at = min(ns - reader.block.offset, reader.ring.turned_at + TURN)
    return max(min(at, reader.block.until), reader.seen_ns - SECOND)

cdef void look_at(Reader *reader, PacketHeader *record) noexcept nogil:
    cdef int64_t at = came_at(reader, record.ns)
    cdef uint8_t *data = <uint8_t *> (record + 1)
    if at > reader.seen_ns:
        reader.seen_ns = at
    if at < reader.since:
        return
    if not reader.is_live and at >= reader.trigger:
        reader.is_live = True
    if reader.is_live:
        end_by(reader, at)
        if reader.reason != RUNNING:
            return
    if not filter_matches(&reader.filter, data, record.captured, record.length):
        return
    reader.matched += 1
    if reader.is_live:
        keep_live(reader, record, min(record.captured, reader.snaplen))
    else:
        keep_past(reader, record, min(record.captured, reader.snaplen))

cdef void read_block(Reader *reader, size_t used) noexcept nogil:
    cdef PacketHeader *record
    while reader.at < used and reader.reason == RUNNING:
        record = <PacketHeader *> (reader.block.data + reader.at)
        reader.at += (sizeof(PacketHeader) + record.captured + 7) & ~<size_t> 7
        reader.number += 1
        look_at(reader, record)

cdef bint go_on(Reader *reader) noexcept nogil:
    """Move to the next block; false where this is the newest."""
    cdef RingBlock *block = ring_next(reader.ring, reader.block)
    if block == reader.block:
        return False
    if block.first > reader.number:
        reader.skipped += block.first - reader.number
    reader.block, reader.at, reader.number = block, 0, block.first
    return True

cdef bint read_on(Reader *reader) noexcept nogil:
    """Read what there is, up to a block at a time; false where there was nothing."""
    cdef bint full
    cdef size_t used
    if reader.block == NULL:
        return go_on(reader)
    full = load_time(&reader.block.until) != NEVER  # in this order: a block that is full does not grow
    used = load_acquire(&reader.block.used)
    if reader.at < used:
        read_block(reader, used)
        return True
    return full and go_on(reader)

cdef void catch_up(Reader *reader) noexcept nogil:
    """Take what was recorded until now."""
    while reader.reason == RUNNING and not reader.is_live and read_on(reader):
        pass

cdef void follow(Reader *reader) noexcept nogil:
    """Read on until a limit is reached."""
    follow_to_its_end(reader)
    make_room(reader)

cdef void follow_to_its_end(Reader *reader) noexcept nogil:
    cdef int64_t known
    while reader.reason == RUNNING:
        reader.stop_seen = reader.stopped
        known = reader.ring.quiet_at - reader.hold_ns  # before reading: what comes meanwhile is not known of
        if read_on(reader):
            continue
        if reader.ring.run != reader.run or not reader.run & 1:  # even: it was not open when this one entered
            if not read_on(reader):
                reader.reason = INTERFACE_DOWN
            continue
        end_by(reader, known)
        if reader.reason == RUNNING:
            wait(reader)

cdef void wait(Reader *reader) noexcept nogil:
    cdef int *unless = &reader.never if reader.stop_seen else &reader.stopped
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
    cdef int64_t due = min(end_of(reader), last_of_all(&reader.live, reader.last_at) + reader.idle_ns) + reader.hold_ns
    if due <= now:  # all that is missing is the recorder's word
        due = now + 25 * MILLISECOND
    ring_wait(reader.ring, reader.block, reader.at, min(due, now + SECOND), unless)

cdef void skip_first(Output *past) noexcept nogil:
    """Give up the oldest packet."""
    cdef Block *block = past.first
    cdef uint32_t *record
    cdef size_t size
    if block.packets <= 1:
        evict_first(past)
        return
    record = <uint32_t *> (block.data + block.start)
    size = record[1] if past.pcapng else 16 + record[2]
    block.start += size
    block.packets -= 1
    past.packets -= 1
    past.size -= size

cdef void make_room(Reader *reader) noexcept nogil:
    """Keep the whole file under the most that is allowed: the oldest packets go."""
    cdef Output *past = &reader.past
    cdef uint64_t before = past.packets
    while past.first != NULL and (
        past.packets + reader.live.packets > reader.most_packets or past.size + reader.live.size > reader.most_size
    ):
        skip_first(past)
    reader.evicted += before - past.packets
    if past.packets == 0 and past.first != NULL:
        evict_first(past)

cdef int64_t first_time(Output *output) noexcept nogil:
    cdef uint32_t *record
    if output.first == NULL or output.packets == 0:
        return 0
    record = <uint32_t *> (output.first.data + output.first.start)
    if output.pcapng:
        return <int64_t> (<uint64_t> record[3] << 32 | record[4])
    return record[0] * <int64_t> SECOND + record[1] * <int64_t> 1000
