"""CPU of capturing, against tcpdump on the same traffic: one capture, and sixteen at once.

Both sides keep whole frames, with kernel buffers of 8 MiB. Start-up is not counted: for us, the CPU
is read when the filter is set. For tcpdump, the CPU of a run that ends with its first packet is
subtracted. A first round warms the blocks.

New pages of a file in tmpfs cost several times more than everything else here, above all in a
virtual machine that returns free pages to its host after two seconds. So the write is measured
twice, in the same way for both sides: into a file whose pages exist already, and into a new file
after a pause in which every free page has grown cold.
"""

import asyncio
import contextlib
import os
import re
import resource
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Figure
from pcapdaemon.native.memory import MemoryBudget
from tests.helpers import Wire, session_for

FRAMES, SIZE, ROUNDS = 2_000_000, 100, 3
PAUSE = 6
FLEET, FLEET_FRAMES, RATE = 16, 1_000_000, 200_000
SHM = Path("/dev/shm")


def one_capture(wire: Wire) -> list[Figure]:
    """Measure one capture of FRAMES frames, sent as fast as possible."""
    budget = MemoryBudget(512 << 20)
    rounds = [_round(wire, budget) for _ in range(ROUNDS + 1)][1:]
    lost = sum(one.lost for one in rounds)
    memory, *others = (
        statistics.median(column) for column in zip(*(one.cpu for one in rounds), strict=True)
    )
    present, theirs_present, fresh, theirs_fresh = others
    return [
        Figure(f"frames lost in {3 * ROUNDS} captures of {FRAMES}", lost, "frames", most=0),
        Figure("CPU per million frames, in memory", memory, "s"),
        Figure(
            "  and written to tmpfs, pages present / new", present, "s", remark=f"/ {fresh:.3f} s"
        ),
        Figure(
            "  tcpdump -w to tmpfs, pages present / new",
            theirs_present,
            "s",
            remark=f"/ {theirs_fresh:.3f} s",
        ),
        Figure("in memory / tcpdump, pages present", memory / theirs_present, "ratio", most=0.5),
        Figure("written / tcpdump, pages present", present / theirs_present, "ratio", most=1.0),
        Figure("written / tcpdump, pages new", fresh / theirs_fresh, "ratio", most=1.0),
    ]


@dataclass(frozen=True)
class Round:
    """CPU seconds per million frames, and lost frames.

    `cpu` is in memory, written and tcpdump with pages present, written and tcpdump with new pages.
    """

    cpu: tuple[float, float, float, float, float]
    lost: int


def _round(wire: Wire, budget: MemoryBudget) -> Round:
    memory, lost = asyncio.run(_ours(wire, budget, None))
    with scratch() as path:
        asyncio.run(_ours(wire, budget, path))
        present, lost_present = asyncio.run(_ours(wire, budget, path))
        theirs_present = tcpdump_cpu(wire, path, FRAMES)
    time.sleep(PAUSE)
    with scratch() as path:
        fresh, lost_fresh = asyncio.run(_ours(wire, budget, path))
    time.sleep(PAUSE)
    with scratch() as path:
        theirs_fresh = tcpdump_cpu(wire, path, FRAMES)
    cpu = (memory, present, theirs_present, fresh, theirs_fresh)
    a, b, c, d, e = (seconds / (FRAMES / 1e6) for seconds in cpu)
    return Round((a, b, c, d, e), lost + lost_present + lost_fresh)


def sixteen_captures(wire: Wire) -> list[Figure]:
    """Measure FLEET captures with different filters at RATE frames per second."""
    budget = MemoryBudget(512 << 20)
    asyncio.run(_our_fleet(wire, budget))
    ours, lost = asyncio.run(_our_fleet(wire, budget))
    theirs, theirs_lost = tcpdump_fleet(wire)
    return [
        Figure(
            f"frames lost by {FLEET} captures at {RATE} frames/s",
            lost,
            "frames",
            most=0,
            remark=f"tcpdump {theirs_lost}",
        ),
        Figure(f"CPU of {FLEET} captures", ours, "s"),
        Figure(f"CPU of {FLEET} tcpdumps", theirs, "s"),
        Figure(f"{FLEET} captures / {FLEET} tcpdumps", ours / theirs, "ratio", most=0.5),
    ]


