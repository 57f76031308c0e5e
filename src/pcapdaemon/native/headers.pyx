# cython: language_level=3
"""Where the headers of a packet end: after TCP, UDP and the like, before what they carry.

What is not understood is cut where understanding ends, so no payload is kept by mistake. Every
read is within the captured bytes. A chain of headers has an end: each step moves forward, and there
are at most `MOST_HEADERS` of them.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

cdef enum:
    MOST_HEADERS = 16
    ARP = 0x0806
    IPV4 = 0x0800
    IPV6 = 0x86dd
    MPLS = 0x8847
    MPLS_MULTICAST = 0x8848
    PPPOE_SESSION = 0x8864
    PPP_IPV4 = 0x0021
    PPP_IPV6 = 0x0057

cdef enum Protocol:
    HOP_BY_HOP = 0
    ICMP = 1
    IP_IN_IP = 4
    TCP = 6
    UDP = 17
    IPV6_IN_IP = 41
    ROUTING = 43
    FRAGMENT = 44
    GRE = 47
    ESP = 50
    AUTHENTICATION = 51
    ICMPV6 = 58
    DESTINATION = 60
    SCTP = 132
    MOBILITY = 135
    UDP_LITE = 136

# Where the walk is: at `at`, with `left` headers to go. The headers end at `at` when it stops.
cdef struct Walk:
    const uint8_t *data
    uint32_t captured
    uint32_t at
    int left

cdef inline uint16_t u16(const uint8_t *at) noexcept nogil:
    return <uint16_t> (at[0] << 8 | at[1])

cdef inline bint has(Walk *walk, uint32_t size) noexcept nogil:
    return walk.captured - walk.at >= size

cdef inline void skip(Walk *walk, uint32_t size) noexcept nogil:
    walk.at += min(size, walk.captured - walk.at)

cdef void walk_tcp(Walk *walk) noexcept nogil:
    skip(walk, max(20, (walk.data[walk.at + 12] >> 4) * 4) if has(walk, 13) else 20)

cdef void walk_gre(Walk *walk) noexcept nogil:
    cdef uint16_t flags, kind
    cdef uint32_t size = 4
    if not has(walk, 4):
        skip(walk, 4)
        return
    flags, kind = u16(walk.data + walk.at), u16(walk.data + walk.at + 2)
    # RFC 2784 and 2890: checksum, key, sequence number. Version 1 is PPTP's, with PPP inside.
    if flags & 0x8000:
        size += 4
    if flags & 0x2000:
        size += 4
    if flags & 0x1000:
        size += 4
    skip(walk, size)
    if flags & 0x4007 == 0:
        walk_type(walk, kind)

cdef void walk_icmp(Walk *walk, bint six) noexcept nogil:
    cdef int kind
    if not has(walk, 8):
        skip(walk, 8)
        return
    kind = walk.data[walk.at]
    skip(walk, 8)
    if six and 1 <= kind <= 4:
        walk_ipv6(walk)
    elif not six and kind in (3, 4, 5, 11, 12):
        walk_ipv4(walk)

cdef inline bint is_extension(int protocol, bint six) noexcept nogil:
    if protocol == AUTHENTICATION:
        return True
    return six and protocol in (HOP_BY_HOP, ROUTING, DESTINATION, MOBILITY, FRAGMENT)

cdef void walk_protocol(Walk *walk, int protocol, bint first, bint six) noexcept nogil:
    """Walk what an IP header carries. Of a fragment that is not the `first`, that is payload.

    Only IPv6 has extension headers, except that of authentication.
    """
    cdef int following
    while first and walk.left > 0:
        walk.left -= 1
        if not is_extension(protocol, six):
            walk_transport(walk, protocol)
            return
        if not has(walk, 8):
            skip(walk, 8)
            return
        following = walk.data[walk.at]
        if protocol == FRAGMENT:
            first = u16(walk.data + walk.at + 2) & 0xfff8 == 0
            skip(walk, 8)
        elif protocol == AUTHENTICATION:
            skip(walk, (walk.data[walk.at + 1] + 2) * 4)
        else:
            skip(walk, (walk.data[walk.at + 1] + 1) * 8)
        protocol = following

cdef void walk_transport(Walk *walk, int protocol) noexcept nogil:
    if protocol == TCP:
        walk_tcp(walk)
    elif protocol in (UDP, UDP_LITE, ESP):
        skip(walk, 8)
    elif protocol == SCTP:
        skip(walk, 12)
    elif protocol in (ICMP, ICMPV6):
        walk_icmp(walk, protocol == ICMPV6)
    elif protocol == GRE:
        walk_gre(walk)
    elif protocol == IP_IN_IP:
        walk_ipv4(walk)
    elif protocol == IPV6_IN_IP:
        walk_ipv6(walk)

cdef void walk_ipv4(Walk *walk) noexcept nogil:
    cdef const uint8_t *header = walk.data + walk.at
    cdef uint32_t size
    walk.left -= 1
    if not has(walk, 20) or header[0] >> 4 != 4 or walk.left <= 0:
        return
    size = (header[0] & 15) * 4
    if size < 20:
        return
    skip(walk, size)
    walk_protocol(walk, header[9], u16(header + 6) & 0x1fff == 0, False)

cdef void walk_ipv6(Walk *walk) noexcept nogil:
    cdef const uint8_t *header = walk.data + walk.at
    walk.left -= 1
    if not has(walk, 40) or header[0] >> 4 != 6 or walk.left <= 0:
        return
    skip(walk, 40)
    walk_protocol(walk, header[6], True, True)

cdef void walk_any_ip(Walk *walk) noexcept nogil:
    if has(walk, 1) and walk.data[walk.at] >> 4 == 6:
        walk_ipv6(walk)
    else:
        walk_ipv4(walk)

cdef bint is_ip(Walk *walk) noexcept nogil:
    """Whether an IP packet begins here, where nothing says so: it may be a frame, or anything."""
    cdef const uint8_t *header = walk.data + walk.at
    cdef uint32_t total = 0
    cdef int n
    if has(walk, 40) and header[0] >> 4 == 6:
        # of a frame, these are bytes of its addresses
        return u16(header + 4) + 40 == walk.captured - walk.at and header[7] != 0
    if not has(walk, 20) or header[0] >> 4 != 4 or not has(walk, (header[0] & 15) * 4):
        return False
    for n in range((header[0] & 15) * 2):
        total += u16(header + 2 * n)
    total = (total & 0xffff) + (total >> 16)
    return (total & 0xffff) + (total >> 16) == 0xffff

cdef void walk_mpls(Walk *walk) noexcept nogil:
    cdef bint last = False
    while not last and walk.left > 0 and has(walk, 4):
        last = walk.data[walk.at + 2] & 1
        walk.left -= 1
        skip(walk, 4)
    if last and is_ip(walk):
        walk_any_ip(walk)

cdef void walk_pppoe(Walk *walk) noexcept nogil:
    cdef uint16_t kind
    if not has(walk, 8):
        skip(walk, 8)
        return
    kind = u16(walk.data + walk.at + 6)
    skip(walk, 8)
    if kind == PPP_IPV4:
        walk_ipv4(walk)
    elif kind == PPP_IPV6:
        walk_ipv6(walk)

cdef void walk_arp(Walk *walk) noexcept nogil:
    cdef int hardware, protocol
    if not has(walk, 8):
        return
    hardware, protocol = walk.data[walk.at + 4], walk.data[walk.at + 5]
    if hardware <= 20 and protocol in (4, 16):
        skip(walk, 8 + 2 * (hardware + protocol))

cdef void walk_type(Walk *walk, uint16_t kind) noexcept nogil:
    """Walk what an Ethernet type announces. A length in place of a type announces nothing."""
    while kind in (0x8100, 0x88a8, 0x9100) and walk.left > 0 and has(walk, 4):
        kind = u16(walk.data + walk.at + 2)
        walk.left -= 1
        skip(walk, 4)
    if kind == IPV4:
        walk_ipv4(walk)
    elif kind == IPV6:
        walk_ipv6(walk)
    elif kind == ARP:
        walk_arp(walk)
    elif kind in (MPLS, MPLS_MULTICAST):
        walk_mpls(walk)
    elif kind == PPPOE_SESSION:
        walk_pppoe(walk)

cdef void walk_frame(Walk *walk, uint32_t size, uint32_t type_at) noexcept nogil:
    """Walk a link-layer header of `size` bytes that has an Ethernet type."""
    cdef const uint8_t *header = walk.data
    cdef bint whole = has(walk, size)
    skip(walk, size)
    if whole:
        walk_type(walk, u16(header + type_at))

cdef Beginning beginning_of(str linktype):
    """Return how packets of a linktype begin."""
    return {
        "EN10MB": ETHERNET,
        "LINUX_SLL": COOKED,
        "LINUX_SLL2": COOKED_2,
        "RAW": PLAIN_IP,
        "IPV4": PLAIN_IP,
        "IPV6": PLAIN_IP,
        "NULL": LOOPBACK,
        "LOOP": LOOPBACK,
    }.get(linktype, NOTHING_KNOWN)

cdef uint32_t end_of_headers(
    Beginning beginning, const uint8_t *data, uint32_t captured
) noexcept nogil:
    """Return the bytes of a packet up to the end of its headers, at most `captured`."""
    cdef Walk walk
    cdef uint32_t common = end_of_common(beginning, data, captured)
    if common:
        return common
    walk.data, walk.captured, walk.at, walk.left = data, captured, 0, MOST_HEADERS
    if beginning == ETHERNET:
        walk_frame(&walk, 14, 12)
    elif beginning == COOKED:
        walk_frame(&walk, 16, 14)
    elif beginning == COOKED_2:
        walk_frame(&walk, 20, 0)
    elif beginning == PLAIN_IP:
        walk_any_ip(&walk)
    elif beginning == LOOPBACK:
        skip(&walk, 4)
        walk_any_ip(&walk)
    return walk.at


def headers_of(str linktype, const uint8_t[::1] packet not None):
    """Return the bytes of a packet up to the end of its headers. `linktype` is a DLT_ name."""
    cdef const uint8_t *data = &packet[0] if packet.shape[0] else NULL
    return end_of_headers(beginning_of(linktype), data, <uint32_t> packet.shape[0])
