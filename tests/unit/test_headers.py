"""Where the headers of a packet end, `payload = "headers"`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH, ESP
from scapy.layers.l2 import ARP, GRE, CookedLinux, Dot1AD, Dot1Q, Ether
from scapy.layers.ppp import PPP, PPPoE
from scapy.layers.sctp import SCTP
from scapy.packet import Raw

from pcapdaemon.native.headers import headers_of

SECRET = b"SECRET-PAYLOAD-OF-SOMEBODY"
LINKTYPES = [
    "EN10MB",
    "LINUX_SLL",
    "LINUX_SLL2",
    "RAW",
    "IPV4",
    "IPV6",
    "NULL",
    "LOOP",
    "USB_LINUX",
]
OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 2)), ("NOP", None), ("WScale", 7)]
ROUTE = IPv6ExtHdrRouting(addresses=["2001:db8::1"])

WHOLE_HEADERS: dict[str, tuple[str, Any]] = {
    "TCP": ("EN10MB", Ether() / IP() / TCP()),
    "TCP with options": ("EN10MB", Ether() / IP() / TCP(options=OPTIONS)),
    "IP with options": ("EN10MB", Ether() / IP(options=[IPOption_RR(routers=["1.2.3.4"])]) / UDP()),
    "UDP over IPv6": ("EN10MB", Ether() / IPv6() / UDP()),
    "one tag": ("EN10MB", Ether() / Dot1Q(vlan=5) / IP() / UDP()),
    "two tags": ("EN10MB", Ether() / Dot1AD(vlan=5) / Dot1Q(vlan=6) / IPv6() / TCP()),
    "MPLS": ("EN10MB", Ether() / MPLS(label=1, s=0) / MPLS(label=2, s=1) / IP() / TCP()),
    "PPPoE": ("EN10MB", Ether() / PPPoE(sessionid=1) / PPP(proto=0x21) / IP() / UDP()),
    "extension headers": (
        "EN10MB",
        Ether() / IPv6() / IPv6ExtHdrHopByHop() / ROUTE / IPv6ExtHdrDestOpt() / TCP(),
    ),
    "first fragment of IPv6": ("EN10MB", Ether() / IPv6() / IPv6ExtHdrFragment(m=1) / UDP()),
    "AH": ("EN10MB", Ether() / IP(proto=51) / AH(nh=6, payloadlen=4, icv=b"\0" * 12) / TCP()),
    "GRE": ("EN10MB", Ether() / IP() / GRE() / IP() / TCP()),
    "GRE with a key": ("EN10MB", Ether() / IP() / GRE(key_present=1, key=7) / IPv6() / UDP()),
    "IP in IP": ("EN10MB", Ether() / IP() / IP() / TCP()),
    "IPv6 in IP": ("EN10MB", Ether() / IP() / IPv6() / UDP()),
    "SCTP": ("EN10MB", Ether() / IP(proto=132) / SCTP()),
    "ping": ("EN10MB", Ether() / IP() / ICMP()),
    "ping over IPv6": ("EN10MB", Ether() / IPv6() / ICMPv6EchoRequest()),
    "an error quotes headers": ("EN10MB", Ether() / IP() / ICMP(type=3) / IP() / UDP()),
    "an error over IPv6": ("EN10MB", Ether() / IPv6() / ICMPv6DestUnreach() / IPv6() / TCP()),
    "cooked": ("LINUX_SLL", CookedLinux() / IP() / TCP()),
    "raw": ("RAW", IP() / TCP()),
    "raw IPv6": ("RAW", IPv6() / UDP()),
    "loopback of BSD": ("NULL", Raw(b"\2\0\0\0") / IP() / TCP()),
}


@pytest.mark.parametrize(("linktype", "headers"), WHOLE_HEADERS.values(), ids=WHOLE_HEADERS.keys())
def test_headers_are_kept_and_payload_is_not(linktype: str, headers: Any) -> None:
    packet = bytes(headers / SECRET)
    assert headers_of(linktype, packet) == len(packet) - len(SECRET)


# Ethernet inside MPLS: its addresses look like IPv6 and IPv4
PSEUDOWIRE = Ether(dst="6c:00:00:00:00:11", src="00:40:00:00:00:01") / IP() / UDP() / SECRET
PSEUDOWIRE_4 = Ether(dst="45:00:00:00:00:11", src="00:40:00:00:00:01") / IP() / UDP() / SECRET

SECRETS: dict[str, tuple[str, bytes, int]] = {
    "a later fragment": ("EN10MB", bytes(Ether() / IP(frag=100) / SECRET), 34),
    "a later fragment of IPv6": (
        "EN10MB",
        bytes(Ether() / IPv6(nh=44) / IPv6ExtHdrFragment(offset=9, nh=17) / SECRET),
        62,
    ),
    "another protocol of IP": ("EN10MB", bytes(Ether() / IP(proto=89) / SECRET), 34),
    "another protocol": ("EN10MB", bytes(Ether(type=0x88CC) / SECRET), 14),
    "IEEE 802.3": ("EN10MB", bytes(Ether(type=26) / SECRET), 14),
    "no IP": ("EN10MB", bytes(Ether(type=0x0800) / SECRET), 14),
    "ESP": ("EN10MB", bytes(Ether() / IP(proto=50) / ESP(spi=1, seq=2) / SECRET), 42),
    "an unknown linktype": ("USB_LINUX", SECRET, 0),
    "ARP with something behind": ("EN10MB", bytes(Ether() / ARP() / SECRET), 42),
    "a pseudowire": ("EN10MB", bytes(Ether() / MPLS(s=1) / PSEUDOWIRE), 18),
    "a pseudowire like IPv4": ("EN10MB", bytes(Ether() / MPLS(s=1) / PSEUDOWIRE_4), 18),
    "an extension header over IPv4": ("EN10MB", bytes(Ether() / IP(proto=0) / (SECRET * 9)), 34),
    "an IP header that is too short": ("EN10MB", bytes(Ether() / IP(ihl=0) / SECRET), 14),
    "ARP with long addresses": ("EN10MB", bytes(Ether() / ARP(hwlen=255, plen=255) / SECRET), 14),
    "many tags": ("EN10MB", bytes(Ether() / Raw(b"\x81\0\0\1" * 40) / SECRET), 14 + 4 * 16),
}


@pytest.mark.parametrize(("linktype", "packet", "kept"), SECRETS.values(), ids=SECRETS.keys())
def test_what_is_not_understood_is_cut(linktype: str, packet: bytes, kept: int) -> None:
    assert headers_of(linktype, packet) <= kept
    assert SECRET not in packet[: headers_of(linktype, packet)]


@given(st.sampled_from(LINKTYPES), st.binary(max_size=300))
def test_no_bytes_lead_out_of_a_packet(linktype: str, data: bytes) -> None:
    assert 0 <= headers_of(linktype, data) <= len(data)


@given(st.sampled_from(list(WHOLE_HEADERS)), st.data())
def test_a_packet_that_is_cut_or_bent_stays_within(name: str, data: st.DataObject) -> None:
    linktype, headers = WHOLE_HEADERS[name]
    packet = bytearray(bytes(headers / SECRET))
    for _ in range(data.draw(st.integers(0, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(packet[: data.draw(st.integers(0, len(packet)))])
    assert 0 <= headers_of(linktype, cut) <= len(cut)


IP_HEADER = st.builds(
    lambda first, rest, protocol, more: bytes([first]) + rest + bytes([protocol]) + more,
    st.sampled_from([0x45, 0x45, 0x45, 0x46, 0x55]),
    st.one_of(st.just(bytes(8)), st.binary(min_size=8, max_size=8)),
    st.sampled_from([6, 17, 1, 132]),
    st.binary(max_size=80),
)


@given(IP_HEADER)
def test_common_packets_are_cut_as_all_others(packet: bytes) -> None:
    frame = bytes(12) + b"\x08\x00" + packet
    assert headers_of("EN10MB", frame) == 14 + headers_of("IPV4", packet)
