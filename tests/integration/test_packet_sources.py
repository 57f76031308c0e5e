"""The contract of packet sources, tested on each: live, recorded and replayed."""

import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.utils import RawPcapNgReader, RawPcapReader

from pcapdaemon.capture.source import PacketSource, SourceOptions
from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.core.limits import CaptureLimits
from pcapdaemon.core.outcome import Lookback
from pcapdaemon.native.memory import BLOCK_SIZE, MemoryBudget
from pcapdaemon.native.merge import SharedLimits
from pcapdaemon.savefile.savefile import Savefile
from tests.contracts.captures import HARNESSES, Harness, Script, frame, pcap, run
from tests.helpers import Wire, eventually, tshark

BUDGET = 64 * BLOCK_SIZE
LIMITS = CaptureLimits(packets=1000, size=10**9, duration=60, idle_timeout=30)


timed = pytest.mark.parametrize(
    "harness", [n for n, one in HARNESSES.items() if one.takes_time], indirect=True
)
"""For sources whose packets arrive over time.

The others end before a test could act.
"""


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest, wire: Wire, tmp_path: Path) -> Iterator[Harness]:
    budget = MemoryBudget(BUDGET)
    yield HARNESSES[request.param](wire, tmp_path, budget)
    assert budget.used == 0, "it did not return its memory"


def options(**more: Any) -> SourceOptions:
    limits = CaptureLimits(
        **{**vars_of(LIMITS), **{k: more.pop(k) for k in vars_of(LIMITS) if k in more}}
    )
    everything = {
        "capture_filter": "",
        "snaplen": 262144,
        "most_packets": 10**6,
        "most_size": 10**9,
    }
    return SourceOptions(**{**everything, **more}, limits=limits)


def vars_of(limits: CaptureLimits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in limits.__slots__}


def whole(packets: int) -> dict[str, Any]:
    """Return limits that end a capture with its last packet, however late that comes."""
    return {"packets": packets, "idle_timeout": 30}


def taken(
    harness: Harness, script: Script, frame_size: int = 100, **more: Any
) -> tuple[str, list[bytes]]:
    """Return why a capture of the traffic ended, and its packets."""
    with harness.source(script, frame_size) as source:
        source.arm(options(**more))
        running = run(source)
        harness.play(script, frame_size)
        reason = running.reason()
        return reason, read(harness.directory, source)


def read(directory: Path, source: PacketSource) -> list[bytes]:
    savefile, path = Savefile.of(source.header, source.take_blocks()), directory / "taken.pcap"
    path.write_bytes(savefile.read())
    savefile.close()
    with RawPcapReader(str(path)) as reader:
        return [data for data, _ in reader]


def frames(number: int, size: int = 100) -> list[bytes]:
    return [frame(n, size) for n in range(number)]


def end_of_it(harness: Harness) -> tuple[str, ...]:
    """Return what ends a capture if no limit ends it before its traffic is over."""
    return (
        ("end-of-file",)
        if not harness.takes_time or "replay" in type(harness).__name__.lower()
        else ("idle",)
    )


def test_packets_come_whole_and_in_order(harness: Harness) -> None:
    reason, packets = taken(harness, [(0, 20)], packets=20, idle_timeout=20)
    assert reason == "packets"
    assert packets == frames(20)


def test_it_says_what_its_packets_are(harness: Harness) -> None:
    with harness.source([(0, 3)]) as source:
        source.arm(options(snaplen=96))
        assert (source.linktype, source.snaplen, source.error) == ("EN10MB", 96, "")
        assert source.interface in (harness.wire.far, "played0")
        magic, _, _, _, _, snaplen, linktype = struct.unpack("<IHHiIII", source.header)
        assert (magic, snaplen, linktype) == (0xA1B2C3D4, 96, 1)


def test_counters_and_times_are_of_what_was_kept(harness: Harness) -> None:
    with harness.source([(0, 5)]) as source:
        source.arm(options(capture_filter="udp", **whole(5)))
        running = run(source)
        harness.play([(0, 5)])
        running.reason()
        first, last = source.times
        assert (source.packets, source.size) == (5, 24 + 5 * (16 + 100))
        assert 0 < first <= last
        assert source.stats == (5, 0, 0)


def test_the_filter_decides(harness: Harness) -> None:
    _, packets = taken(harness, [(0, 5)], capture_filter="udp dst port 20000", **whole(5))
    assert packets == frames(5)
    assert taken(harness, [(0, 5)], capture_filter="tcp", idle_timeout=1)[1] == []


def test_a_bad_filter_is_refused_and_so_said(harness: Harness) -> None:
    with (
        harness.source([(0, 1)]) as source,
        pytest.raises(CaptureRefused, match="syntax error") as caught,
    ):
        source.arm(options(capture_filter="nonsense ("))
    assert caught.value.kind == "filter"


