"""Capture filters keep what tcpdump keeps, live and from a recorder, whatever they consist of."""

import random
import re
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import ARP, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.layers.ppp import PPPoE
from scapy.layers.sctp import SCTP
from scapy.packet import Packet, Raw

from pcapdaemon.capture.live import CaptureSettings, LiveSource
from pcapdaemon.capture.recorder import Recorder, RecorderSettings
from pcapdaemon.capture.source import PacketSource, SourceOptions
from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.core.filters import is_simple
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.core.limits import CaptureLimits
from pcapdaemon.native.memory import MemoryBudget
from tests.contracts.captures import Running, run
from tests.helpers import Wire, eventually, packets
from tests.integration.test_packet_sources import read

A, B, C = "10.1.0.1", "10.1.0.2", "10.2.0.3"
A6, B6 = "fd00::1", "fd00::2"
MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"

METADATA = re.compile("inbound|outbound|ifindex")
"""libpcap filters the first packet in user space, where these match nothing: tcpdump loses it."""

PRIMITIVES = (
    *(f"host {A}", f"src host {B}", f"dst host {C}", f"host {A6}", f"ip6 dst host {B6}"),
    *("net 10.1.0.0/16", "src net 10.2", "dst net 10.1.0.0 mask 255.255.0.0", "net fd00::/64"),
    *("port 53", "src port 1000", "dst port 443", "tcp port 443", "udp port 53", "sctp port 9"),
    *("portrange 50-60", "udp src portrange 900-1100", "tcp dst portrange 1-500"),
    *(f"ether host {MAC_A}", f"ether src {MAC_B}", f"ether dst {MAC_A}", "ether broadcast"),
    *("ether multicast", "ip broadcast or ip multicast", "ip multicast", "ip6 multicast"),
    *("ether proto 0x0806", "ether proto 2048", "ip proto 17", "ip6 proto 58", "proto 6"),
    *("ip proto \\tcp", "ether proto \\ip6", "ip protochain 17", "ip6 protochain 17"),
    *("protochain 6", "ip", "ip6", "arp", "rarp", "tcp", "udp", "icmp", "icmp6", "sctp", "igmp"),
    *("stp", "llc", "ah or esp or pim or vrrp", "decnet host 1.2 or arp", "iso or ipx or netbeui"),
    *("vlan", "vlan 10", "vlan 20", "vlan 10 and ip", "vlan and vlan", "not vlan"),
    *("vlan 10 and udp port 53", "mpls", "mpls 100", "mpls 100 and ip", "pppoes", "pppoes 7"),
    *("pppoes and ip", "pppoed", "less 80", "greater 200", "len > 100", "len <= 60"),
    *("inbound", "outbound", "ifindex 1", f"ether[0:4] = {0x02000000}", "ip[8] = 64"),
    *("ip[6:2] & 0x1fff != 0", "tcp[tcpflags] & tcp-syn != 0", "tcp[13] = 0x12"),
    *("icmp[icmptype] = icmp-echo", "ip6[6] = 17", "udp[4:2] > 100", "ip[2:2] * 2 > 300"),
    *("ip[0] & 0xf != 5", "ether[12:2] >= 0x0800", "((ip[2:2] - ((ip[0]&0xf)<<2)) > 50)"),
    *(f"host ({A} or {C})", f"not (host {A} and port 53)", "tcp or not ip"),
    # libpcap's optimizer gets filters of this kind wrong.
    f"host {A} and not (port 53 or port 443 or host {C} or icmp or less 70 or ip[8] = 63)",
    f"host {A} and not (host {B} or (src net 10.2 and dst port 443) or (tcp and port 1000))",
)
"""Every primitive of pcap-filter(7) for Ethernet, and combinations of them."""


