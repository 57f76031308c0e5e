"""The flight recorder on real interfaces.

Captures contain what was on the wire before the request, without a seam to what comes after it.
"""

import asyncio
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.recorder import NOT_BEGUN, Recorder, RecorderSettings
from pcapdaemon.capture.session import MORE_THAN_ALLOWED, NO_RECORDER, Origins, Session
from pcapdaemon.capture.source import PACKET_BUFFER_TIMEOUT_MS
from pcapdaemon.core.limits import StopReason
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.native.recorded import RecordedCapture
from pcapdaemon.savefile.packing import NO_ROOM, Captured
from tests.helpers import (
    Wire,
    bring_up,
    captured,
    eventually,
    linktype,
    numbers,
    packets,
    plan_for,
    saved,
    tshark,
)

MIB = 1 << 20


@contextmanager
def recording(
    interface: str, reported: Callable[[str, str], None] = lambda *_: None, **settings: Any
) -> Iterator[Recorder]:
    made = RecorderSettings.model_validate({"interface": interface, "memory": 64 * MIB, **settings})
    recorder = Recorder(made, interface, 8 * MIB, reported)
    recorder.start()
    try:
        eventually(lambda: recorder.is_open or recorder.reason not in ("", NOT_BEGUN))
        yield recorder
    finally:
        recorder.close()


def session_on(
    recorder: Recorder | None,
    interface: str,
    most: tuple[int, int] = (10**9, 10**12),
    **fields: Any,
) -> Session:
    plan = replace(plan_for(interface, **fields), most_packets=most[0], most_size=most[1])
    return Session(
        plan,
        plan.captures[0],
        MemoryBudget(256 * MIB),
        CaptureSettings(),
        Origins(lambda _: recorder),
    )


def is_open(recorder: Recorder) -> Callable[[], bool]:
    return lambda: recorder.is_open


def has_recorded(recorder: Recorder, number: int) -> Callable[[], bool]:
    return lambda: recorder.status().packets >= number


async def test_a_file_begins_before_its_request_and_goes_on_after_it_without_a_seam(
    wire: Wire, tmp_path: Path
) -> None:
    with recording(wire.far) as recorder:
        sending = wire.sending(150_000, rate=50_000)
        await asyncio.to_thread(eventually, has_recorded(recorder, 75_000))
        begun = time.time()
        found = await asyncio.gather(
            *(captured(session_on(recorder, wire.far, lookback=1, duration=1)) for _ in range(8))
        )
        sending.wait()
    for n, stopped in enumerate(found):
        assert stopped.outcome.stop_reason is StopReason.DURATION
        assert stopped.outcome.dropped == 0
        assert stopped.outcome.lookback is not None
        assert (
            stopped.outcome.lookback.asked,
            stopped.outcome.lookback.covered,
            stopped.outcome.lookback.reason,
        ) == (1, 1.0, "")
        of_file = numbers(saved(stopped, tmp_path / f"{n}.pcap"))
        assert of_file == list(range(of_file[0], of_file[0] + stopped.outcome.packets))
        first, last = stopped.outcome.first_packet_at or 0, stopped.outcome.last_packet_at or 0
        # The sender may pause, and the clocks of the trigger and of packets are read in turn.
        assert -1.001 < first - stopped.outcome.trigger < -0.9
        assert 0.9 < last - stopped.outcome.trigger < 1.001
        assert abs(stopped.outcome.trigger - begun) < 0.5
        before = [t for t, *_ in packets(tmp_path / f"{n}.pcap") if t < stopped.outcome.trigger]
        # The times in the file are microseconds.
        assert abs(len(before) - stopped.outcome.lookback.packets) <= 1


async def test_limits_count_from_the_request_on(wire: Wire, tmp_path: Path) -> None:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 1000)
        eventually(has_recorded(recorder, 1000))
        stopped = await captured(
            session_on(recorder, wire.far, lookback=10, packets=10), lambda: wire.send(20)
        )
        assert (stopped.outcome.stop_reason, stopped.outcome.packets) == (StopReason.PACKETS, 1010)
        assert numbers(saved(stopped, tmp_path / "x.pcap")) == [*range(1000), *range(10)]
        idle = await captured(session_on(recorder, wire.far, lookback=10, timeout=1))
        assert (idle.outcome.stop_reason, idle.outcome.packets) == (StopReason.IDLE, 1020)
        assert idle.outcome.seconds >= 1.0


