"""Decodes one packet: link layer, IP, transport. Applications are in `applications.py`.

This is for a first look. Wireshark decodes everything else.
"""

import struct
from collections.abc import Callable

from pcapdaemon.decode import applications
from pcapdaemon.decode.decoded import Decoded, address, mac, part, u8, u16, u32

MOST_LAYERS = 8
"""Most VLAN tags, labels or extension headers that are followed."""

_FLAGS = ((0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x20, "URG"))
_ICMP = {
    **{0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"},
    **{12: "bad parameter"},
}
_UNREACHABLE = {
    **{0: "network", 1: "host", 2: "protocol", 3: "port", 4: "fragmentation needed"},
    **{9: "network prohibited", 10: "host prohibited", 13: "prohibited"},
}
_ICMP6 = {
    **{1: "unreachable", 2: "packet too big", 3: "time exceeded", 4: "bad parameter"},
    **{128: "echo request", 129: "echo reply", 133: "router solicitation"},
    **{134: "router advertisement", 135: "neighbor solicitation", 136: "neighbor advertisement"},
    **{137: "redirect", 143: "multicast listener report"},
}
_OTHER_IP = {2: "IGMP", 4: "IP in IP", 47: "GRE", 50: "ESP", 51: "AH", 89: "OSPF", 112: "VRRP"}
_EXTENSIONS = (0, 43, 60)


def decode(linktype: int, data: bytes) -> Decoded:
    """Return what a packet is. `linktype` is a LINKTYPE_ value. Never raises."""
    decoder = _LINKTYPES.get(linktype)
    if decoder is None:
        return Decoded(protocol=f"linktype {linktype}", info=f"{len(data)} bytes")
    return _tried(decoder, data, 0, Decoded())


Layer = Callable[[bytes, int, Decoded], Decoded]
"""Decodes what is in a packet from an offset on. Raises IndexError or struct.error if it is cut."""


def _tried(layer: Layer, data: bytes, at: int, so_far: Decoded) -> Decoded:
    try:
        return layer(data, at, so_far)
    except (IndexError, struct.error):
        return so_far.says(so_far.protocol or "unknown", "cut off")


def _ethernet(data: bytes, at: int, so_far: Decoded) -> Decoded:
    so_far = so_far.between(mac(data, at + 6), mac(data, at)).says("Ethernet", "")
    return _by_type(u16(data, at + 12), data, at + 14, so_far)


def _cooked(data: bytes, at: int, so_far: Decoded) -> Decoded:
    so_far = so_far.says("Linux cooked", "")
    return _by_type(u16(data, at + 14), data, at + 16, so_far)


def _cooked2(data: bytes, at: int, so_far: Decoded) -> Decoded:
    so_far = so_far.says("Linux cooked", "")
    return _by_type(u16(data, at), data, at + 20, so_far)


def _raw(data: bytes, at: int, so_far: Decoded) -> Decoded:
    version = u8(data, at) >> 4
    kind = {4: 0x0800, 6: 0x86DD}.get(version, 0)
    return _by_type(kind, data, at, so_far)


def _loopback(data: bytes, at: int, so_far: Decoded) -> Decoded:
    # the family is in the byte order of the host that captured, and its value is its system's
    return _raw(data, at + 4, so_far)


def _by_type(kind: int, data: bytes, at: int, so_far: Decoded) -> Decoded:
    tags: list[str] = []
    while kind in (0x8100, 0x88A8, 0x9100) and len(tags) < MOST_LAYERS:
        tags.append(f"VLAN {u16(data, at) & 0xFFF}")
        kind, at = u16(data, at + 2), at + 4
    if tags:
        so_far = Decoded(so_far.source, so_far.destination, so_far.protocol, "", tuple(tags))
    if layer := _ETHERTYPES.get(kind):
        return _tried(layer, data, at, so_far)
    if kind < 0x600:
        return so_far.says("LLC", f"{kind} bytes")
    return so_far.says(_NAMES.get(kind, f"ethertype 0x{kind:04x}"), f"{len(data) - at} bytes")


def _mpls(data: bytes, at: int, so_far: Decoded) -> Decoded:
    so_far = so_far.says("MPLS", f"label {u32(data, at) >> 12}")
    for _ in range(MOST_LAYERS):
        entry, at = u32(data, at), at + 4
        if entry & 0x100:
            return _tried(_raw, data, at, so_far)
    return so_far


def _pppoe(data: bytes, at: int, so_far: Decoded) -> Decoded:
    so_far = so_far.says("PPPoE", f"session {u16(data, at + 2)}")
    kind = {0x0021: 0x0800, 0x0057: 0x86DD}.get(u16(data, at + 6))
    return _by_type(kind, data, at + 8, so_far) if kind else so_far


def _arp(data: bytes, at: int, so_far: Decoded) -> Decoded:
    operation = u16(data, at + 6)
    sender, target = address(data, at + 14, 4), address(data, at + 24, 4)
    so_far = so_far.between(sender, target)
    if operation == 1:
        return so_far.says("ARP", f"who has {target}? for {sender}")
    return so_far.says("ARP", f"{sender} is at {mac(data, at + 8)}")


def _ip4(data: bytes, at: int, so_far: Decoded) -> Decoded:
    so_far = so_far.between(address(data, at + 12, 4), address(data, at + 16, 4)).says("IPv4", "")
    long, fragment = (u8(data, at) & 0xF) * 4, u16(data, at + 6) & 0x1FFF
    end = min(len(data), at + u16(data, at + 2)) if u16(data, at + 2) else len(data)
    if fragment:
        return so_far.says("IPv4", f"fragment at {fragment * 8}")
    return _transport(u8(data, at + 9), data[:end], at + long, so_far)


def _ip6(data: bytes, at: int, so_far: Decoded) -> Decoded:
    so_far = so_far.between(address(data, at + 8, 16), address(data, at + 24, 16)).says("IPv6", "")
    kind, end = u8(data, at + 6), min(len(data), at + 40 + u16(data, at + 4))
    end, at = end if end > at + 40 else len(data), at + 40
    for _ in range(MOST_LAYERS):
        if kind == 44:
            if fragment := u16(data, at + 2) & 0xFFF8:
                return so_far.says("IPv6", f"fragment at {fragment}")
            kind, at = u8(data, at), at + 8
        elif kind in _EXTENSIONS:
            kind, at = u8(data, at), at + (u8(data, at + 1) + 1) * 8
    return _transport(kind, data[:end], at, so_far)


def _transport(kind: int, data: bytes, at: int, so_far: Decoded) -> Decoded:
    if layer := _TRANSPORTS.get(kind):
        return _tried(layer, data, at, so_far)
    name = _OTHER_IP.get(kind, f"IP protocol {kind}")
    return so_far.says(name, f"{max(0, len(data) - at)} bytes")


def _tcp(data: bytes, at: int, so_far: Decoded) -> Decoded:
    ports = u16(data, at), u16(data, at + 2)
    so_far = so_far.says("TCP", f"{ports[0]} → {ports[1]}")
    marks, body = u8(data, at + 13), data[at + max(20, (u8(data, at + 12) >> 4) * 4) :]
    flags = " ".join(name for bit, name in _FLAGS if marks & bit) or "no flags"
    words = f"{so_far.info} [{flags}] seq {u32(data, at + 4)}"
    words += f" ack {u32(data, at + 8)}" if marks & 0x10 else ""
    so_far = so_far.says("TCP", f"{words} window {u16(data, at + 14)} length {len(body)}")
    return applications.tcp(ports, body, so_far) if body else so_far


def _udp(data: bytes, at: int, so_far: Decoded) -> Decoded:
    ports, body = (u16(data, at), u16(data, at + 2)), part(data, at + 8, len(data) - at - 8)
    so_far = so_far.says("UDP", f"{ports[0]} → {ports[1]} length {u16(data, at + 4) - 8}")
    return applications.udp(ports, body, so_far)


def _sctp(data: bytes, at: int, so_far: Decoded) -> Decoded:
    return so_far.says("SCTP", f"{u16(data, at)} → {u16(data, at + 2)}")


def _icmp(data: bytes, at: int, so_far: Decoded) -> Decoded:
    kind, code = u8(data, at), u8(data, at + 1)
    words = _ICMP.get(kind, f"type {kind}")
    if kind == 3:
        words = f"{_UNREACHABLE.get(code, f'code {code}')} unreachable".replace(
            "needed unreachable", "needed"
        )
    elif kind in (0, 8):
        words += f" id {u16(data, at + 4)} seq {u16(data, at + 6)}"
    return so_far.says("ICMP", words)


def _icmp6(data: bytes, at: int, so_far: Decoded) -> Decoded:
    kind = u8(data, at)
    words = _ICMP6.get(kind, f"type {kind}")
    if kind in (128, 129):
        words += f" id {u16(data, at + 4)} seq {u16(data, at + 6)}"
    elif kind in (135, 136):
        words += f" {address(data, at + 8, 16)}"
    return so_far.says("ICMPv6", words)


_TRANSPORTS: dict[int, Layer] = {1: _icmp, 6: _tcp, 17: _udp, 58: _icmp6, 132: _sctp}
_ETHERTYPES: dict[int, Layer] = {
    0x0800: _ip4,
    0x86DD: _ip6,
    0x0806: _arp,
    0x8847: _mpls,
    0x8848: _mpls,
    0x8864: _pppoe,
}
_NAMES = {0x88CC: "LLDP", 0x8863: "PPPoE", 0x888E: "EAPOL", 0x88E5: "MACsec", 0x8809: "LACP"}
_LINKTYPES: dict[int, Layer] = {
    0: _loopback,
    1: _ethernet,
    12: _raw,
    101: _raw,
    108: _loopback,
    113: _cooked,
    228: _raw,
    229: _raw,
    276: _cooked2,
}
