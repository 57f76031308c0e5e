"""The packet loop on real interfaces, read back by independent readers."""

import asyncio
import fcntl
import gc
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.sendrecv import sendp

from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.session import Session
from pcapdaemon.core.errors import Busy, CaptureRefused, DeliveryFailed
from pcapdaemon.core.limits import StopReason
from pcapdaemon.destinations.base import SavefileInfo
from pcapdaemon.destinations.local import LocalDirectory, LocalSettings
from pcapdaemon.native.memory import MemoryBudget
from tests.helpers import (
    Wire,
    captured,
    eventually,
    linktype,
    numbers,
    packets,
    plan_for,
    saved,
    session_for,
    tshark,
)


async def test_packets_limit_takes_exactly_so_many(wire: Wire, tmp_path: Path) -> None:
    stopped = await captured(session_for(wire.far, packets=50), lambda: wire.send(1000))
    assert stopped.outcome.stop_reason is StopReason.PACKETS
    assert stopped.outcome.packets == 50
    assert numbers(saved(stopped, tmp_path / "x.pcap")) == list(range(50))


@pytest.mark.parametrize("limit", [25, 141, 1000, 23224])
async def test_bytes_limit_stops_with_the_packet_that_reaches_it(
    wire: Wire, tmp_path: Path, limit: int
) -> None:
    stopped = await captured(session_for(wire.far, bytes=limit), lambda: wire.send(1000))
    assert stopped.outcome.stop_reason is StopReason.BYTES
    size = saved(stopped, tmp_path / "x.pcap").stat().st_size
    assert size == stopped.outcome.size
    assert limit <= size < limit + 116


async def test_duration_on_a_busy_interface_holds_exactly_that_second(
    wire: Wire, tmp_path: Path
) -> None:
    sending = wire.sending(60_000, rate=20_000)
    stopped = await captured(session_for(wire.far, duration=1))
    sending.wait()
    assert stopped.outcome.stop_reason is StopReason.DURATION
    times = [
        float(row[0]) for row in tshark(saved(stopped, tmp_path / "x.pcap"), "frame.time_epoch")
    ]
    assert 0.5 < times[-1] - times[0] < 1.05
    found = numbers(tmp_path / "x.pcap")
    assert found == list(range(found[0], found[0] + len(found)))


async def test_duration_without_traffic_is_kept_too(wire: Wire) -> None:
    begun = time.monotonic()
    stopped = await captured(session_for(wire.far, duration=1))
    assert (stopped.outcome.stop_reason, stopped.savefile) == (StopReason.DURATION, None)
    assert time.monotonic() - begun >= 1.0


async def test_idle_timeout_counts_from_the_last_packet(wire: Wire) -> None:
    def traffic() -> None:
        for _ in range(4):
            wire.send(1)
            time.sleep(0.6)

    stopped = await captured(session_for(wire.far, timeout=1), traffic)
    assert stopped.outcome.stop_reason is StopReason.IDLE
    assert stopped.outcome.packets == 4
    first, last = stopped.outcome.first_packet_at or 0, stopped.outcome.last_packet_at or 0
    assert stopped.outcome.seconds - (last - first) >= 1.0


async def test_stop_takes_what_the_kernel_still_holds(wire: Wire, tmp_path: Path) -> None:
    session = session_for(wire.far)

    def traffic() -> None:
        wire.send(7)
        session.stop()

    stopped = await captured(session, traffic)
    assert stopped.outcome.stop_reason is StopReason.STOPPED
    assert stopped.outcome.seconds < 9, "not the idle timeout"
    assert numbers(saved(stopped, tmp_path / "x.pcap")) == list(range(7))


async def test_stop_before_it_began_ends_it_at_once(wire: Wire) -> None:
    session = session_for(wire.far)
    session.stop()
    assert (await captured(session)).outcome.stop_reason is StopReason.STOPPED


async def test_interface_that_goes_ends_the_capture_and_keeps_what_came_before(
    wire: Wire, tmp_path: Path
) -> None:
    def traffic() -> None:
        wire.send(5)
        subprocess.run(["ip", "link", "del", wire.far], check=True)

    stopped = await captured(session_for(wire.far), traffic)
    assert stopped.outcome.stop_reason is StopReason.INTERFACE_DOWN
    assert stopped.outcome.seconds < 9, "not the idle timeout"
    assert numbers(saved(stopped, tmp_path / "x.pcap")) == list(range(5))
    assert stopped.outcome.dropped == stopped.outcome.dropped_by_interface == 0


