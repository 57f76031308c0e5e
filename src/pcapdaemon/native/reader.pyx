# cython: language_level=3
"""Reads a recording, without the GIL.

It reads one stream, from before the trigger to the end of the capture.

Recorded and live packets are the same records in the same order, so there is no seam at which a
packet could be missing or appear twice. The stream is followed until a packet is later than the
capture's end, or until the recorder reports that no packet from before that end can still arrive.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pcapdaemon.native.atomic cimport (
    load, load_int, load_size, load_time, store, store_int, store_time,
)
from pcapdaemon.native.blocks cimport Block, give_blocks, pop_block
from pcapdaemon.native.clock cimport MILLISECOND, NEVER, SECOND, clock_ns
from pcapdaemon.native.filter cimport filter_matches
from pcapdaemon.native.limits cimport *
from pcapdaemon.native.posix cimport CLOCK_MONOTONIC
from pcapdaemon.native.records cimport (
    all_packets, all_size, last_of_all, may_keep, put_packet, size_of_record, time_of_record,
)
from pcapdaemon.native.ring cimport *
from pcapdaemon.native.stream cimport Stream, write_blocks

cdef void end(Reader *reader, Reason reason) noexcept nogil:
    store_int(&reader.reason, reason)

cdef void note_first_time(Output *past) noexcept nogil:
    # Stored, because other threads ask for it while its block may go back to the pool.
    cdef Block *block = past.blocks.first
    if block != NULL and past.packets:
        store_time(&past.first_ns, time_of_record(past, block.data + block.start))

cdef void shrink(Output *past, uint64_t packets, uint64_t size) noexcept nogil:
    store(&past.packets, past.packets - packets)
    store(&past.size, past.size - size)

cdef bint evict_first(Output *past) noexcept nogil:
    """Return the block with the oldest packets to the pool; False if there is none."""
    cdef Block *block = pop_block(&past.blocks)
    if block == NULL:
        return False
    shrink(past, block.packets, block.used - block.start)
    note_first_time(past)
    give_blocks(past.pool, block)
    return True

cdef bint is_over(Reader *reader) noexcept nogil:
    """Whether the packets from before the trigger exceed what they may take.

    The block with the oldest of them does not count.
    """
    cdef Output *past = &reader.past
    cdef Block *oldest = past.blocks.first
    if oldest == past.blocks.last:
        return False
    if past.size - oldest.used >= min(reader.most_size, reader.most_past):
        return True
    return past.packets - oldest.packets >= reader.most_packets

cdef void count_evicted(Reader *reader, uint64_t packets) noexcept nogil:
    store(&reader.evicted, reader.evicted + packets)

cdef void keep_past(Reader *reader, PacketHeader *packet, uint32_t captured) noexcept nogil:
    cdef Output *past = &reader.past
    cdef uint64_t before = past.packets
    cdef uint8_t *data = <uint8_t *> (packet + 1)
    cdef bint kept = put_packet(past, packet.ns, captured, packet.length, data)
    while not kept and evict_first(past):
        kept = put_packet(past, packet.ns, captured, packet.length, data)
    while is_over(reader):
        evict_first(past)
    count_evicted(reader, before + 1 - past.packets)

cdef void pass_on(Reader *reader, PacketHeader *packet, uint32_t captured) noexcept nogil:
    """Take a packet from before the trigger that is written soon, so it needs no room."""
    cdef uint8_t *data = <uint8_t *> (packet + 1)
    if reader.past.packets >= reader.most_packets or reader.past.size >= reader.most_size:
        end(reader, PACKETS if reader.past.packets >= reader.most_packets else BYTES)
        return
    if not put_packet(&reader.past, packet.ns, captured, packet.length, data):
        end(reader, MEMORY)

cdef bint write_on(Reader *reader) noexcept nogil:
    cdef Stream *stream = &reader.stream
    return write_blocks(stream, &reader.past) and write_blocks(stream, &reader.live)

cdef void keep_live(Reader *reader, PacketHeader *packet, uint32_t captured) noexcept nogil:
    cdef Output *live = &reader.live
    cdef uint64_t past = reader.past.packets
    cdef uint64_t most = load(&reader.limits.packets)
    cdef uint64_t most_size = load(&reader.limits.size)
    if not may_keep(live, most, most_size):
        end(reader, PACKETS if all_packets(live) >= most else BYTES)
        return
    while not put_packet(live, packet.ns, captured, packet.length, <uint8_t *> (packet + 1)):
        if not evict_first(&reader.past):
            end(reader, MEMORY)
            return
        count_evicted(reader, past - reader.past.packets)
        past = reader.past.packets
    reader.last_at = reader.seen_ns
    if all_packets(live) >= most:
        end(reader, PACKETS)
    elif all_size(live) >= most_size:
        end(reader, BYTES)

cdef int64_t end_of(Reader *reader) noexcept nogil:
    return min(reader.trigger + load_time(&reader.limits.duration_ns), load_time(&reader.stop_at))

cdef void end_by(Reader *reader, int64_t at) noexcept nogil:
    """End the capture if a time limit lies before `at`. Everything up to `at` is known."""
    cdef int64_t duration_at = reader.trigger + load_time(&reader.limits.duration_ns)
    if at > end_of(reader):
        end(reader, STOPPED if load_time(&reader.stop_at) < duration_at else DURATION)
    elif at > last_of_all(&reader.live, reader.last_at) + load_time(&reader.limits.idle_ns):
        end(reader, IDLE)

cdef int64_t came_at(Reader *reader, int64_t ns) noexcept nogil:
    # The clocks are compared once per block. A packet right before or after a clock step gets the
    # nearest possible time.
    cdef int64_t at = min(ns - reader.block.offset, reader.read_at)
    return max(min(at, load_time(&reader.block.until)), reader.seen_ns - SECOND)

cdef void look_at(Reader *reader, PacketHeader *packet) noexcept nogil:
    cdef int64_t at = came_at(reader, packet.ns)
    cdef uint8_t *data = <uint8_t *> (packet + 1)
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
    if not filter_matches(&reader.filter, data, packet.captured, packet.length):
        return
    if not filter_matches(&reader.required, data, packet.captured, packet.length):
        return
    store(&reader.matched, reader.matched + 1)
    if reader.is_live:
        keep_live(reader, packet, min(packet.captured, reader.snaplen))
    elif reader.stream.fd:
        pass_on(reader, packet, min(packet.captured, reader.snaplen))
    else:
        keep_past(reader, packet, min(packet.captured, reader.snaplen))

cdef void read_block(Reader *reader, size_t used) noexcept nogil:
    cdef PacketHeader *packet
    reader.read_at = clock_ns(CLOCK_MONOTONIC)
    while reader.at < used and reader.reason == RUNNING:
        packet = <PacketHeader *> (reader.block.data + reader.at)
        reader.at += (sizeof(PacketHeader) + packet.captured + 7) & ~<size_t> 7
        reader.number += 1
        look_at(reader, packet)

cdef bint go_on(Reader *reader) noexcept nogil:
    """Move to the next block; False if this is the newest."""
    cdef RingBlock *block = ring_next(reader.ring, reader.block)
    if block == reader.block:
        return False
    if block.first > reader.number:
        store(&reader.skipped, reader.skipped + block.first - reader.number)
    reader.block, reader.at, reader.number = block, 0, block.first
    return True

cdef bint read_on(Reader *reader) noexcept nogil:
    """Read up to a block of what is there, and write it if it is not kept.

    Returns False if there was nothing.
    """
    cdef bint found = read_one(reader)
    if reader.stream.fd and not write_on(reader):
        end(reader, FAILED)
    return found

cdef bint read_one(Reader *reader) noexcept nogil:
    cdef bint full
    cdef size_t used
    if reader.block == NULL:
        return go_on(reader)
    # In this order, because a full block does not grow.
    full = load_time(&reader.block.until) != NEVER
    used = load_size(&reader.block.used)
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
        reader.stop_seen = load_int(&reader.stopped)
        # Taken before reading, because it does not cover packets that arrive meanwhile.
        known = load_time(&reader.ring.quiet_at) - reader.hold_ns
        if read_on(reader):
            continue
        # An even number: the interface was not open when this capture entered.
        if load(&reader.ring.run) != reader.run or not reader.run & 1:
            if not read_on(reader):
                end(reader, INTERFACE_DOWN)
            continue
        end_by(reader, known)
        if reader.reason == RUNNING:
            wait(reader)

cdef void wait(Reader *reader) noexcept nogil:
    cdef int *unless = &reader.never if reader.stop_seen else &reader.stopped
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
    cdef int64_t idle_ns = load_time(&reader.limits.idle_ns)
    cdef int64_t idle_at = last_of_all(&reader.live, reader.last_at) + idle_ns
    cdef int64_t due = min(end_of(reader), idle_at) + reader.hold_ns
    if due <= now:  # only the recorder's report is missing
        due = now + 25 * MILLISECOND
    ring_wait(reader.ring, reader.block, reader.at, min(due, now + SECOND), unless)

cdef void skip_first(Output *past) noexcept nogil:
    """Evict the oldest packet."""
    cdef Block *block = past.blocks.first
    cdef size_t size
    if block.packets <= 1:
        evict_first(past)
        return
    size = size_of_record(past, block.data + block.start)
    block.start += size
    block.packets -= 1
    shrink(past, 1, size)

cdef bint is_too_large(Reader *reader) noexcept nogil:
    cdef uint64_t packets = reader.past.packets + reader.live.packets
    return packets > reader.most_packets or reader.past.size + reader.live.size > reader.most_size

cdef void make_room(Reader *reader) noexcept nogil:
    """Keep the whole file within its limits by dropping the oldest packets."""
    cdef Output *past = &reader.past
    cdef uint64_t before = past.packets
    while past.blocks.first != NULL and is_too_large(reader):
        skip_first(past)
    count_evicted(reader, before - past.packets)
    if past.packets == 0:
        evict_first(past)
    note_first_time(past)
