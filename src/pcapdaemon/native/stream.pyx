# cython: language_level=3
"""Writes records to a descriptor as they come, in place of keeping them.

A reader that is slow delays the capture. What does not fit into the kernel's buffer meanwhile is
dropped and counted.
"""

from libc.errno cimport EAGAIN, EINTR, ETIMEDOUT, errno
from libc.stdint cimport int64_t, uint8_t
from posix.unistd cimport write

from pcapdaemon.native.atomic cimport load_int
from pcapdaemon.native.blocks cimport Block, append_block, clear_block, give_blocks, pop_block
from pcapdaemon.native.clock cimport SECOND, clock_ns
from pcapdaemon.native.posix cimport *
from pcapdaemon.native.records cimport Output

cdef enum:
    PAUSE_MS = 100
    # Pauses without a byte after which the reader counts as gone.
    MOST_PAUSES = 600

cdef int64_t PATIENCE = 2 * SECOND   # for a slow reader, once the capture is to end

cdef bint ends(Stream *stream) noexcept nogil:
    cdef pollfd woken
    if stream.stopped != NULL:
        return load_int(stream.stopped) != 0
    woken.fd, woken.events, woken.revents = stream.wake_fd, POLLIN, 0
    return stream.wake_fd > 0 and poll(&woken, 1, 0) > 0

cdef bint is_late(Stream *stream) noexcept nogil:
    cdef int64_t now = clock_ns(CLOCK_MONOTONIC)
    if not stream.stop_seen and ends(stream):
        stream.stop_seen = now
    return stream.stop_seen != 0 and now - stream.stop_seen > PATIENCE

cdef bint write_whole(Stream *stream, const uint8_t *data, size_t size) noexcept nogil:
    """Write all of it. Returns False, and sets `error`, if that fails."""
    cdef ssize_t done
    cdef pollfd ready
    cdef int pauses = 0
    while size:
        done = write(stream.fd, data, size)
        if done >= 0:
            data += done
            size -= <size_t> done
            pauses = 0
        elif errno == EAGAIN:  # the reader is slow, and the pipe is non-blocking
            if pauses >= MOST_PAUSES or is_late(stream):
                stream.error = ETIMEDOUT
                return False
            ready.fd, ready.events = stream.fd, POLLOUT
            poll(&ready, 1, PAUSE_MS)
            pauses += 1
        elif errno != EINTR:
            stream.error = errno
            return False
    return True

cdef bint write_blocks(Stream *stream, Output *output) noexcept nogil:
    """Write all records, and keep only one block, which is then empty.

    Returns False if that fails.
    """
    cdef Block *block = pop_block(&output.blocks)
    while block != NULL and write_whole(stream, block.data, block.used):
        if output.blocks.first == NULL:
            break
        give_blocks(output.pool, block)
        block = pop_block(&output.blocks)
    if block != NULL:
        clear_block(block)
        append_block(&output.blocks, block)
    return stream.error == 0