async def test_memory_that_is_spent_ends_the_capture_and_keeps_what_is_there(
    wire: Wire, tmp_path: Path
) -> None:
    budget = MemoryBudget(6 << 20)
    stopped = await captured(
        session_for(wire.far, budget), lambda: wire.send(10_000, size=1500, rate=10_000)
    )
    assert stopped.outcome.stop_reason is StopReason.MEMORY
    assert budget.used <= budget.limit
    path = saved(stopped, tmp_path / "x.pcap")
    assert numbers(path) == list(range(stopped.outcome.packets))
    assert stopped.savefile is not None
    stopped.savefile.close()
    assert budget.used == 0


async def test_no_memory_at_all_is_busy(wire: Wire) -> None:
    with pytest.raises(Busy, match="memory"):
        await captured(session_for(wire.far, MemoryBudget(2 << 20)))


async def test_kernel_buffers_shrink_so_that_many_captures_fit(wire: Wire) -> None:
    budget = MemoryBudget(256 << 20)
    sessions = [session_for(wire.far, budget, packets=10) for _ in range(32)]
    running = [asyncio.create_task(session.run()) for session in sessions]
    await asyncio.gather(*(session.armed for session in sessions))
    assert budget.used <= budget.limit
    await asyncio.to_thread(wire.send, 10)
    assert [stopped.outcome.packets for stopped in await asyncio.gather(*running)] == [10] * 32


async def test_nothing_is_lost_at_full_speed_and_order_is_kept(wire: Wire, tmp_path: Path) -> None:
    stopped = await captured(session_for(wire.far, packets=300_000), lambda: wire.send(300_000))
    assert stopped.outcome.packets == stopped.outcome.received == 300_000
    assert stopped.outcome.dropped == 0
    assert numbers(saved(stopped, tmp_path / "x.pcap")) == list(range(300_000))


async def test_same_packets_as_tcpdump(wire: Wire, tmp_path: Path) -> None:
    theirs = tmp_path / "tcpdump.pcap"
    command = [
        "tcpdump",
        "-i",
        wire.far,
        "-w",
        str(theirs),
        "-U",
        "-c",
        "2000",
        "-s",
        "80",
        "udp port 9001",
    ]
    tcpdump = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert tcpdump.stderr is not None
    while b"listening" not in tcpdump.stderr.readline():
        pass
    session = session_for(wire.far, packets=2000, snap=80, bpf="udp port 9001")
    stopped = await captured(session, lambda: wire.send(8000, size=300, ports=4))
    tcpdump.communicate(timeout=10)
    ours = saved(stopped, tmp_path / "ours.pcap")
    assert ours.read_bytes()[:24] == theirs.read_bytes()[:24]
    assert [packet[1:] for packet in packets(ours)] == [packet[1:] for packet in packets(theirs)]
    # Each socket takes its own timestamp, a few microseconds apart.
    assert all(abs(a[0] - b[0]) < 0.01 for a, b in zip(packets(ours), packets(theirs), strict=True))


async def test_filter_meets_only_what_it_says_from_the_first_packet_on(
    wire: Wire, tmp_path: Path
) -> None:
    sending = wire.sending(400_000, rate=100_000, ports=16)
    stopped = await captured(session_for(wire.far, bpf="udp port 9003", packets=1000))
    sending.kill()
    sending.wait()
    assert all(number % 16 == 3 for number in numbers(saved(stopped, tmp_path / "x.pcap")))


async def test_vlan_filter_sees_tags_that_the_kernel_stripped(wire: Wire, tmp_path: Path) -> None:
    def traffic() -> None:
        wire.send(3)
        for tag in (7, 8, 7):
            frame = (
                Ether(dst="02:00:00:00:00:02")
                / Dot1Q(vlan=tag)
                / IP(dst="10.9.9.9")
                / UDP(dport=9000)
                / b"tagged"
            )
            sendp(frame, iface=wire.near, verbose=False)

    stopped = await captured(session_for(wire.far, bpf="vlan 7 and udp", packets=2), traffic)
    path = saved(stopped, tmp_path / "x.pcap")
    assert tshark(path, "vlan.id", "udp.dstport") == [["7", "9000"]] * 2


