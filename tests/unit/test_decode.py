"""Packets in words, and what is in a savefile. Whatever the bytes are, nothing raises."""

import gzip
import io
import struct
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, CookedLinux, Dot1Q, Ether
from scapy.packet import Packet as ScapyPacket

from pcapdaemon.core.errors import NotASavefile
from pcapdaemon.decode.packets import decode
from pcapdaemon.decode.reading import Packet, packets
from pcapdaemon.decode.summary import MOST_STEPS, OverTime, listed, summarize
from pcapdaemon.savefile.merging import Part, merged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ETHERNET = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
V4 = ETHERNET / IP(src="192.0.2.1", dst="198.51.100.2")
V6 = ETHERNET / IPv6(src="2001:db8::1", dst="2001:db8::2")
HELLO = bytes.fromhex(
    "16030100500100004c0303" + "00" * 32 + "00" + "0002c02f" + "0100" + "0021"
    "0000" + "0010" + "000e" + "00" + "000b" + b"example.com".hex() + "000a00040002001d" + "ff0100"
)


@pytest.mark.parametrize(
    ("packet", "protocol", "info"),
    [
        (V4 / TCP(sport=1234, dport=80, flags="S"), "TCP", "1234 → 80 [SYN] seq 0"),
        (V4 / TCP(dport=80) / b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP", "GET /a HTTP/1.1"),
        (V4 / TCP(sport=80) / b"HTTP/1.1 404 Not Found\r\n", "HTTP", "HTTP/1.1 404 Not Found"),
        (V4 / TCP(dport=443) / HELLO, "TLS", "client hello for example.com"),
        (V4 / TCP(dport=22) / b"SSH-2.0-OpenSSH\r\n", "SSH", "SSH-2.0-OpenSSH"),
        (V4 / UDP(sport=5, dport=9) / b"abc", "UDP", "5 → 9 length 3"),
        (
            V4 / UDP(dport=53) / DNS(qd=DNSQR(qname="a.example", qtype="AAAA")),
            "DNS",
            "query AAAA a.example",
        ),
        (
            V4 / UDP(sport=53) / DNS(qr=1, rcode=3, qd=DNSQR(qname="b.example")),
            "DNS",
            "response A b.example: no such name",
        ),
        (V4 / ICMP(type=8, id=7, seq=2), "ICMP", "echo request id 7 seq 2"),
        (V4 / ICMP(type=3, code=3), "ICMP", "port unreachable"),
        (V4 / ICMP(type=3, code=4), "ICMP", "fragmentation needed"),
        (V6 / ICMPv6EchoRequest(id=3, seq=4), "ICMPv6", "echo request id 3 seq 4"),
        (V6 / ICMPv6ND_NS(tgt="2001:db8::9"), "ICMPv6", "neighbor solicitation 2001:db8::9"),
        (V6 / IPv6ExtHdrHopByHop() / UDP(sport=1, dport=2) / b"x", "UDP", "1 → 2 length 1"),
        (ETHERNET / ARP(op=1, pdst="192.0.2.9"), "ARP", "who has 192.0.2.9?"),
        (ETHERNET / IP(src="192.0.2.1", dst="198.51.100.2", frag=5), "IPv4", "fragment at 40"),
        (Ether(type=0x88CC) / b"abc", "LLDP", "3 bytes"),
        (Ether(type=0x1234) / b"abc", "ethertype 0x1234", "3 bytes"),
        (ETHERNET / IP(src="192.0.2.1", dst="198.51.100.2", proto=47) / b"abcd", "GRE", "4 bytes"),
    ],
)
def test_what_a_packet_is(packet: ScapyPacket, protocol: str, info: str) -> None:
    found = decode(1, bytes(packet))
    assert found.protocol == protocol
    assert found.info.startswith(info)
    if packet.haslayer(IP):
        assert (found.source, found.destination) == ("192.0.2.1", "198.51.100.2")


def test_tags_and_other_link_layers() -> None:
    inner = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=2)
    tagged = decode(1, bytes(Ether() / Dot1Q(vlan=5) / Dot1Q(vlan=9) / inner))
    assert (tagged.tags, tagged.protocol) == (("VLAN 5", "VLAN 9"), "UDP")
    assert decode(101, bytes(inner)).source == "192.0.2.1"
    assert decode(113, bytes(CookedLinux(proto=0x800) / inner)).source == "192.0.2.1"
    assert decode(0, b"\x02\0\0\0" + bytes(inner)).source == "192.0.2.1"
    assert decode(9999, b"abc").protocol == "linktype 9999"


@given(
    st.sampled_from([0, 1, 101, 113, 276, 228, 7]),
    st.binary(max_size=200),
)
def test_any_bytes_are_decoded(linktype: int, data: bytes) -> None:
    assert decode(linktype, data).info.isprintable()


REAL = [
    bytes(one)
    for one in (
        V4 / TCP(dport=443) / HELLO,
        V4 / UDP(dport=53) / DNS(qd=DNSQR(qname="a.example")),
        V4 / UDP(sport=53) / DNS(qr=1, qd=DNSQR(qname="a.example"), an=DNSRR(rdata="192.0.2.1")),
        V6 / IPv6ExtHdrHopByHop() / ICMPv6ND_NS(),
        Ether() / Dot1Q(vlan=5) / ARP(),
    )
]


@given(st.sampled_from(REAL), st.integers(0, 200), st.integers(0, 200), st.integers(0, 255))
def test_cut_and_damaged_packets_are_decoded(data: bytes, end: int, at: int, value: int) -> None:
    damaged = bytearray(data[:end])
    if at < len(damaged):
        damaged[at] = value
    assert decode(1, bytes(damaged)).info.isprintable()