def traffic() -> list[bytes]:
    """Return frames of many kinds, which differ in their last bytes."""
    ethers = [Ether(src=MAC_A, dst=MAC_B), Ether(src=MAC_B, dst=MAC_A)]
    made: list[Packet] = []
    for ether in ethers:
        for src, dst in ((A, B), (B, C), (C, A)):
            for upper in (
                UDP(sport=1000, dport=53),
                TCP(sport=1000, dport=443, flags="S"),
                TCP(sport=443, dport=1000, flags="SA"),
                ICMP(),
                SCTP(sport=9, dport=9),
            ):
                made += [ether / IP(src=src, dst=dst) / upper]
            made += [ether / IP(src=src, dst=dst, ttl=63, frag=100) / Raw(bytes(60))]
        v6 = IPv6(src=A6, dst=B6)
        made += [
            ether / v6 / UDP(sport=1000, dport=53),
            ether / v6 / TCP(dport=443),
            ether / v6 / ICMPv6EchoRequest(),
            ether / v6 / IPv6ExtHdrDestOpt() / UDP(dport=53),
            ether / v6 / IPv6ExtHdrFragment() / TCP(dport=443),
            ether / ARP(),
            ether / Dot1Q(vlan=10) / IP(src=A, dst=C) / UDP(dport=53),
            ether / Dot1Q(vlan=20) / IP(src=A, dst=C) / TCP(dport=443),
            ether / Dot1Q(vlan=10) / Dot1Q(vlan=20) / IP(src=A, dst=B) / UDP(),
            ether / Dot1AD(vlan=20) / Dot1Q(vlan=10) / IP(src=A, dst=B) / UDP(dport=53),
            ether / MPLS(label=100, s=1) / IP(src=A, dst=B) / UDP(dport=53),
            ether / Dot1Q(vlan=10) / MPLS(label=100, s=1) / IP(src=A, dst=B),
            Ether(src=MAC_A, dst=MAC_B, type=0x8864)
            / PPPoE(sessionid=7)
            / Raw(b"\0\x21" + bytes(IP(src=A, dst=B) / UDP(dport=53))),
            Ether(src=MAC_A, dst=MAC_B, type=0x8863) / Raw(bytes(40)),
            Ether(src=MAC_A, dst="ff:ff:ff:ff:ff:ff") / IP(src=A, dst="10.255.255.255") / UDP(),
            Ether(src=MAC_A, dst="01:00:5e:00:00:01") / IP(src=A, dst="224.0.0.1") / UDP(),
            Dot3(src=MAC_A, dst="01:80:c2:00:00:00") / LLC() / STP(),
            Dot3(src=MAC_A, dst=MAC_B) / LLC() / SNAP() / Raw(bytes(30)),
            ether / Raw(b"\x45"),
        ]
    return [bytes(p) + bytes(n % 7 * 31) + n.to_bytes(2, "big") for n, p in enumerate(made)]


def combinations(seed: int, number: int) -> list[str]:
    rng = random.Random(seed)
    found: list[str] = []
    while len(found) < number:
        terms = rng.choices(PRIMITIVES, k=rng.choice((2, 2, 3, 4, 12)))
        text = terms[0]
        for term in terms[1:]:
            text = f"{rng.choice(('', '', 'not '))}({text}) {rng.choice(('and', 'or', 'or'))}"
            text += f" {rng.choice(('', 'not '))}({term})"
        found.append(text)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_what_is_kept_is_what_tcpdump_keeps(wire: Wire, tmp_path: Path, seed: int | None) -> None:
    expressions = list(PRIMITIVES) if seed is None else combinations(seed, 40)
    with recorder(wire) as recorded, ExitStack() as stack:
        budget = MemoryBudget(2 << 30)
        found: list[tuple[str, Tcpdump, list[Taking]]] = []
        for text in expressions:
            peer = stack.enter_context(tcpdump(wire.far, text, tmp_path))
            if takings := begin(text, wire, recorded, budget, peer is None):
                assert peer
                found.append((text, peer, takings))
        send(wire, traffic())
        time.sleep(0.3)  # longer than the kernel holds packets back
        for text, peer, takings in found:
            kept = peer.end()
            for taking in takings:
                got = taking.end(tmp_path)
                if METADATA.search(text) and len(got) > len(kept):
                    del got[0]
                assert taking.source.stats[1] == 0, text
                assert got == kept or not peer.knows, (text, taking.source)
    assert len(found) > len(expressions) * 0.7


def begin(
    text: str, wire: Wire, recorded: Recorder, budget: MemoryBudget, is_wrong: bool
) -> list["Taking"]:
    """Return a live capture and, where the recorder can serve the filter, one from it."""
    try:
        takings = [Taking(live(wire, budget), text)]
    except CaptureRefused as error:
        assert is_wrong or "the kernel can't run this filter" in str(error)
        return []
    assert not is_wrong
    source = recorded.source(budget, time.monotonic_ns(), 0)
    assert source
    with suppress(Unrecorded):
        takings.append(Taking(source, text))
    return takings