@pytest.fixture
def devices(wire: Wire) -> Iterator[dict[str, str]]:
    """Create an interface of each kind, and yield addresses that cause traffic on it."""

    def run(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    run("tuntap", "add", "tun9", "mode", "tun")
    run("addr", "add", "10.77.0.1/24", "dev", "tun9")
    run("link", "set", "tun9", "up")
    run("link", "add", "link", wire.near, "name", "mac9", "type", "macvlan", "mode", "bridge")
    run("addr", "add", "10.78.0.1/24", "dev", "mac9")
    run("link", "set", "mac9", "up")
    yield {"lo": "127.0.0.1", "any": "127.0.0.1", "mac9": "10.78.0.2", "tun9": "10.77.0.2"}
    run("link", "del", "tun9")


@pytest.mark.parametrize(("name", "value"), [("lo", 1), ("any", 113), ("mac9", 1), ("tun9", 101)])
async def test_every_kind_of_interface_gives_a_file_that_tshark_reads(
    devices: dict[str, str], name: str, value: int, tmp_path: Path
) -> None:
    tun = os.open("/dev/net/tun", os.O_RDWR)
    # TUNSETIFF, IFF_TUN | IFF_NO_PI: carrier on
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", b"tun9", 0x1001))
    if name == "mac9":
        subprocess.run(
            ["ip", "neigh", "add", devices[name], "lladdr", "02:00:00:00:00:99", "dev", "mac9"],
            check=True,
        )

    def traffic() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for number in range(5):
                udp.sendto(b"packet %d" % number, (devices[name], 7777))

    stopped = await captured(session_for(name, bpf="udp port 7777", packets=5, snap=200), traffic)
    os.close(tun)
    path = saved(stopped, tmp_path / "x.pcap")
    assert linktype(path) == value
    assert int.from_bytes(path.read_bytes()[16:20], "little") == 200
    payloads = [bytes.fromhex(row[0]) for row in tshark(path, "udp.payload")]
    assert payloads == [b"packet %d" % number for number in range(5)]


async def test_lo_counts_each_packet_once(tmp_path: Path) -> None:
    def traffic() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            for _ in range(100):
                udp.sendto(b"x", ("127.0.0.1", 7778))

    stopped = await captured(session_for("lo", bpf="udp port 7778", duration=1), traffic)
    assert stopped.outcome.packets == stopped.outcome.received == 100


async def test_snaplen_cuts_what_is_kept_and_tells_the_length(wire: Wire, tmp_path: Path) -> None:
    stopped = await captured(
        session_for(wire.far, packets=3, snap=60), lambda: wire.send(3, size=500)
    )
    assert (
        tshark(saved(stopped, tmp_path / "x.pcap"), "frame.cap_len", "frame.len")
        == [["60", "500"]] * 3
    )


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"bpf": "portt 5"}, "filter", "syntax error"),
        ({"bpf": "port 99999"}, "filter", "65535"),
        ({"bpf": "wlan type mgt"}, "filter", "802.11"),
        ({}, "interface", "not up"),
    ],
)
async def test_refusals_come_in_the_words_of_libpcap_with_a_hint(
    wire: Wire, fields: dict[str, Any], kind: str, words: str
) -> None:
    if kind == "interface":
        subprocess.run(["ip", "link", "set", wire.far, "down"], check=True)
    with pytest.raises(CaptureRefused, match=words) as refusal:
        await captured(session_for(wire.far, **fields))
    assert refusal.value.kind == kind
    assert refusal.value.hint


async def test_interface_that_went_after_the_plan_is_refused_in_words(wire: Wire) -> None:
    session = session_for(wire.far)
    subprocess.run(["ip", "link", "del", wire.far], check=True)
    with pytest.raises(CaptureRefused, match="No such device") as refusal:
        await captured(session)
    assert refusal.value.kind == "interface"


async def test_long_filters_compile_without_the_optimizer_in_no_time(wire: Wire) -> None:
    expression = " or ".join(f"host 10.0.{n // 250}.{n % 250}" for n in range(40))
    assert 256 < len(expression) <= 1024
    begun = time.monotonic()
    stopped = await captured(session_for(wire.far, bpf=expression, duration=1))
    assert stopped.outcome.seconds < 10
    assert time.monotonic() - begun < 15


async def test_hundreds_of_bad_requests_leave_no_descriptor_behind(wire: Wire) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def bad() -> None:
        with pytest.raises(CaptureRefused):
            await session_for(wire.far, bpf="no such primitive").run()

    await bad()
    before = descriptors()
    for _ in range(16):
        await asyncio.gather(*(bad() for _ in range(25)))
    assert descriptors() == before


RATE = 40_000
"""Frames a second of which none is lost, even by a slow machine with sanitizers."""