def pcap(order: str = "<", magic: int = 0xA1B2C3D4, fraction: int = 5) -> bytes:
    header = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    return header + struct.pack(order + "IIII", 9, fraction, 3, 7) + b"abc"


def read(data: bytes) -> list[Packet]:
    return list(packets(io.BytesIO(data)))


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_kind_of_pcap(order: str) -> None:
    assert read(pcap(order)) == [Packet(1, 9_000_005_000, 7, 1, b"abc")]
    assert read(pcap(order, 0xA1B23C4D))[0].ns == 9_000_000_005
    assert read(gzip.compress(pcap(order))) == read(pcap(order))


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def pcapng(order: str) -> bytes:
    def option(code: int, value: bytes) -> bytes:
        return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)

    section = block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    plain = block(order, 1, struct.pack(order + "HHI", 1, 0, 0) + option(2, b"eth0"))
    nano = option(2, b"wlan0") + option(9, b"\x09") + option(14, struct.pack(order + "q", 100))
    other = block(order, 1, struct.pack(order + "HHI", 101, 0, 0) + nano)
    first = struct.pack(order + "IIIII", 0, 0, 7_000_001, 3, 3) + b"abc\0" + option(1, b"trigger")
    second = struct.pack(order + "IIIII", 1, 0, 5, 4, 9) + b"abcd"
    unknown = block(order, 0xBAD, b"what")
    return section + plain + other + unknown + block(order, 6, first) + block(order, 6, second)


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_kind_of_pcapng(order: str) -> None:
    assert read(pcapng(order) + pcapng("<"))[:2] == [
        Packet(1, 7_000_001_000, 3, 1, b"abc", "eth0", "trigger"),
        Packet(2, 100_000_000_005, 9, 101, b"abcd", "wlan0"),
    ]
    assert len(read(pcapng(order) + pcapng(">"))) == 4


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x0a\x0d\x0d\x0a" + bytes(40)])
def test_what_is_no_savefile_is_said(data: bytes) -> None:
    found = summarize(packets(io.BytesIO(data)), 10, 1)
    assert (found.packets, found.whole) == (0, False)
    assert found.reason


ZSTD = zstd.compress(pcap() + pcap()[24:] * 500)


@pytest.mark.parametrize(
    "data",
    [
        pcapng("<")[:-1],
        pcap() + pcap()[24:-1],
        pcap() + b"\0",
        gzip.compress(pcap() + bytes(range(256)) * 9)[:-40],
        ZSTD[:-5],
        gzip.compress(pcap() + pcap()[24:] * 9)[:45] + b"\xff" * 20,
    ],
    ids=["pcapng", "packet", "header", "gzip", "zstd", "deflate"],
)
def test_a_damaged_file_has_the_packets_before_the_damage_and_says_so(data: bytes) -> None:
    found = summarize(packets(io.BytesIO(data)), 100_000, 60)
    assert not found.whole
    assert found.reason
    shown = list(listed(packets(io.BytesIO(data)), 1, 1000)) if found.packets else []
    assert len(shown) == found.packets


def test_a_part_that_is_damaged_is_merged_as_far_as_it_goes() -> None:
    damaged: list[str] = []
    parts = [Part("a", io.BytesIO(pcap() + pcap()[24:-1])), Part("b", io.BytesIO(pcap()))]
    found = read(b"".join(merged(parts, "", damaged)))
    assert [one.interface for one in found] == ["a", "b"]
    assert damaged == ["a: it ends too early"]
    with pytest.raises(NotASavefile):
        list(merged([Part("c", io.BytesIO(b"no"))]))


def test_a_block_of_gigabytes_is_refused() -> None:
    data = pcap()[:24] + struct.pack("<IIII", 1, 1, 1 << 30, 1 << 30)
    with pytest.raises(NotASavefile, match="a block of 1073741824 bytes"):
        read(data)


@given(st.binary(max_size=300), st.sampled_from([pcap(), pcapng("<"), pcapng(">")]), st.data())
def test_damaged_files_end_or_are_refused(junk: bytes, whole: bytes, data: Any) -> None:
    at = data.draw(st.integers(0, len(whole)))
    found = summarize(packets(io.BytesIO(whole[:at] + junk)), 1000, 5)
    assert found.packets <= 1000


@given(st.lists(st.tuples(st.integers(0, 10**15), st.integers(1, 9000)), max_size=300))
def test_nothing_is_lost_over_time(seen: list[tuple[int, int]]) -> None:
    over = OverTime()
    for ns, size in seen:
        over.add(ns, size)
    assert sum(over.packets) == len(seen)
    assert sum(over.bytes) == sum(size for _, size in seen)
    assert len(over.packets) == len(over.bytes) <= MOST_STEPS


def test_a_summary_counts_pairs_protocols_and_time() -> None:
    there = bytes(V4 / UDP(sport=5, dport=9) / b"abc")
    back = bytes(
        ETHERNET / IP(src="198.51.100.2", dst="192.0.2.1") / UDP(sport=9, dport=5) / b"abc"
    )
    file = pcap()[:24] + b"".join(
        struct.pack("<IIII", n, 0, len(one), 100) + one for n, one in ((1, there), (3, back))
    )
    found = summarize(packets(io.BytesIO(file)), 10, 60).as_json()
    assert (found["packets"], found["bytes"], found["whole"]) == (2, 200, True)
    assert (found["first_packet_at"], found["last_packet_at"]) == (1.0, 3.0)
    assert found["protocols"] == {"UDP": 2}
    assert found["talkers"] == [
        {"between": ["192.0.2.1", "198.51.100.2"], "packets": 2, "bytes": 200}
    ]
    assert not summarize(packets(io.BytesIO(file)), 1, 60).whole
    assert [one["number"] for one in listed(packets(io.BytesIO(file)), 2, 5)] == [2]