@pytest.mark.parametrize("most", [(15, 10**9), (10**9, 24 + 15 * 116)])
async def test_the_oldest_recorded_packets_are_given_up_for_the_limits_of_the_file(
    wire: Wire, tmp_path: Path, most: tuple[int, int]
) -> None:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 30_000, rate=30_000)  # several blocks
        eventually(has_recorded(recorder, 30_000))
        stopped = await captured(
            session_on(recorder, wire.far, most, lookback=10, packets=5), lambda: wire.send(5)
        )
    assert numbers(saved(stopped, tmp_path / "x.pcap")) == [*range(29_990, 30_000), *range(5)]
    assert stopped.outcome.packets == 15
    assert stopped.outcome.lookback is not None
    assert stopped.outcome.lookback.packets == 10
    assert stopped.outcome.lookback.reason.endswith(NO_ROOM)
    assert stopped.outcome.lookback.covered < 10


async def test_where_memory_holds_less_than_was_asked_the_result_says_how_much(
    wire: Wire, tmp_path: Path
) -> None:
    with recording(wire.far, memory=8 * MIB) as recorder:
        sending = wire.sending(120_000, size=1000, rate=20_000)
        await asyncio.to_thread(eventually, has_recorded(recorder, 60_000))
        stopped = await captured(session_on(recorder, wire.far, lookback=30, duration=1))
        assert recorder.status().bytes <= 6 * MIB
        sending.wait()
    assert stopped.outcome.lookback is not None
    assert "[[recorder]] memory = 8388608" in stopped.outcome.lookback.reason
    found = numbers(saved(stopped, tmp_path / "x.pcap"))
    assert found == list(range(found[0], found[0] + len(found)))
    # Five blocks of 1 MiB at 20 MB/s, and the recorder overwrites the oldest of them.
    assert 0.1 < stopped.outcome.lookback.covered < 0.35
    assert (
        abs(
            stopped.outcome.lookback.covered
            - (stopped.outcome.trigger - (stopped.outcome.first_packet_at or 0))
        )
        < 0.02
    )


async def test_what_is_older_than_its_seconds_is_not_given_out(wire: Wire) -> None:
    with recording(wire.far, seconds=1) as recorder:
        await asyncio.to_thread(wire.send, 10)
        eventually(has_recorded(recorder, 10))
        await asyncio.sleep(1.1)
        stopped = await captured(session_on(recorder, wire.far, lookback=5, duration=1))
    assert stopped.outcome.packets == 0
    assert stopped.outcome.lookback is not None
    assert stopped.outcome.lookback.covered == 1.0
    assert "[[recorder]] seconds" in stopped.outcome.lookback.reason


async def test_an_interface_may_come_go_and_come_back(wire: Wire, tmp_path: Path) -> None:
    reported: list[tuple[str, str]] = []
    name = wire.far
    subprocess.run(["ip", "link", "del", name], check=True)
    with recording(name, lambda *words: reported.append(words)) as recorder:
        assert recorder.reason not in ("", NOT_BEGUN)
        await _make(wire)
        await asyncio.to_thread(eventually, is_open(recorder))
        await asyncio.to_thread(wire.send, 10)
        await asyncio.to_thread(eventually, has_recorded(recorder, 10))
        following = asyncio.create_task(
            captured(session_on(recorder, name, lookback=5, duration=30))
        )
        await asyncio.sleep(0.2)
        subprocess.run(["ip", "link", "del", name], check=True)
        cut = await following
        assert (cut.outcome.stop_reason, cut.outcome.packets) == (StopReason.INTERFACE_DOWN, 10)
        await asyncio.sleep(0.5)
        await _make(wire)
        await asyncio.to_thread(eventually, is_open(recorder))
        await asyncio.to_thread(wire.send, 10)
        await asyncio.to_thread(eventually, has_recorded(recorder, 10))
        stopped = await captured(session_on(recorder, name, lookback=30, duration=1))
    # a new device with the same name: its packets and those of the old one are not in one file
    assert numbers(saved(stopped, tmp_path / "x.pcap")) == [*range(10)]
    assert stopped.outcome.lookback is not None
    assert "the recorder began later" in stopped.outcome.lookback.reason
    assert 0 < stopped.outcome.lookback.covered < 20
    assert [reason == "" for _, reason in reported] == [False, True, False, True]