async def test_blocks_stay_warm_and_go_back_to_the_system_when_idle(wire: Wire) -> None:
    budget = MemoryBudget(64 << 20)
    stopped = await captured(
        session_for(wire.far, budget, packets=10_000), lambda: wire.send(10_000, 1000, RATE)
    )
    assert stopped.savefile
    held = budget.used
    assert held >= stopped.outcome.size
    header, view, *_ = stopped.savefile.views()
    assert header.nbytes == 24
    stopped.savefile.close()
    assert budget.used == held, "a view keeps its blocks alive"
    del view, _
    assert (budget.used, budget.pool.warm) == (0, held)
    again = await captured(
        session_for(wire.far, budget, packets=10_000), lambda: wire.send(10_000, 1000, RATE)
    )
    assert again.savefile
    assert (budget.used, budget.pool.warm) == (held, 0)
    again.savefile.close()
    reserve = budget.limit // 16
    budget.offer()
    assert lazily_freed() == pytest.approx(held - reserve, abs=1 << 16), "the system may take it"
    third = await captured(
        session_for(wire.far, budget, packets=10_000), lambda: wire.send(10_000, 1000, RATE)
    )
    assert third.savefile
    assert third.outcome.packets == 10_000
    assert lazily_freed() < 1 << 20, "what is in use again can't be taken"
    third.savefile.close()
    budget.offer()
    budget.trim()
    assert budget.pool.warm == reserve, "a reserve for the next one"
    assert lazily_freed() < 1 << 20, "which was not offered"


def lazily_freed() -> int:
    """Return how many bytes of this process the system may take (proc(5))."""
    (line,) = (
        line
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines()
        if line.startswith("LazyFree:")
    )
    return 1024 * int(line.split()[1])


async def test_blocks_in_a_garbage_cycle_go_back_to_their_own_pool(wire: Wire) -> None:
    budget = MemoryBudget(64 << 20)
    stopped = await captured(session_for(wire.far, budget, packets=100), lambda: wire.send(100))
    assert stopped.savefile
    cycle: list[object] = [list(stopped.savefile.views()), stopped]
    cycle.append(cycle)
    stopped.savefile.close()
    del cycle, stopped
    gc.collect()
    assert budget.used == 0


async def test_a_write_that_fails_holds_no_memory(wire: Wire, tmp_path: Path) -> None:
    budget = MemoryBudget(64 << 20)
    stopped = await captured(session_for(wire.far, budget, packets=100), lambda: wire.send(100))
    assert stopped.savefile
    local = LocalDirectory(LocalSettings(writelocal=True, localdir=str(tmp_path / "full")))
    local.prepare()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", local.directory], check=True)
    gc.disable()
    try:
        with pytest.raises(DeliveryFailed) as failure:
            await local.deliver(
                stopped.savefile.reader(),
                SavefileInfo("ID", "x", "x.pcap", "", plan_for(wire.far).request),
            )
        stopped.savefile.close()
        assert budget.used == 0
        assert "No space" in str(failure.value)
    finally:
        gc.enable()
        subprocess.run(["umount", local.directory], check=True)


async def test_a_filter_too_long_for_the_kernel_is_made_shorter_and_nothing_is_printed(
    wire: Wire, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expression = " or ".join(f"port {port}" for port in (*range(10000, 10072), 9001))
    assert 1000 < len(expression) <= 1024
    session = session_for(wire.far, bpf=expression, packets=10)
    stopped = await captured(session, lambda: wire.send(40, ports=4))
    assert all(number % 4 == 1 for number in numbers(saved(stopped, tmp_path / "x.pcap")))
    assert capfd.readouterr().err == "", "libpcap warns on stderr if the kernel refuses a filter"


def _has_grown(file: Path, size: int) -> bool:
    return file.stat().st_size >= size


def streaming(wire: Wire, descriptor: int, **fields: Any) -> Session:
    plan = replace(plan_for(wire.far, **fields), stream=descriptor)
    return Session(plan, plan.captures[0], MemoryBudget(16 << 20), CaptureSettings())


async def test_a_stream_has_every_packet_and_needs_no_memory_for_them(
    wire: Wire, tmp_path: Path
) -> None:
    file = tmp_path / "stream.pcap"
    with file.open("wb") as to:
        session = streaming(wire, to.fileno(), packets=40_000, timeout=5)

        def traffic() -> None:
            for part in range(1, 41):  # at the pace of the reader: the kernel's buffer is small
                wire.send(1000, size=1000)
                eventually(partial(_has_grown, file, part * 1000 * 1000))

        stopped = await captured(session, traffic)
    assert (stopped.outcome.packets, stopped.outcome.dropped) == (40_000, 0)
    assert stopped.outcome.size == file.stat().st_size > 2 * (16 << 20)
    assert numbers(file) == list(range(1000)) * 40


async def test_a_stream_ends_with_an_error_when_nobody_reads_it(wire: Wire) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stopped = await captured(streaming(wire, writing, packets=10), lambda: wire.send(10))
    os.close(writing)
    assert stopped.outcome.stop_reason is StopReason.ERROR
    assert "Broken pipe" in stopped.outcome.error
