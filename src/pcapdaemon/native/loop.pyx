# cython: language_level=3
"""The packet loop. No Python code runs in it.

`poll` waits for the kernel's buffer or for a stop. `pcap_dispatch` passes each packet to
`on_packet`, which appends a finished savefile record to blocks of the pool (`records.pxd`) and
checks the packet and byte limits.

Clocks: CLOCK_MONOTONIC, in nanoseconds, decides when to stop. CLOCK_REALTIME is only compared with
packet times, and only over about 0.1 s, so a clock that is stepped can neither end nor prolong a
capture.
"""

from libc.errno cimport ENETDOWN, ENODEV, ENXIO
from libc.stdint cimport int64_t, uint8_t, uint64_t

from pcapdaemon.native.atomic cimport load, load_time, store, store_int, store_time
from pcapdaemon.native.clock cimport MILLISECOND, NEVER, SECOND, clock_ns
from pcapdaemon.native.counters cimport sample
from pcapdaemon.native.device cimport (
    DOWN, GONE, UP, DeviceState, device_state, skip_link_changes,
)
from pcapdaemon.native.filter cimport passes
from pcapdaemon.native.libpcap cimport *
from pcapdaemon.native.limits cimport *
from pcapdaemon.native.posix cimport *
from pcapdaemon.native.records cimport (
    MOST_CAPTURED, all_packets, all_size, last_of_all, may_keep, put_packet,
)
from pcapdaemon.native.stream cimport write_blocks

cdef enum:
    # Packets per dispatch, so that a stop is seen after a few milliseconds at most.
    BATCH = 65536

cdef int64_t LONGEST_WAIT = 60 * SECOND  # poll takes milliseconds as an int, 24 days at most

cdef void end(Loop *loop, Reason reason) noexcept nogil:
    store_int(&loop.reason, reason)
    pcap_breakloop(loop.pcap)

cdef bint belongs(Loop *loop, int64_t ns) noexcept nogil:
    if loop.phase == KEEPING:
        return True
    if loop.phase == CUT:
        return False
    if ns <= loop.cutoff_ns:
        if loop.phase == DOUBTING:
            store_int(&loop.phase, KEEPING)
        return True
    if loop.phase == DOUBTING and last_of_all(&loop.output, loop.last_at) > loop.doubted_at:
        store_int(&loop.phase, KEEPING)  # another capture with the same limits was not idle
        return True
    store_int(&loop.phase, CUT)
    pcap_breakloop(loop.pcap)
    return False

cdef void on_packet(uint8_t *user, const pcap_pkthdr *header, const uint8_t *data) noexcept nogil:
    cdef Loop *loop = <Loop *> user
    cdef int64_t ns = header.ts.tv_sec * SECOND + header.ts.tv_usec * loop.tick_ns
    # pcap_breakloop ends the batch only when libpcap checks for it. Some device types deliver a few
    # more packets.
    if loop.reason != RUNNING:
        return
    if not passes(&loop.entrance, ns, header, data) or not belongs(loop, ns):
        return
    if header.caplen > MOST_CAPTURED:  # a device that exceeds libpcap's own maximum
        store(&loop.counters.dropped, loop.counters.dropped + 1)
        return
    if may_keep(&loop.output, load(&loop.limits.packets), load(&loop.limits.size)):
        if not put_packet(&loop.output, ns, min(header.caplen, loop.snaplen), header.len, data):
            end(loop, MEMORY)
            return
    if all_packets(&loop.output) >= load(&loop.limits.packets):
        end(loop, PACKETS)
    elif all_size(&loop.output) >= load(&loop.limits.size):
        end(loop, BYTES)

cdef void note_arrival(Loop *loop, int64_t now) noexcept nogil:
    # When the last packet arrived, not when its batch was delivered. The kernel holds packets back
    # for a while, but not longer than this bound, which also limits the effect of a clock step.
    cdef int64_t age = clock_ns(CLOCK_REALTIME) - loop.output.last_ns
    age = min(max(age, 0), loop.buffer_timeout_ms * 2 * MILLISECOND)
    loop.last_at = max(loop.last_at, now - age)

cdef void sample_stats(Loop *loop, int64_t now) noexcept nogil:
    sample(&loop.counters, loop.pcap)
    loop.sampled_at = now

cdef void dispatch(Loop *loop) noexcept nogil:
    cdef uint64_t before = loop.output.packets
    cdef int64_t now
    cdef int outcome = pcap_dispatch(loop.pcap, BATCH, on_packet, <uint8_t *> loop)
    now = clock_ns(CLOCK_MONOTONIC)
    if loop.output.packets != before:
        note_arrival(loop, now)
    if now - loop.sampled_at > SECOND:
        sample_stats(loop, now)
    if loop.stream.fd and not write_blocks(&loop.stream, &loop.output):
        store_int(&loop.reason, FAILED)
    if outcome == PCAP_ERROR and loop.reason == RUNNING:
        store_int(&loop.reason, FAILED)

cdef int take_error(int fd) noexcept nogil:
    """Return the pending error of a socket, which clears it."""
    cdef int error = 0
    cdef socklen_t length = sizeof(error)
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length)
    return error

