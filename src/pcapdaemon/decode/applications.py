"""Decodes what is in TCP segments and UDP datagrams: DNS, TLS, HTTP and the like."""

import re
from collections.abc import Callable

from pcapdaemon.decode.decoded import Decoded, part, u8, u16

_HTTP = re.compile(
    rb"((?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|CONNECT|TRACE) [^\r\n]{1,400}"
    rb"|HTTP/1\.[01] [0-9]{3}[^\r\n]{0,100})\r?\n"
)
_QUERY_TYPES = {
    **{1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA"},
    **{33: "SRV", 43: "DS", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 255: "ANY"},
}
_ERRORS = {1: "format error", 2: "server failure", 3: "no such name", 5: "refused"}
_RECORDS = {20: "change cipher", 21: "alert", 22: "handshake", 23: "application data"}
_HANDSHAKES = {
    **{1: "client hello", 2: "server hello", 4: "session ticket", 11: "certificate"},
    **{12: "server key exchange", 14: "server hello done", 16: "client key exchange"},
}
LONGEST_NAME = 255
MOST_LABELS = 128


def tcp(ports: tuple[int, int], data: bytes, so_far: Decoded) -> Decoded:
    """Return what a segment with data says, or `so_far` if that is not recognized."""
    if found := _HTTP.match(data):
        return so_far.says("HTTP", found[1].decode("latin-1"))
    if 53 in ports and len(data) > 2:
        return _or_not(dns, data[2:], so_far)
    if len(data) > 5 and data[0] in _RECORDS and data[1] == 3 and data[2] <= 4:
        return _or_not(tls, data, so_far)
    if data.startswith(b"SSH-"):
        return so_far.says("SSH", data[:LONGEST_NAME].split(b"\n", 1)[0].strip().decode("latin-1"))
    return so_far


def udp(ports: tuple[int, int], data: bytes, so_far: Decoded) -> Decoded:
    """Return what a datagram says, or `so_far` if that is not recognized."""
    for port in ports:
        if decoder := _BY_PORT.get(port):
            return _or_not(decoder, data, so_far)
    return so_far


def _or_not(decoder: Callable[[bytes, Decoded], Decoded], data: bytes, so_far: Decoded) -> Decoded:
    """Return what a decoder finds. Data may look like those of a protocol, and be none."""
    try:
        return decoder(data, so_far)
    except (IndexError, ValueError):
        return so_far


def dns(data: bytes, so_far: Decoded) -> Decoded:
    """Decode a DNS message. Raises IndexError or ValueError if it is none."""
    marks, questions, answers = (int.from_bytes(part(data, at, 2)) for at in (2, 4, 6))
    if questions > 16:
        raise ValueError("no DNS")
    asked = ""
    if questions:
        name, at = _name(data, 12)
        kind = int.from_bytes(part(data, at, 2))
        asked = f" {_QUERY_TYPES.get(kind, f'type {kind}')} {name}"
    if not marks & 0x8000:
        return so_far.says("DNS", f"query{asked}")
    code = marks & 0xF
    result = _ERRORS.get(code, f"error {code}") if code else f"{answers} answers"
    return so_far.says("DNS", f"response{asked}: {result}")


def _name(data: bytes, at: int) -> tuple[str, int]:
    """Return the name at an offset, and the offset behind it. Follows no pointer: it is first."""
    labels: list[str] = []
    while (size := u8(data, at)) and len(labels) < MOST_LABELS:
        if size > 63:
            raise ValueError("a pointer")
        labels.append(part(data, at + 1, size).decode("latin-1"))
        at += 1 + size
    return ".".join(labels)[:LONGEST_NAME] or ".", at + 1


def tls(data: bytes, so_far: Decoded) -> Decoded:
    """Decode the first TLS record. Raises IndexError if it is cut off."""
    kind = u8(data, 0)
    if kind != 22:
        return so_far.says("TLS", _RECORDS[kind])
    shake = u8(data, 5)
    if shake not in _HANDSHAKES:  # encrypted
        return so_far.says("TLS", "handshake")
    name = _server_name(data) if shake == 1 else ""
    return so_far.says("TLS", _HANDSHAKES[shake] + (f" for {name}" if name else ""))


def _server_name(data: bytes) -> str:
    """Return the name in a client hello (RFC 6066, section 3), or ""."""
    try:
        at = 5 + 4 + 2 + 32
        at += 1 + u8(data, at)
        at += 2 + u16(part(data, at, 2), 0)
        at += 1 + u8(data, at)
        end = at + 2 + u16(part(data, at, 2), 0)
        at += 2
        while at + 4 <= min(end, len(data)):
            kind, size = u16(data, at), u16(data, at + 2)
            if kind == 0:
                long = u16(part(data, at + 7, 2), 0)
                return part(data, at + 9, min(long, LONGEST_NAME)).decode("latin-1")
            at += 4 + size
    except IndexError:
        pass
    return ""


def _dhcp(data: bytes, so_far: Decoded) -> Decoded:
    kinds = {1: "request", 2: "reply"}
    return so_far.says(
        "DHCP", f"{kinds.get(u8(data, 0), 'message')} for {part(data, 28, 6).hex(':')}"
    )


def _plain(protocol: str) -> Callable[[bytes, Decoded], Decoded]:
    return lambda data, so_far: so_far.says(protocol, f"{len(data)} bytes")


def _mdns(data: bytes, so_far: Decoded) -> Decoded:
    found = dns(data, so_far)
    return found.says("mDNS", found.info)


_BY_PORT: dict[int, Callable[[bytes, Decoded], Decoded]] = {
    53: dns,
    5353: _mdns,
    67: _dhcp,
    68: _dhcp,
    123: _plain("NTP"),
    161: _plain("SNMP"),
    162: _plain("SNMP"),
    443: _plain("QUIC"),
    500: _plain("IKE"),
    514: _plain("syslog"),
    4789: _plain("VXLAN"),
    6081: _plain("Geneve"),
    51820: _plain("WireGuard"),
}
