# cython: language_level=3
"""Time in nanoseconds."""

from libc.stdint cimport int64_t

from pcapdaemon.native.posix cimport clock_gettime, timespec

cdef extern from *:
    """
    #include <stdint.h>
    #define NS_MILLISECOND INT64_C(1000000)
    #define NS_SECOND INT64_C(1000000000)
    """
    const int64_t MILLISECOND "NS_MILLISECOND"
    const int64_t SECOND "NS_SECOND"
    const int64_t NEVER "INT64_MAX"

cdef inline int64_t clock_ns(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return now.tv_sec * SECOND + now.tv_nsec