def test_longer_packets_are_cut(harness: Harness) -> None:
    assert [
        len(data) for data in taken(harness, [(0, 3)], frame_size=200, snaplen=60, **whole(3))[1]
    ] == [60] * 3


@pytest.mark.parametrize(
    ("limits", "reason", "number"),
    [
        ({"packets": 4}, "packets", 4),
        ({"size": 24 + 3 * 116 - 1}, "bytes", 3),
        ({"duration": 0.6}, "duration", 5),
        ({"idle_timeout": 0.5}, "idle", 5),
    ],
    ids=["packets", "bytes", "duration", "idle"],
)
def test_each_limit_ends_it(
    harness: Harness, limits: dict[str, Any], reason: str, number: int
) -> None:
    found, packets = taken(harness, [(0, 5), (1.0, 5)], **{"idle_timeout": 30, **limits})
    assert (found, packets) == (reason, frames(number))


def test_what_comes_in_time_is_not_idle(harness: Harness) -> None:
    reason, packets = taken(harness, [(0, 2), (0.4, 2), (0.4, 2), (1.2, 2)], idle_timeout=0.8)
    assert (reason, packets) == ("idle", frames(6))


def test_a_stop_before_it_runs_ends_it_at_once(harness: Harness) -> None:
    with harness.source([(0, 5)]) as source:
        source.arm(options(idle_timeout=30))
        source.stop()
        assert run(source).reason() == "stopped"


@timed
def test_a_stop_from_another_thread_ends_it_and_keeps_what_is_there(harness: Harness) -> None:
    script = [(0, 5), (5.0, 5)]
    with harness.source(script) as source:
        source.arm(options(idle_timeout=30))
        running = run(source)
        traffic = threading.Thread(target=harness.play, args=([(0, 5)],))
        traffic.start()
        eventually(lambda: source.packets == 5)
        assert source.is_running
        begun = time.monotonic()
        source.stop()
        assert running.reason() == "stopped"
        assert time.monotonic() - begun < 15, "not the idle timeout"
        assert not source.is_running
        assert read(harness.directory, source) == frames(5)
        traffic.join()


@timed
def test_limits_may_grow_while_it_runs_and_not_afterwards(harness: Harness) -> None:
    script = [(0, 5), (1.0, 5)]
    with harness.source(script) as source:
        source.arm(options(idle_timeout=30, duration=1))
        running = run(source)
        traffic = threading.Thread(target=harness.play, args=(script,))
        traffic.start()
        eventually(lambda: source.packets == 5)
        assert source.extend(packets=10, size=10**9, duration=30, idle_timeout=30)
        assert source.extend(packets=8, size=1, duration=1, idle_timeout=1), "the longest wins"
        eventually(lambda: source.packets == 10)
        source.stop()
        running.reason()
        assert not source.extend(packets=10**6, size=10**9, duration=60, idle_timeout=60)
        assert read(harness.directory, source) == frames(10)
        traffic.join()


def test_where_memory_is_spent_it_ends_and_keeps_what_it_has(harness: Harness) -> None:
    # Room for the smallest kernel buffer and two blocks.
    harness.budget.configure(4 * BLOCK_SIZE)
    reason, packets = taken(harness, [(0, 5000)], frame_size=1400, packets=10**6)
    assert reason == "memory"
    # A busy machine drops some packets, because the kernel's buffer is the smallest.
    sent = iter(frames(5000, 1400))
    assert all(packet in sent for packet in packets), "the packets that were sent, in their order"
    assert len(packets) >= BLOCK_SIZE // 1416


def test_pcapng_is_written_as_well(harness: Harness) -> None:
    with harness.source([(0, 3)]) as source:
        source.arm(options(pcapng=True, overhead=500, number=0, **whole(3)))
        running = run(source)
        harness.play([(0, 3)])
        running.reason()
        blocks = source.take_blocks()
        records = b"".join(blocks.views())
        assert source.size == 500 + len(records)
        assert records[:4] == b"\x06\0\0\0"
        assert b"trigger" in records, "the first packet after the trigger is marked"


def test_several_share_their_limits(harness: Harness) -> None:
    shared = SharedLimits(0)
    with harness.source([(0, 8)]) as source:
        source.arm(options(pcapng=True, shared=shared, packets=6))
        running = run(source)
        harness.play([(0, 8)])
        assert running.reason() == "packets"
        assert source.packets == 6


def test_closed_without_being_run_it_gives_its_memory_back(harness: Harness) -> None:
    with harness.source([(0, 1)]) as source:
        source.arm(options())
        source.close()
        source.close()
        assert harness.budget.used == 0


def test_what_it_has_from_before_is_said(harness: Harness) -> None:
    with harness.source([(0, 1)]) as source:
        source.arm(options())
        source.stop()
        run(source).reason()
        found = source.past(5)
        assert isinstance(found, Lookback)
        assert (found.asked, found.packets) == (5, 0)


