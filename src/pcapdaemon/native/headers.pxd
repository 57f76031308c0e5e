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

cdef inline uint32_t end_of_common(
    Beginning beginning, const uint8_t *data, uint32_t captured
) noexcept nogil:
    """Return the same for TCP and UDP in plain IPv4 on Ethernet, and 0 for everything else.

    Most packets are that, and this costs them less than a call.
    """
    if beginning != ETHERNET or captured < 54:
        return 0
    # without options, and no fragment
    if data[12] != 8 or data[13] != 0 or data[14] != 0x45 or data[20] & 0x3f or data[21]:
        return 0
    if data[23] == 17:
        return 42
    return min(captured, 34 + max(20, (data[46] >> 4) * 4)) if data[23] == 6 else 0