async def _ours(wire: Wire, budget: MemoryBudget, path: Path | None) -> tuple[float, int]:
    """Return the CPU seconds of one capture, written to a path if there is one, and lost frames."""
    session = session_for(wire.far, budget, packets=FRAMES, timeout=3)
    running = asyncio.create_task(session.run())
    await session.armed
    before = _cpu()
    sending = wire.sending(FRAMES, SIZE)
    stopped = await running
    assert stopped.savefile
    with stopped.savefile as savefile:
        if path:
            savefile.write_to(file := os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
            os.close(file)
    used = _cpu() - before
    sending.wait()
    return used, FRAMES - stopped.outcome.packets


async def _our_fleet(wire: Wire, budget: MemoryBudget) -> tuple[float, int]:
    each = FLEET_FRAMES // FLEET
    sessions = [
        session_for(
            wire.far, budget, packets=each, timeout=3, bpf=f"udp port {9000 + n}", id=str(n)
        )
        for n in range(FLEET)
    ]
    running = [asyncio.create_task(session.run()) for session in sessions]
    await asyncio.gather(*(session.armed for session in sessions))
    before = _cpu()
    sending = wire.sending(FLEET_FRAMES, SIZE, RATE, FLEET)
    stopped = await asyncio.gather(*running)
    used = _cpu() - before
    sending.wait()
    for one in stopped:
        if one.savefile:
            one.savefile.close()
    return used, FLEET_FRAMES - sum(one.outcome.packets for one in stopped)


def tcpdump_cpu(wire: Wire, path: Path, frames: int) -> float:
    """Return the CPU seconds of a tcpdump that writes this many frames, without its start-up."""
    with scratch("start-up") as other:
        idle, _ = _run_tcpdumps(wire, [(other, "", 1)], 64, 0)
    used, _ = _run_tcpdumps(wire, [(path, "", frames)], frames, 0)
    return used - idle


def tcpdump_fleet(wire: Wire) -> tuple[float, int]:
    """Return the CPU seconds of FLEET tcpdumps, without their start-up, and lost frames."""
    each = FLEET_FRAMES // FLEET
    with contextlib.ExitStack() as files:
        paths = [files.enter_context(scratch(str(n))) for n in range(FLEET)]
        filters = [f"udp port {9000 + n}" for n in range(FLEET)]
        idle, _ = _run_tcpdumps(
            wire, [(path, words, 1) for path, words in zip(paths, filters, strict=True)], 64, 0
        )
        jobs = [(path, words, each) for path, words in zip(paths, filters, strict=True)]
        used, got = _run_tcpdumps(wire, jobs, FLEET_FRAMES, RATE)
    return used - idle, FLEET_FRAMES - got


def _run_tcpdumps(
    wire: Wire, jobs: list[tuple[Path, str, int]], frames: int, rate: int
) -> tuple[float, int]:
    """Return the CPU seconds of tcpdumps that write to files, and how many frames they received."""
    processes = []
    for path, words, packets in jobs:
        command = [
            "tcpdump",
            "-i",
            wire.far,
            "-w",
            "-",
            "-B",
            "8192",
            "-c",
            str(packets),
            *([words] if words else []),
        ]
        # With -w PATH, tcpdump would free the pages of the file.
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        processes.append(subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE))
        os.close(file)
    for process in processes:
        assert process.stderr
        while b"listening" not in process.stderr.readline():
            pass
    wire.send(frames, SIZE, rate, FLEET)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(
        os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None for p in processes
    ):
        time.sleep(0.05)
    used = got = 0.0
    for process in processes:
        # Popen.send_signal would reap a process that has ended, and lose its usage.
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr
        words = process.stderr.read().decode()
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
        used += usage.ru_utime + usage.ru_stime
        found = re.search(r"(\d+) packets? captured", words)
        got += int(found.group(1)) if found else 0
    return used, int(got)


def traffic(wire: Wire) -> "subprocess.Popen[bytes]":
    """Send 5,000 frames a second, whatever else runs here, as if they came from another host.

    With an ordinary priority, the sender would wait while the daemon uses its CPU.
    """
    sending = wire.sending(1_000_000, rate=5_000)
    os.sched_setscheduler(sending.pid, os.SCHED_FIFO, os.sched_param(1))
    return sending


@contextlib.contextmanager
def scratch(name: str = "") -> Iterator[Path]:
    """Yield a path in tmpfs, and remove the file at the end."""
    path = SHM / f"pcapdaemon-benchmark-{os.getpid()}-{name}.pcap"
    try:
        yield path
    finally:
        if not path.is_dir():
            path.unlink(missing_ok=True)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