class TestReplay:
    """What only applies to files."""

    @pytest.fixture
    def played(self, tmp_path: Path, wire: Wire) -> Harness:
        return HARNESSES["replay"](wire, tmp_path, MemoryBudget(BUDGET))

    @pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
    @pytest.mark.parametrize(
        ("magic", "tick"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)], ids=["micro", "nano"]
    )
    def test_pcap_is_read_in_any_byte_order_and_precision(
        self, played: Harness, order: str, magic: int, tick: int
    ) -> None:
        with played.source([]) as source:
            (played.directory / "replayed.pcap").write_bytes(
                pcap([(0, 4), (0.5, 4)], 100, order, magic, tick)
            )
            source.arm(options())
            assert run(source).reason() == "end-of-file"
            first, last = source.times
            assert last - first == 500_000_000 + 7 * 100_000
            assert read(played.directory, source) == frames(8)

    @pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
    def test_pcapng_is_read_in_any_byte_order_with_several_interfaces(
        self, played: Harness, order: str
    ) -> None:
        with played.source([]) as source:
            (played.directory / "replayed.pcap").write_bytes(pcapng(order, [1, 1]))
            source.arm(options(idle_timeout=30))
            assert run(source).reason() == "end-of-file"
            first, last = source.times
            assert (first, last - first) == (1_700_000_000 * 10**9, 5 * 10**9)
            assert read(played.directory, source) == frames(6)

    def test_interfaces_of_different_linktypes_are_refused_in_words(self, played: Harness) -> None:
        with played.source([]) as source:
            (played.directory / "replayed.pcap").write_bytes(pcapng("<", [1, 113]))
            source.arm(options(idle_timeout=30))
            reason = run(source).reason()
            assert reason == "error"
            assert "type" in source.error

    def test_a_torn_file_is_played_as_far_as_it_goes(self, played: Harness) -> None:
        with played.source([]) as source:
            (played.directory / "replayed.pcap").write_bytes(pcap([(0, 4)])[:-50])
            source.arm(options())
            assert run(source).reason() == "error"
            assert "truncated" in source.error
            assert read(played.directory, source) == frames(3)

    @pytest.mark.parametrize(
        "content", [None, b"", b"no savefile at all"], ids=["missing", "empty", "foreign"]
    )
    def test_what_is_no_savefile_is_refused_with_its_name(
        self, played: Harness, content: bytes | None
    ) -> None:
        with played.source([]) as source:
            file = played.directory / "replayed.pcap"
            file.unlink() if content is None else file.write_bytes(content)
            with pytest.raises(CaptureRefused, match=r"replayed\.pcap: "):
                source.arm(options())

    def test_paced_packets_get_the_time_at_which_they_come(
        self, wire: Wire, tmp_path: Path
    ) -> None:
        harness = HARNESSES["replay-paced"](wire, tmp_path, MemoryBudget(BUDGET))
        with harness.source([(0, 2), (0.5, 1)]) as source:
            source.arm(options())
            begun, wall = time.monotonic(), time.time_ns()
            assert run(source).reason() == "end-of-file"
            assert time.monotonic() - begun >= 0.5
            first, last = source.times
            assert abs(first - wall) < 500_000_000
            assert last - first == 500_200_000

    def test_independent_readers_agree_about_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "x.pcapng").write_bytes(pcapng("<", [1, 1]))
        with RawPcapNgReader(str(tmp_path / "x.pcapng")) as reader:
            assert [data for data, _ in reader] == frames(6)
        assert len(tshark(tmp_path / "x.pcapng", "frame.number")) == 6


def pcapng(order: str, linktypes: list[int]) -> bytes:
    """Return six frames, one second apart, on two interfaces in turn.

    The first interface has nanoseconds, the second microseconds.
    """

    def block(kind: int, body: bytes) -> bytes:
        length = len(body) + 12
        return struct.pack(f"{order}II", kind, length) + body + struct.pack(f"{order}I", length)

    ticks = [9, 6]
    made = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    for linktype, tick in zip(linktypes, ticks, strict=True):
        resolution = struct.pack(f"{order}HHB3xHH", 9, 1, tick, 0, 0)
        made += block(1, struct.pack(f"{order}HHI", linktype, 0, 262144) + resolution)
    for number in range(6):
        interface = number % 2
        # The second interface has microseconds, and can't express single nanoseconds.
        at = (1_700_000_000 + number) * 10 ** ticks[interface] + (0 if interface else number)
        data = frame(number)
        stamp = struct.pack(
            f"{order}IIIII", interface, at >> 32, at & 0xFFFFFFFF, len(data), len(data)
        )
        made += block(6, stamp + data)
    return made