async def _make(wire: Wire) -> None:
    subprocess.run(
        ["ip", "link", "add", wire.near, "type", "veth", "peer", "name", wire.far], check=True
    )
    bring_up(wire.near, wire.far)


async def test_without_a_recorder_the_capture_happens_and_says_why_it_has_nothing_from_before(
    wire: Wire,
) -> None:
    stopped = await captured(
        session_on(None, wire.far, lookback=5, packets=5), lambda: wire.send(5)
    )
    assert stopped.outcome.packets == 5
    assert stopped.outcome.lookback is not None
    assert (
        stopped.outcome.lookback.covered,
        stopped.outcome.lookback.packets,
        stopped.outcome.lookback.reason,
    ) == (
        0.0,
        0,
        NO_RECORDER,
    )


async def test_a_filter_that_recorded_packets_cannot_answer_is_run_on_the_interface_itself(
    wire: Wire,
) -> None:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 5)
        eventually(has_recorded(recorder, 5))
        session = session_on(recorder, wire.far, lookback=5, packets=7, bpf="inbound")

        def traffic() -> None:
            wire.send(5)
            # libpcap runs the filter again on its first block, and can't evaluate this filter there
            # either.
            time.sleep(0.2)
            wire.send(10)

        stopped = await captured(session, traffic)
        eventually(lambda: recorder.captures == 0)
    assert stopped.outcome.packets == 7
    assert stopped.outcome.lookback is not None
    assert (
        stopped.outcome.lookback.reason
        == "the capture filter tests what recorded packets do not contain"
    )


async def test_a_stop_keeps_what_was_asked_for_before_it(wire: Wire, tmp_path: Path) -> None:
    with recording(wire.far) as recorder:
        session = session_on(recorder, wire.far, duration=60)

        def traffic() -> None:
            wire.send(100)
            session.stop()

        stopped = await captured(session, traffic)
    assert stopped.outcome.stop_reason is StopReason.STOPPED
    assert numbers(saved(stopped, tmp_path / "x.pcap")) == list(range(100))


def tag(ethertype: int, number: int) -> bytes:
    return struct.pack("!HH", ethertype, number)


def frame(tags: bytes, port: int, size: int = 60) -> bytes:
    """Return an Ethernet frame with a UDP packet behind any tags."""
    payload = bytes(size - 42)
    udp = struct.pack("!HHHH", port, port, 8 + len(payload), 0) + payload
    ip = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(udp),
        0,
        0,
        64,
        17,
        0,
        bytes([10, 0, 0, 1]),
        bytes([10, 0, 0, 2]),
    )
    return bytes.fromhex("020000000002020000000001") + tags + b"\x08\x00" + ip + udp


FRAMES = [
    frame(tags, port, size)
    for tags in (
        b"",
        tag(0x8100, 10),
        tag(0x8100, 0x6014),
        tag(0x88A8, 10),
        tag(0x88A8, 100) + tag(0x8100, 10),
        tag(0x8100, 10) + tag(0x8100, 20),
        tag(0x9100, 10),
    )
    for port in (53, 9000)
    for size in (60, 1400, 8900)
]
TAKEN_OUT = "ether[12:2] = 0x88a8"
"""The kernel has removed that tag from the frame before the filter runs."""

FILTERS = [
    *(
        "",
        "vlan",
        "vlan 10",
        "vlan 20",
        "not vlan",
        "udp port 53",
        "vlan and udp port 53",
        "vlan 10 or udp port 53",
    ),
    *(
        "udp port 53 or vlan 10",
        "vlan 100 and vlan 10",
        "vlan 10 and vlan 20",
        "vlan and vlan",
        "ether proto 0x8100",
    ),
    *(
        "ip host 10.0.0.1",
        "greater 1000",
        "less 100",
        "vlan and greater 1000",
        TAKEN_OUT,
        "udp[0:2] = 9000",
    ),
]


