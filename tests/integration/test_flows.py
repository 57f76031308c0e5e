"""The filter of a flow keeps exactly its packets, as tcpdump and the packets' own fields say."""

import itertools
import random
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet
from scapy.utils import RawPcapReader, wrpcap

from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.session import Session
from pcapdaemon.core.interface import Interface, InterfaceKind, Replay
from pcapdaemon.core.request import validate
from pcapdaemon.native.memory import MemoryBudget
from tests.helpers import Wire, captured, numbers, plan_for, saved, session_for

ADDRESSES = {4: ("10.0.0.1", "10.0.0.2", "10.0.0.3"), 6: ("fd00::1", "fd00::2", "fd00::3")}
PORTS = (53, 443, 50_000)


def _layer(protocol: str, sport: int, dport: int) -> Packet:
    if protocol == "icmp":
        return ICMP()
    return (TCP if protocol == "tcp" else UDP)(sport=sport, dport=dport)


def traffic() -> list[tuple[dict[str, Any], Packet]]:
    """Packets of many flows, tagged and untagged, each with its own fields."""
    found: list[tuple[dict[str, Any], Packet]] = []
    for version, hosts in ADDRESSES.items():
        for src, dst in itertools.permutations(hosts, 2):
            for protocol in ("tcp", "udp", "icmp") if version == 4 else ("tcp", "udp"):
                for sport, dport in itertools.product(PORTS, repeat=2):
                    network = (IP if version == 4 else IPv6)(src=src, dst=dst)
                    packet = network / _layer(protocol, sport, dport)
                    fields = {"proto": protocol, "src": src, "dst": dst}
                    ports = {} if protocol == "icmp" else {"sport": sport, "dport": dport}
                    for tag in ((), (Dot1Q(vlan=7),), (Dot1Q(vlan=7), Dot1Q(vlan=8))):
                        whole = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
                        for layer in (*tag, packet):
                            whole = whole / layer
                        found.append(({**fields, **ports}, whole))
    return found


def belongs(fields: dict[str, Any], flow: dict[str, Any]) -> bool:
    turned = {"src": "dst", "dst": "src", "sport": "dport", "dport": "sport", "proto": "proto"}
    there = all(fields.get(name) == value for name, value in flow.items())
    back = all(fields.get(turned[name]) == value for name, value in flow.items())
    return there or back


def flows() -> list[dict[str, Any]]:
    rng = random.Random(11)
    found: list[dict[str, Any]] = []
    while len(found) < 40:
        hosts = rng.sample(ADDRESSES[rng.choice((4, 6))], 2)
        flow: dict[str, Any] = {"src": hosts[0], "dst": hosts[1]}
        flow |= {"proto": rng.choice(("tcp", "udp"))} if rng.random() < 0.6 else {}
        flow |= {"sport": rng.choice(PORTS)} if rng.random() < 0.5 else {}
        flow |= {"dport": rng.choice(PORTS)} if rng.random() < 0.5 else {}
        if rng.random() < 0.3:
            del flow[rng.choice(("src", "dst"))]
        found.append(flow)
    return [*found, {"proto": "icmp", "src": "10.0.0.1", "dst": "10.0.0.2"}]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flows") / "all.pcap"
    wrpcap(str(path), [packet for _, packet in traffic()])
    return path


@pytest.mark.parametrize("flow", flows(), ids=str)
def test_exactly_the_packets_of_the_flow(flow: dict[str, Any], file: Path, tmp_path: Path) -> None:
    request, problems = validate({"node": "any", "interface": ["e"], "flow": flow})
    assert not problems
    assert request.flow
    expected = [bytes(packet) for fields, packet in traffic() if belongs(fields, flow)]
    assert expected
    kept = tmp_path / "kept.pcap"
    command = ["tcpdump", "-r", file, "-w", kept, request.flow.capture_filter]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    assert _packets(kept) == expected


SLL2 = bytes.fromhex("0800 0000 00000001 0001 00 06 0200000000010000")
LINKS = {
    0: (2).to_bytes(4, sys.byteorder),
    1: bytes(12) + b"\x08\x00",
    9: bytes.fromhex("ff030021"),
    101: b"",
    113: bytes.fromhex("0000 0001 0006 0200000000010000 0800"),
    228: b"",
    276: SLL2,
}
"""The bytes before an IPv4 packet, by linktype: of BSD, Ethernet, PPP, raw, cooked, raw IPv4."""


@pytest.mark.parametrize("linktype", LINKS)
@pytest.mark.parametrize("own", ["", "ip or ip6"])
@pytest.mark.parametrize("exclude", ["", "udp port 1"])
async def test_on_every_linktype(
    linktype: int, own: str, exclude: str, wire: Wire, tmp_path: Path
) -> None:
    flow = {"proto": "udp", "src": "10.0.0.2", "dst": "10.0.0.1", "dport": 53}
    wanted, other = (IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=n, dport=7) for n in (53, 54))
    file = tmp_path / "file.pcap"
    packets = [LINKS[linktype] + bytes(one) for one in (wanted, other, wanted)]
    header = struct.pack("=IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, linktype)
    records = (struct.pack("=IIII", 1, 0, len(one), len(one)) + one for one in packets)
    file.write_bytes(header + b"".join(records))
    plan = plan_for(wire.far, flow=flow, **({"bpf": own} if own else {}))
    replayed = Interface("file", InterfaceKind.REPLAY, replay=Replay(str(file)))
    part = replace(plan.captures[0], interface=replayed)
    session = Session(
        replace(plan, exclude=exclude), part, MemoryBudget(64 << 20), CaptureSettings()
    )
    found = await session.run()
    assert found.outcome.error == ""
    assert _packets(saved(found, tmp_path / "kept.pcap")) == [packets[0], packets[2]]


async def test_on_all_interfaces(wire: Wire) -> None:
    flow = {"proto": "udp", "src": "10.99.0.2", "dport": 9000}
    stopped = await captured(session_for("any", flow=flow, packets=1), lambda: wire.send(5))
    assert stopped.outcome.packets == 1


def _packets(path: Path) -> list[bytes]:
    with RawPcapReader(str(path)) as reader:
        return [data for data, _ in reader]


async def test_live_and_with_a_filter_beside_it(wire: Wire, tmp_path: Path) -> None:
    ends = {"src": "10.99.0.2", "dport": 9000, "proto": "udp"}  # turned round: both ways count
    session = session_for(wire.far, flow={**ends, "dst": "10.99.0.1"}, packets=5, bpf="len < 200")
    stopped = await captured(session, lambda: wire.send(5))
    assert numbers(saved(stopped, tmp_path / "x.pcap")) == list(range(5))
    other = session_for(wire.far, flow={"src": "10.99.0.9"}, duration=1)
    assert (await captured(other, lambda: wire.send(5))).outcome.packets == 0
    assert "10.99.0.9" in plan_for(wire.far, flow={"src": "10.99.0.9"}).capture_filter