cdef void drain(Loop *loop, Phase phase, int64_t cutoff_ns) noexcept nogil:
    """Take what the kernel still holds.

    The kernel delivers a block that it has begun after the packet buffer timeout at the latest.
    """
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
    cdef int64_t deadline = now + (loop.buffer_timeout_ms + 30) * MILLISECOND
    cdef pollfd ready
    ready.fd = pcap_get_selectable_fd(loop.pcap)
    ready.events = POLLIN
    loop.cutoff_ns = cutoff_ns
    store_int(&loop.phase, phase)
    while now < deadline and loop.reason == RUNNING and loop.phase != CUT:
        ready.revents = 0
        if poll(&ready, 1, <int> ((deadline - now) // MILLISECOND + 1)) > 0:
            if ready.revents & POLLIN:
                dispatch(loop)
            else:
                take_error(ready.fd)
        now = clock_ns(CLOCK_MONOTONIC)

cdef void finish(Loop *loop, Reason reason, int64_t late_ns) noexcept nogil:
    # A limit counts from when it was due, not from when a busy machine noticed it, `late_ns` later.
    drain(loop, DRAINING, clock_ns(CLOCK_REALTIME) - late_ns)
    if loop.reason == RUNNING:
        store_int(&loop.reason, reason)

cdef void finish_if_idle(Loop *loop, int64_t late_ns) noexcept nogil:
    cdef uint64_t before = loop.output.packets
    loop.doubted_at = last_of_all(&loop.output, loop.last_at)
    drain(loop, DOUBTING, clock_ns(CLOCK_REALTIME) - late_ns)
    store_int(&loop.phase, KEEPING)
    if loop.output.packets != before or last_of_all(&loop.output, loop.last_at) != loop.doubted_at:
        return
    if loop.reason == RUNNING:
        store_int(&loop.reason, IDLE)

cdef void look_at_error(Loop *loop, short events) noexcept nogil:
    # packet(7): ENETDOWN when the interface went down or away. Packets from before are still there.
    # Other errors, such as ENOBUFS of a netlink socket, are temporary.
    cdef int error = take_error(pcap_get_selectable_fd(loop.pcap))
    if error not in (ENETDOWN, ENODEV, ENXIO) and not events & (POLLHUP | POLLNVAL):
        return
    if loop.device.index and not events & (POLLHUP | POLLNVAL):
        look_at_device(loop)
        return
    drain(loop, DRAINING, NEVER)
    if loop.reason == RUNNING:
        store_int(&loop.reason, INTERFACE_DOWN)

cdef void look_at_device(Loop *loop) noexcept nogil:
    """End the capture if its device is gone. If that is only down, it may come up again.

    The kernel resumes the delivery of packets by itself then, see packet_notifier in af_packet.c.
    """
    cdef DeviceState state = device_state(loop.device)
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
    if state == GONE:
        finish(loop, INTERFACE_DOWN, 0)
    elif state == DOWN and loop.down_at == 0:
        loop.down_at = now
    elif state == UP and loop.down_at:
        count_down(loop, now)

cdef void count_down(Loop *loop, int64_t now) noexcept nogil:
    if loop.down_at:
        store_time(&loop.down_ns, loop.down_ns + now - loop.down_at)
        loop.down_at = 0

cdef void run_loop(Loop *loop) noexcept nogil:
    """Store packets until a limit is reached.

    `loop.reason` then says which one, and the counters are final.
    """
    loop.sampled_at = clock_ns(CLOCK_MONOTONIC)
    wait_and_dispatch(loop)
    count_down(loop, clock_ns(CLOCK_MONOTONIC))
    sample_stats(loop, 0)

cdef void wait_and_dispatch(Loop *loop) noexcept nogil:
    cdef pollfd ready[3]
    cdef int64_t begun = clock_ns(CLOCK_MONOTONIC)
    cdef int64_t now, end_at, idle_at
    loop.last_at = begun
    ready[0].fd = pcap_get_selectable_fd(loop.pcap)
    ready[1].fd = loop.wake_fd
    ready[2].fd = loop.device.link_fd
    ready[0].events = ready[1].events = ready[2].events = POLLIN
    while loop.reason == RUNNING:
        now = clock_ns(CLOCK_MONOTONIC)
        end_at = begun + load_time(&loop.limits.duration_ns)
        idle_at = last_of_all(&loop.output, loop.last_at) + load_time(&loop.limits.idle_ns)
        if now >= end_at:
            finish(loop, DURATION, now - end_at)
            return
        if now >= idle_at:
            finish_if_idle(loop, now - idle_at)
            continue
        ready[0].revents = ready[1].revents = ready[2].revents = 0
        poll(ready, 3, <int> (min(min(end_at, idle_at) - now, LONGEST_WAIT) // MILLISECOND + 1))
        if ready[1].revents:
            finish(loop, STOPPED, 0)
        elif ready[2].revents:
            skip_link_changes(loop.device)
            look_at_device(loop)
        elif ready[0].revents & (POLLERR | POLLHUP | POLLNVAL):
            look_at_error(loop, ready[0].revents)
        elif ready[0].revents & POLLIN:
            dispatch(loop)