@pytest.fixture
async def tagged(wire: Wire) -> AsyncIterator[tuple[Wire, Recorder, Callable[[], None]]]:
    for name in (wire.near, wire.far):
        subprocess.run(["ip", "link", "set", name, "mtu", "9000"], check=True)
    with recording(wire.far) as recorder, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind((wire.near, 0))

        def send() -> None:
            for one in FRAMES:
                out.send(one)

        yield wire, recorder, send


@pytest.mark.parametrize("expression", FILTERS, ids=lambda text: text or "all")
async def test_a_filter_means_on_recorded_packets_what_it_means_on_the_wire(
    tagged: tuple[Wire, Recorder, Callable[[], None]], tmp_path: Path, expression: str
) -> None:
    wire, recorder, send = tagged
    itself = session_on(None, wire.far, bpf=expression, timeout=1)
    shared = session_on(recorder, wire.far, bpf=expression, timeout=1)
    running = asyncio.create_task(captured(shared))
    await shared.armed
    live = await captured(itself, send)
    await running
    again = await captured(session_on(recorder, wire.far, bpf=expression, lookback=20, duration=1))
    of_wire = _bytes(live, tmp_path / "wire")
    assert (len(of_wire) > 0) == (expression != TAKEN_OUT)
    assert _bytes(running.result(), tmp_path / "live") == of_wire
    assert _bytes(again, tmp_path / "past") == of_wire


def _bytes(stopped: Captured, path: Path) -> list[tuple[int, bytes]]:
    return (
        [(length, data) for _, length, data in packets(saved(stopped, path))]
        if stopped.savefile
        else []
    )


async def test_loopback_gives_each_packet_once_and_any_has_its_own_header(tmp_path: Path) -> None:
    with (
        recording("lo") as of_lo,
        recording("any") as of_any,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out,
    ):
        for n in range(10):
            out.sendto(struct.pack("!Q", n), ("127.0.0.1", 9999))
        eventually(has_recorded(of_lo, 10))
        eventually(has_recorded(of_any, 10))
        for name, recorder, link in (("lo", of_lo, 1), ("any", of_any, 113)):
            stopped = await captured(
                session_on(recorder, name, bpf="udp port 9999", lookback=5, duration=1)
            )
            path = saved(stopped, tmp_path / name)
            assert linktype(path) == link
            once = [int(row[0], 16) for row in tshark(path, "udp.payload")]
            assert once == list(range(10)) or (
                name == "any" and sorted(once) == sorted([*range(10), *range(10)])
            )


async def test_a_shorter_snapshot_length_cuts_recorded_packets_too(
    wire: Wire, tmp_path: Path
) -> None:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 3, 500)
        eventually(has_recorded(recorder, 3))
        session = session_on(recorder, wire.far, lookback=5, snap=60, packets=3)
        path = saved(await captured(session, lambda: wire.send(3, 500)), tmp_path / "x.pcap")
    assert [(length, len(data)) for _, length, data in packets(path)] == [(500, 60)] * 6
    assert int.from_bytes(path.read_bytes()[16:20], "little") == 60


async def test_captures_without_a_lookback_share_only_a_recorder_that_keeps_all_they_want(
    wire: Wire,
) -> None:
    def sockets() -> int:
        return len(Path("/proc/net/packet").read_text().splitlines()) - 1

    async def opened(recorder: Recorder, **fields: Any) -> int:
        before = sockets()
        session = session_on(recorder, wire.far, packets=1, **fields)
        running = asyncio.create_task(session.run())
        await session.armed
        found = sockets() - before
        session.stop()
        await running
        return found

    with recording(wire.far) as whole:
        assert await opened(whole) == 0
    with recording(wire.far, snaplen=96) as headers:
        assert await opened(headers) == 1
        assert await opened(headers, snap=96) == 0
    with recording(wire.far, filter="udp") as some:
        assert await opened(some) == 1
        assert await opened(some, lookback=1) == 0


