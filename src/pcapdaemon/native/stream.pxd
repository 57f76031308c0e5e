# cython: language_level=3
"""Writes records to a descriptor as they come, in place of keeping them."""

from libc.stdint cimport int64_t, uint8_t

from pcapdaemon.native.records cimport Output

cdef struct Stream:
    int fd                           # 0: records are kept
    int error                        # errno of the write that failed
    int wake_fd                      # readable once the capture is to end; 0: see `stopped`
    const int *stopped               # not zero once it is to end, or NULL
    int64_t stop_seen                # monotonic: when that was seen first; 0: not yet

cdef bint write_whole(Stream *stream, const uint8_t *data, size_t size) noexcept nogil
cdef bint write_blocks(Stream *stream, Output *output) noexcept nogil
