# cython: language_level=3
"""Where the headers of a packet end."""

from libc.stdint cimport uint8_t, uint32_t

cdef enum Beginning:
    NOTHING_KNOWN = 0
    ETHERNET                         # EN10MB
    COOKED                           # LINUX_SLL
    COOKED_2                         # LINUX_SLL2
    PLAIN_IP                         # RAW, IPV4, IPV6
    LOOPBACK                         # NULL, LOOP

cdef Beginning beginning_of(str linktype)
cdef uint32_t end_of_headers(
    Beginning beginning, const uint8_t *data, uint32_t captured
) noexcept nogil