async def test_memory_that_is_spent_gives_up_the_past_first(wire: Wire, tmp_path: Path) -> None:
    with recording(wire.far, memory=32 * MIB) as recorder:
        await asyncio.to_thread(wire.send, 12_000, 1000, 10_000)
        eventually(has_recorded(recorder, 12_000))
        plan = plan_for(wire.far, lookback=20, packets=4000)
        session = Session(
            plan,
            plan.captures[0],
            MemoryBudget(8 * MIB),
            CaptureSettings(),
            Origins(lambda _: recorder),
        )
        stopped = await captured(session, lambda: wire.send(4000, 1000, 10_000))
    assert stopped.outcome.stop_reason is StopReason.PACKETS
    found = numbers(saved(stopped, tmp_path / "x.pcap"))
    assert found[-4000:] == list(range(4000))
    assert found[:-4000] == list(range(12_000 - len(found) + 4000, 12_000))
    assert stopped.outcome.lookback is not None
    assert stopped.outcome.lookback.reason.endswith(NO_ROOM)


async def test_what_was_given_up_is_not_covered(wire: Wire) -> None:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 10)
        await asyncio.sleep(1)
        await asyncio.to_thread(wire.send, 10)
        eventually(has_recorded(recorder, 20))
        stopped = await captured(
            session_on(recorder, wire.far, (12, 10**9), lookback=1, packets=5), lambda: wire.send(5)
        )
    assert stopped.outcome.lookback is not None
    assert (
        stopped.outcome.packets,
        stopped.outcome.lookback.packets,
        stopped.outcome.lookback.reason,
    ) == (12, 7, NO_ROOM)
    assert 0 < stopped.outcome.lookback.covered < 0.6


async def test_a_stop_before_the_filter_is_compiled_keeps_the_past(wire: Wire) -> None:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 10)
        eventually(has_recorded(recorder, 10))
        session = session_on(recorder, wire.far, lookback=5)
        session.stop()
        stopped = await session.run()
    assert (stopped.outcome.stop_reason, stopped.outcome.packets) == (StopReason.STOPPED, 10)


async def test_a_capture_that_enters_as_the_recorder_stops_ends(wire: Wire) -> None:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 3)
        eventually(has_recorded(recorder, 3))
    ended = RecordedCapture(
        recorder._recording,
        MemoryBudget(64 * MIB).pool,
        trigger=time.monotonic_ns(),
        since=0,
        hold_ms=PACKET_BUFFER_TIMEOUT_MS,
    )
    ended.extend(packets=100, size=10**9, duration=3600, idle_timeout=3600)
    ended.set_filter("", True)
    ended.catch_up(skip=False)
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(ended.run) == "interface-down"
    assert ended.packets == 3
    ended.close()


async def test_a_recorder_outlives_a_lack_of_memory(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def no_memory(_: Recorder) -> float:
        nonlocal tries
        tries += 1
        raise MemoryError("no memory")

    monkeypatch.setattr("pcapdaemon.capture.recorder.TRY_REFUSED_EVERY", 0.05)
    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "_try_to_open", no_memory)
        recorder = Recorder(
            RecorderSettings(interface=wire.far, memory=8 * MIB), wire.far, MIB, lambda *_: None
        )
        recorder.start()
        await asyncio.to_thread(eventually, lambda: tries > 1)
        assert recorder.reason == "no memory"
    await asyncio.to_thread(eventually, is_open(recorder))
    recorder.close()


async def test_a_capture_begins_when_its_message_arrived(wire: Wire, tmp_path: Path) -> None:
    """What came while the request was judged is in the recorder, so it is in the file."""
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 5)
        eventually(has_recorded(recorder, 5))
        for age, expected in ((0.9, 5), (0.0, 0), (3.0, 0), (-3.0, 0)):
            arrived_at = time.time() - age
            plan = replace(plan_for(wire.far, duration=1), arrived_at=arrived_at)
            session = Session(
                plan,
                plan.captures[0],
                MemoryBudget(64 * MIB),
                CaptureSettings(),
                Origins(lambda _: recorder),
            )
            stopped = await captured(session)
            assert stopped.outcome.packets == expected, age
            assert abs(stopped.outcome.trigger - arrived_at) < (0.1 if abs(age) < 1 else 9)
            if age == 0.9:
                await asyncio.sleep(1)  # the packets are older than LATEST from now on