def test_a_filter_that_the_kernel_cannot_run_is_run_and_reported(wire: Wire) -> None:
    budget = MemoryBudget(64 << 20)
    kernel, process = (
        Taking(live(wire, budget), text) for text in ("udp port 53", "ip6 protochain 17")
    )
    assert kernel.source.filtered_in_kernel
    assert not process.source.filtered_in_kernel
    for taking in (kernel, process):
        taking.close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("host no.such.name", "names are not looked up"),
        ("host localhost", "names are not looked up"),
        ("net loopback", "names are not looked up"),
        ("ip protochain 17 and inbound", "the kernel can't run this filter"),
        (
            " or ".join(f"host 10.{n % 250}.{n // 250}.1" for n in range(3000)),
            "at most 4096|too long",
        ),
        ("(" * 100_000 + "ip" + ")" * 100_000, "memory|parse|syntax"),
        ("udp port", "syntax error"),
    ],
)
def test_what_is_too_much_is_refused_in_words_and_costs_this_process_nothing(
    wire: Wire, text: str, words: str
) -> None:
    source, before = live(wire, MemoryBudget(64 << 20)), peak()
    begun = time.monotonic()
    with pytest.raises(CaptureRefused, match=words) as refused:
        source.arm(options(text))
    source.close()
    assert refused.value.kind == "filter"
    assert time.monotonic() - begun < 10
    assert peak() - before < 8 << 20


def test_ports_and_protocols_may_have_names(wire: Wire) -> None:
    for text in ("port domain", "tcp port http", "ip proto \\udp"):
        Taking(live(wire, MemoryBudget(64 << 20)), text).close()


def test_with_names_they_are_looked_up(wire: Wire) -> None:
    source = live(wire, MemoryBudget(64 << 20))
    source.arm(options("host localhost", names=True))
    source.close()


@pytest.mark.parametrize("text", [t for t in PRIMITIVES if len(t) <= 256])
def test_what_needs_no_lookup_is_compiled_without_a_process(text: str) -> None:
    assert is_simple(text) == ("\\" not in text and "-echo" not in text)


LOOKUPS = r"""
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    struct in6_addr address;  /* libpcap reads those with getaddrinfo, too */
    if (name && inet_pton(AF_INET6, name, &address) != 1) fprintf(stderr, "%s\n", name);
    return EAI_NONAME;
}
struct netent *getnetbyname(const char *name) { fprintf(stderr, "%s\n", name); return 0; }
int ether_hostton(const char *name, void *address) { fprintf(stderr, "%s\n", name); return -1; }
"""
COMPILE = """
import ctypes, sys
pcap = ctypes.CDLL("libpcap.so.0.8")
pcap.pcap_open_dead.restype = ctypes.c_void_p
handle = ctypes.c_void_p(pcap.pcap_open_dead(1, 65535))
program = ctypes.create_string_buffer(64)
for text in sys.stdin.read().splitlines():
    pcap.pcap_compile(handle, program, text.encode(), 1, 0)
"""


def test_what_is_compiled_without_a_process_is_never_looked_up(tmp_path: Path) -> None:
    (tmp_path / "lookups.c").write_text(LOOKUPS)
    library = tmp_path / "lookups.so"
    command = ["gcc", "-shared", "-fPIC", "-o", str(library), str(tmp_path / "lookups.c")]
    subprocess.run(command, check=True)
    rng = random.Random(9)
    parts = "dead be a 1 10 fe80 ff 00 :: : : . - 0x tcp domain".split()
    words = ["".join(rng.choices(parts, k=rng.randint(1, 8))) for _ in range(20_000)]
    begins = ("host", "net", "ether host", "gateway", "port", "portrange", "tcp and", "not")
    texts = [f"{rng.choice(begins)} {word}" for word in words]
    simple = [text for text in texts if is_simple(text)]
    assert len(simple) > 500

    def looked_up(texts: list[str]) -> str:
        run = subprocess.run(
            [sys.executable, "-c", COMPILE],
            input="\n".join(texts),
            env={"LD_PRELOAD": str(library)},
            capture_output=True,
            text=True,
            check=True,
        )
        return run.stderr

    assert looked_up(["host dead:beef"]) == "dead\n"
    assert looked_up([*simple, *(t for t in PRIMITIVES if is_simple(t))]) == ""


