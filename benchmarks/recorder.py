"""The flight recorder.

Its seam, its cost, how soon a capture from it is armed, and many captures on one recorder.
"""

import asyncio
import random
import resource
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.packet_loop import tcpdump_cpu
from benchmarks.report import Figure
from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.recorder import Recorder, RecorderSettings
from pcapdaemon.capture.session import Origins, Session
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.savefile.packing import Captured
from tests.helpers import Wire, eventually, plan_for

RUNS, AT_ONCE, LOOKBACK, RATE = 30, 8, 3, 200_000
FRAMES, SIZE, ROUNDS = 2_000_000, 100, 3
TAKEN = 1_000_000
FLEET = 32
MIB = 1 << 20


def figures(wire: Wire, directory: Path) -> list[Figure]:
    """Measure everything."""
    return [*_seam(wire, directory), *_cost(wire), *_taking(wire), *_many(wire), *_formats(wire)]


@contextmanager
def _recording(wire: Wire, memory: int) -> Iterator[Recorder]:
    settings = RecorderSettings(interface=wire.far, memory=memory, seconds=3600)
    recorder = Recorder(settings, wire.far, 8 * MIB, lambda *_: None)
    recorder.start()
    eventually(lambda: recorder.is_open)
    try:
        yield recorder
    finally:
        recorder.close()


def _session(recorder: Recorder | None, wire: Wire, budget: MemoryBudget, **fields: Any) -> Session:
    plan = replace(plan_for(wire.far, **fields), most_packets=10**12, most_size=10**15)
    return Session(plan, plan.captures[0], budget, CaptureSettings(), Origins(lambda _: recorder))


def _seam(wire: Wire, directory: Path) -> list[Figure]:
    """Run AT_ONCE captures at random moments, RUNS times.

    Each file must hold each number of its window once, in order.
    """
    program = directory / "sequence"
    subprocess.run(
        ["gcc", "-O2", "-o", program, Path(__file__).with_name("sequence.c")], check=True
    )
    budget, files, bad, short = MemoryBudget(2048 * MIB), 0, 0, 0
    with _recording(wire, 256 * MIB) as recorder:
        sending = wire.sending(RATE * 600, rate=RATE)
        time.sleep(LOOKBACK + 0.5)
        for _ in range(RUNS):
            made = [
                stopped
                for stopped in asyncio.run(_at_random_moments(recorder, wire, budget))
                if stopped.savefile
            ]
            checked = [_checked(program, stopped) for stopped in made]
            files, bad = files + len(made), bad + sum(jumps for jumps, _ in checked)
            short += sum(
                _begins_late(stopped, first, made, checked)
                for stopped, (_, first) in zip(made, checked, strict=True)
            )
            for stopped in made:
                if stopped.savefile:
                    stopped.savefile.close()
        sending.kill()
        sending.wait()
        dropped = recorder.status().dropped
    return [
        Figure(
            f"files of {LOOKBACK} s of lookback at {RATE} frames/s",
            files,
            "files",
            least=RUNS * AT_ONCE,
        ),
        Figure("  frames missing, duplicated or out of order", bad, "frames", most=0),
        Figure("  dropped by the recorder", dropped, "frames", most=0),
        Figure("  without a frame of their window that another has", short, "files", most=0),
    ]


async def _at_random_moments(
    recorder: Recorder, wire: Wire, budget: MemoryBudget
) -> list[Captured]:
    async def one() -> Captured:
        await asyncio.sleep(random.random())
        return await _session(recorder, wire, budget, lookback=LOOKBACK, packets=20_000).run()

    return await asyncio.gather(*(one() for _ in range(AT_ONCE)))


def _checked(program: Path, stopped: Captured) -> tuple[int, int]:
    """Return the frames missing, duplicated or out of order in a file, and its first number."""
    assert stopped.savefile is not None
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin
        assert reader.stdout
        stopped.savefile.write_to(reader.stdin.fileno())
        reader.stdin.close()
        frames, first, last, jumps, _, _ = map(int, reader.stdout.read().split())
    assert frames == stopped.outcome.packets
    return jumps + abs(last - first + 1 - frames), first


def _begins_late(
    stopped: Captured, first: int, made: list[Captured], checked: list[tuple[int, int]]
) -> bool:
    """Whether the frame before a file's first one belongs to its window too.

    The file that begins earliest has that frame.
    """
    earliest, (_, number) = min(zip(made, checked, strict=True), key=lambda one: one[1][1])
    if number == first or earliest.savefile is None:
        return False
    record = earliest.savefile.reader(24 + (first - 1 - number) * (16 + SIZE), 8).read()
    seconds, microseconds = struct.unpack("<II", record)
    clocks = 0.001  # the clock of packets and the monotonic one are not read at the same moment
    return bool(seconds + microseconds / 1e6 > stopped.outcome.trigger - LOOKBACK + clocks)


def _cost(wire: Wire) -> list[Figure]:
    with _recording(wire, 64 * MIB) as recorder:
        before = _cpu()
        time.sleep(10)
        rest = (_cpu() - before) / 10
        ours = [_recorded_cpu(wire, recorder) for _ in range(ROUNDS + 1)][1:]
        status = recorder.status()
    theirs = [tcpdump_cpu(wire, Path("/dev/null"), FRAMES) for _ in range(ROUNDS)]
    mine, tcpdump = (
        statistics.median(ours) / (FRAMES / 1e6),
        statistics.median(theirs) / (FRAMES / 1e6),
    )
    return [
        Figure("CPU per million frames recorded", mine, "s"),
        Figure("  tcpdump -w /dev/null", tcpdump, "s"),
        Figure("recording / tcpdump -w /dev/null", mine / tcpdump, "ratio", most=0.8),
        Figure("  frames lost", status.dropped, "frames", most=0),
        Figure("  kept / budget of memory", status.bytes / status.memory, "ratio", most=1.0),
        Figure("CPU of a recorder at rest, of a core", rest * 100, "%", most=0.5),
    ]