async def test_the_past_alone(wire: Wire, tmp_path: Path) -> None:
    with recording(wire.far, seconds=100) as recorder:
        moments = []
        for number in range(3):
            await asyncio.to_thread(wire.send, 5)
            eventually(has_recorded(recorder, 5 * (number + 1)))
            moments.append(datetime.now(UTC))
            await asyncio.sleep(0.2)
        first, second, _ = moments
        plan = plan_for(wire.far, since=first.isoformat(), until=second.isoformat(), duration=30)
        origins = Origins(lambda _: recorder)
        session = Session(
            plan, plan.captures[0], MemoryBudget(64 * MIB), CaptureSettings(), origins
        )
        stopped = await captured(session)
        assert (stopped.outcome.packets, stopped.outcome.stop_reason) == (5, "duration")
        assert stopped.outcome.trigger == pytest.approx(second.timestamp(), abs=1e-3)
        assert stopped.outcome.seconds < 10
        assert stopped.outcome.lookback
        asked = (second - first).total_seconds()
        assert stopped.outcome.lookback.asked == pytest.approx(asked, abs=1e-3)
        assert stopped.outcome.lookback.covered == pytest.approx(asked, abs=1e-3)


async def test_until_a_moment_to_come(wire: Wire) -> None:
    until = datetime.now(UTC) + timedelta(seconds=1)
    plan = plan_for(wire.far, until=until.isoformat(), duration=30, timeout=30)
    session = Session(plan, plan.captures[0], MemoryBudget(64 * MIB), CaptureSettings())
    stopped = await captured(session)
    assert stopped.outcome.stop_reason == "duration"
    assert 0.2 < stopped.outcome.seconds < 5


async def test_since_begins_at_a_moment_and_says_what_the_node_does_not_allow(
    wire: Wire, tmp_path: Path
) -> None:
    with recording(wire.far, seconds=100) as recorder:
        await asyncio.to_thread(wire.send, 3)
        eventually(has_recorded(recorder, 3))
        await asyncio.sleep(1)
        moment = datetime.now(UTC)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(wire.send, 7)
        eventually(has_recorded(recorder, 10))
        for since, packets, words in (
            (moment, 7, ""),
            (moment - timedelta(seconds=300), 10, MORE_THAN_ALLOWED),
        ):
            plan = plan_for(wire.far, since=since.isoformat(), duration=1)
            session = Session(
                plan,
                plan.captures[0],
                MemoryBudget(64 * MIB),
                CaptureSettings(),
                Origins(lambda _: recorder),
            )
            stopped = await captured(session)
            assert stopped.outcome.packets == packets
            assert stopped.outcome.lookback
            assert words in stopped.outcome.lookback.reason
            asked = stopped.outcome.trigger - since.timestamp()
            assert stopped.outcome.lookback.asked == pytest.approx(asked, abs=0.2)


async def test_a_stream_from_a_recorder_has_the_past_first_and_keeps_nothing(
    wire: Wire, tmp_path: Path
) -> None:
    with recording(wire.far) as recorder, (tmp_path / "s.pcap").open("wb") as file:
        await asyncio.to_thread(wire.send, 3000, 1000, 20_000)
        await asyncio.to_thread(eventually, has_recorded(recorder, 3000))
        plan = plan_for(wire.far, lookback=20, packets=2000, timeout=20)
        plan = replace(plan, most_lookback=60, stream=file.fileno())
        budget = MemoryBudget(8 << 20)
        origins = Origins(lambda _: recorder)
        session = Session(plan, plan.captures[0], budget, CaptureSettings(), origins)
        stopped = await captured(session, lambda: wire.send(2000, size=1000, rate=10_000))
    assert stopped.outcome.stop_reason is StopReason.PACKETS
    assert stopped.outcome.lookback is not None
    assert stopped.outcome.lookback.packets == 3000
    assert numbers(tmp_path / "s.pcap") == [*range(3000), *range(2000)]


async def test_what_a_recorder_has_over_time_is_what_came(wire: Wire) -> None:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 2000, 500, 4000)
        await asyncio.to_thread(eventually, has_recorded(recorder, 2000))
        await asyncio.sleep(0.6)  # the last step is over
        found = recorder.rates()
    step = found.at[1] - found.at[0]
    assert sum(found.packets) * step == pytest.approx(2000, rel=0.01)
    assert sum(found.bytes) * step == pytest.approx(2000 * 500, rel=0.01)