class Unrecorded(Exception):
    """The filter tests what a recorder does not have: a session opens the interface instead."""


class Taking:
    """One armed source that runs."""

    def __init__(self, source: PacketSource, text: str) -> None:
        self.source = source
        try:
            source.arm(options(text))
        except CaptureRefused as error:
            source.close()
            raise Unrecorded if error.kind == "unrecorded" else error from None
        self._running: Running = run(source)

    def end(self, directory: Path) -> list[bytes]:
        self.source.stop()
        assert self._running.reason() == "stopped"
        found = read(directory, self.source)
        self.source.close()
        return found

    def close(self) -> None:
        self.source.stop()
        self._running.reason()
        self.source.close()


class Tcpdump:
    """A peer that writes what the same filter keeps, without libpcap's optimizer.

    Where libpcap forgets to set a word that the filter reads, what it keeps is undefined, and it
    does not know.
    """

    def __init__(self, process: "subprocess.Popen[str]", path: Path, lines: list[str]) -> None:
        self.process, self.path = process, path
        self.knows = not any("Kernel filter failed" in line for line in lines)

    def end(self) -> list[bytes]:
        self.process.terminate()
        assert self.process.wait(10) == 0
        return [data for _, _, data in packets(self.path)]


@contextmanager
def tcpdump(interface: str, text: str, directory: Path) -> Iterator[Tcpdump | None]:
    """Yield a peer that listens; None if tcpdump refuses the filter."""
    path = directory / f"{len(list(directory.iterdir()))}.peer"
    command = [
        "tcpdump",
        "-n",
        "-O",
        "-i",
        interface,
        "-s",
        "2000",
        "-B",
        "4096",
        "-U",
        "--immediate-mode",
        "-w",
        str(path),
        text,
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line)
            if "listening on" in line:
                break
        try:
            yield Tcpdump(process, path, lines) if "listening on" in lines[-1] else None
        finally:
            process.kill()


@contextmanager
def recorder(wire: Wire) -> Iterator[Recorder]:
    settings = RecorderSettings(interface=wire.far, seconds=30, memory=64 << 20)
    made = Recorder(settings, wire.far, 2 << 20, lambda *_: None)
    made.start()
    eventually(lambda: made.is_open)
    yield made
    made.close()


def live(wire: Wire, budget: MemoryBudget) -> LiveSource:
    interface = Interface(wire.far, InterfaceKind.NETWORK)
    return LiveSource(interface, budget, CaptureSettings(buffer=4 << 20))


def options(text: str, names: bool = False) -> SourceOptions:
    limits = CaptureLimits(packets=10**6, size=10**9, duration=60, idle_timeout=60)
    return SourceOptions(text, 262144, limits, names=names, most_packets=10**6, most_size=10**9)


def send(wire: Wire, frames: list[bytes]) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((wire.near, 0))
        for one in frames:
            sender.send(one)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("text", ["udp port 9999", "ip protochain 17 and udp port 9999"])
def test_a_filter_sees_more_of_a_packet_than_is_kept(wire: Wire, tmp_path: Path, text: str) -> None:
    packet = bytes(Ether(src=MAC_A, dst=MAC_B) / IP(src=A, dst=B) / UDP(dport=9999)) + bytes(80)
    settings = RecorderSettings(interface=wire.far, memory=16 << 20, snaplen=20, filter=text)
    narrow = Recorder(settings, wire.far, 2 << 20, lambda *_: None)
    narrow.start()
    eventually(lambda: narrow.is_open)
    budget = MemoryBudget(64 << 20)
    recorded = narrow.source(budget, time.monotonic_ns(), 0)
    assert recorded
    found = []
    for source, expression in ((live(wire, budget), text), (recorded, "")):
        source.arm(replace(options(expression), snaplen=20))
        found.append((source, run(source)))
    send(wire, [packet] * 5)
    time.sleep(0.3)
    for source, running in found:
        source.stop()
        assert running.reason() == "stopped"
        assert read(tmp_path, source) == [packet[:20]] * 5
        assert source.snaplen == 20
        source.close()
    narrow.close()