def _recorded_cpu(wire: Wire, recorder: Recorder) -> float:
    before, had = _cpu(), recorder.status().packets
    wire.send(FRAMES)
    eventually(lambda: recorder.status().packets >= had + FRAMES or recorder.status().dropped)
    return _cpu() - before


def _taking(wire: Wire) -> list[Figure]:
    """Measure from a request until its capture is live, with TAKEN frames recorded before it."""
    budget = MemoryBudget(1024 * MIB)
    with _recording(wire, 512 * MIB) as recorder:
        wire.send(TAKEN, rate=RATE * 2, ports=100)
        eventually(lambda: recorder.status().packets >= TAKEN)
        asyncio.run(_armed_after(_session_of(recorder, wire, budget, "")))  # warms the blocks
        some = [
            asyncio.run(_armed_after(_session_of(recorder, wire, budget, "udp dst port 9007")))
            for _ in range(5)
        ]
        everything = [
            asyncio.run(_armed_after(_session_of(recorder, wire, budget, ""))) for _ in range(5)
        ]
    kept, all_kept = some[0][1], everything[0][1]
    return [
        Figure(
            f"request to live, past {TAKEN} frames, 1 % kept",
            max(s for s, _ in some) * 1000,
            "ms",
            most=150,
            remark=f"{kept}",
        ),
        Figure(
            "  and all kept",
            max(s for s, _ in everything) * 1000,
            "ms",
            most=500,
            remark=f"{all_kept}",
        ),
    ]


def _session_of(recorder: Recorder, wire: Wire, budget: MemoryBudget, words: str) -> Any:
    return lambda: _session(recorder, wire, budget, lookback=60, duration=1, bpf=words)


async def _armed_after(make: Any) -> tuple[float, int]:
    session = make()
    running = asyncio.create_task(session.run())
    armed = await session.armed
    session.stop()
    stopped: Captured = await running
    if stopped.savefile:
        stopped.savefile.close()
    return armed.at - stopped.outcome.trigger, stopped.outcome.packets


def _many(wire: Wire) -> list[Figure]:
    """Measure FLEET captures with different filters on one recorder.

    They are compared with one capture, and with sockets of their own.
    """
    budget = MemoryBudget(1024 * MIB)
    with _recording(wire, 64 * MIB) as recorder:
        asyncio.run(_fleet(recorder, wire, budget, FLEET))
        one, lost_one = asyncio.run(_fleet(recorder, wire, budget, 1))
        many, lost = asyncio.run(_fleet(recorder, wire, budget, FLEET))
        dropped = recorder.status().dropped
    alone, _ = asyncio.run(_fleet(None, wire, budget, FLEET))
    return [
        Figure(
            f"frames lost by {FLEET} captures on one recorder",
            lost + lost_one + dropped,
            "frames",
            most=0,
        ),
        Figure("kernel's CPU per million frames, 1 capture", one, "s"),
        Figure(f"  {FLEET} captures on the recorder", many, "s"),
        Figure(f"  {FLEET} captures with sockets of their own", alone, "s"),
        Figure(f"{FLEET} captures / 1 capture, kernel's CPU", many / one, "ratio", most=1.05),
    ]


async def _fleet(
    recorder: Recorder | None, wire: Wire, budget: MemoryBudget, number: int
) -> tuple[float, int]:
    """Return the kernel's CPU per million frames, and lost frames.

    It includes the sender's, which carries the frames up to the sockets.
    """
    frames = TAKEN
    sessions = [
        _session(
            recorder,
            wire,
            budget,
            bpf=f"udp dst port {9000 + n}",
            packets=frames,
            timeout=2,
            id=str(n),
        )
        for n in range(number)
    ]
    running = [asyncio.create_task(session.run()) for session in sessions]
    await asyncio.gather(*(session.armed for session in sessions))
    before = _kernel_cpu()
    await asyncio.to_thread(wire.send, frames, 100, RATE, FLEET)
    stopped = await asyncio.gather(*running)
    used = _kernel_cpu() - before
    for one in stopped:
        if one.savefile:
            one.savefile.close()
    return used / (frames / 1e6), frames * number // FLEET - sum(
        one.outcome.packets for one in stopped
    )


def _formats(wire: Wire) -> list[Figure]:
    budget = MemoryBudget(1024 * MIB)
    found: dict[str, list[float]] = {"pcap": [], "pcapng": []}
    for _ in range(ROUNDS + 1):
        for form, seconds in found.items():
            seconds.append(asyncio.run(captured(wire, budget, format=form)))
    pcap, pcapng = (statistics.median(seconds[1:]) / (FRAMES / 1e6) for seconds in found.values())
    return [
        Figure("CPU per million frames, pcap in memory", pcap, "s"),
        Figure("  pcapng in memory", pcapng, "s"),
        Figure("pcapng / pcap", pcapng / pcap, "ratio", most=1.3),
    ]


async def captured(wire: Wire, budget: MemoryBudget, **more: Any) -> float:
    """Capture so many frames, and return the seconds of CPU. `more` are fields of the request."""
    session = _session(None, wire, budget, packets=FRAMES, timeout=3, **more)
    running = asyncio.create_task(session.run())
    await session.armed
    before = _cpu()
    sending = wire.sending(FRAMES)
    stopped = await running
    used = _cpu() - before
    sending.wait()
    assert stopped.outcome.packets == FRAMES
    assert stopped.savefile
    stopped.savefile.close()
    return used


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _kernel_cpu() -> float:
    return sum(
        resource.getrusage(who).ru_stime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
