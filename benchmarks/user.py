"""What a user gets: captures through the daemon's API, from the request to the file in a directory.

Everything counts: the request, the copy into memory, the digest, and the write to a directory in
tmpfs. The peer is `tcpdump -w` to tmpfs on the same traffic, as in packet_loop.py.
"""

import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.daemon import latency
from benchmarks.packet_loop import (
    FLEET,
    FLEET_FRAMES,
    FRAMES,
    PAUSE,
    RATE,
    SIZE,
    scratch,
    tcpdump_cpu,
    tcpdump_fleet,
)
from benchmarks.report import Figure
from tests.helpers import Wire, eventually
from tests.servers import DaemonProcess, RedisServer

ROUNDS = 3
REST = 34
"""Seconds after which the system may take the daemon's unused memory (OFFER_AFTER in runs.py)."""

LATE_ROUNDS = 20


def figures(wire: Wire, directory: Path) -> list[Figure]:
    """Measure one capture, one after a rest, sixteen at once, and one from a recorder."""
    with _daemon(wire, directory) as daemon:
        _capture(daemon, wire, FRAMES)
        ours, lost, theirs = zip(*(_round(daemon, wire) for _ in range(ROUNDS)), strict=True)
        rested, lost_rested, fresh = zip(
            *(_rested_round(daemon, wire) for _ in range(ROUNDS)), strict=True
        )
        _fleet(daemon, wire)
        fleet = [_fleet(daemon, wire) for _ in range(ROUNDS)]
        theirs_fleet = [tcpdump_fleet(wire)[0] for _ in range(ROUNDS)]
    cpu, peer = statistics.median(ours), statistics.median(theirs)
    many, peers = statistics.median(one for one, _ in fleet), statistics.median(theirs_fleet)
    after_rest = statistics.median(rested) / statistics.median(fresh)
    all_lost = sum(lost) + sum(lost_rested) + sum(one for _, one in fleet)
    return [
        Figure("frames lost by captures through the API", all_lost, "frames", most=0),
        Figure("CPU of a capture of 2 million frames", cpu, "s", remark=f"tcpdump {peer:.3f} s"),
        Figure("through the API / tcpdump -w", cpu / peer, "ratio", most=1.0),
        Figure("the first after a rest / tcpdump -w, new file", after_rest, "ratio", most=1.0),
        Figure(f"CPU of {FLEET} captures", many, "s", remark=f"tcpdumps {peers:.3f} s"),
        Figure(f"{FLEET} through the API / {FLEET} tcpdumps", many / peers, "ratio", most=0.7),
        *_from_recorder(wire, directory),
    ]


def _round(daemon: DaemonProcess, wire: Wire) -> tuple[float, int, float]:
    ours, lost = _capture(daemon, wire, FRAMES)
    with scratch() as path:
        tcpdump_cpu(wire, path, 1000)  # makes the file, so that both write to pages that exist
        return ours, lost, tcpdump_cpu(wire, path, FRAMES)


def _rested_round(daemon: DaemonProcess, wire: Wire) -> tuple[float, int, float]:
    time.sleep(REST)
    ours, lost = _capture(daemon, wire, FRAMES)
    time.sleep(PAUSE)
    with scratch() as path:
        return ours, lost, tcpdump_cpu(wire, path, FRAMES)


def _capture(daemon: DaemonProcess, wire: Wire, frames: int) -> tuple[float, int]:
    """Return the CPU seconds of a capture through the API, and how many frames are missing."""
    return _done(daemon, wire, [""], frames, 0)


def _fleet(daemon: DaemonProcess, wire: Wire) -> tuple[float, int]:
    filters = [f"udp port {9000 + n}" for n in range(FLEET)]
    return _done(daemon, wire, filters, FLEET_FRAMES, RATE)


def _done(
    daemon: DaemonProcess, wire: Wire, filters: list[str], frames: int, rate: int
) -> tuple[float, int]:
    """Capture with each filter; return the CPU seconds, and how many frames the files lack.

    The CPU counts from when all filters are set, as for tcpdump, until the last file is there.
    """
    each: dict[str, Any] = {"interface": [wire.far], "packets": frames // len(filters)}
    answers = [daemon.request(**each, timeout=3, bpf=words) for words in filters]
    before = daemon.cpu()
    wire.send(frames, SIZE, rate, FLEET)
    eventually(lambda: len(_files(daemon, "[!.]*.pcap")) == len(filters), 30)
    time.sleep(0.2)  # the last events
    used = daemon.cpu() - before
    for file in daemon.captures.iterdir():
        file.unlink()
    records = [daemon.record(answer.json()["id"]) for answer in answers]
    return used, frames - sum(one["captures"][0]["packets"] for one in records)


def _files(daemon: DaemonProcess, pattern: str) -> list[Path]:
    return list(daemon.captures.glob(pattern))


def _from_recorder(wire: Wire, directory: Path) -> list[Figure]:
    """Measure how soon a capture that reads from a recorder has its first packet."""
    server = RedisServer(directory).start()
    section = {"listen": True, "host": "127.0.0.1", "port": server.port}
    recorder = {"interface": wire.far, "memory": "64MiB"}
    try:
        with _daemon(wire, directory, redis=section, **{"recorder 1": recorder}) as daemon:
            eventually(lambda: daemon.logged("source connected", source="redis"))
            eventually(lambda: daemon.logged("recorder records"))
            first = [latency(daemon, server, wire, number)[1] for number in range(LATE_ROUNDS)]
    finally:
        server.kill()
    median = statistics.median(first)
    return [Figure("from PUBLISH to the first packet, recorder, median", median, "ms", most=1)]


@contextmanager
def _daemon(wire: Wire, directory: Path, **sections: Any) -> Iterator[DaemonProcess]:
    with scratch("captures") as captures:
        captures.mkdir()
        general = {"localdir": str(captures), "maxpackets": 10**8, "maxbytes": 10**10}
        daemon = DaemonProcess(
            directory,
            {
                "general": {**general, "memory": "640MiB", "snaplength": "64KiB"},
                "interface 1": {"name": wire.far},
                **sections,
            },
        )
        daemon.captures = captures
        daemon.start()
        eventually(lambda: daemon.api("GET", "/readyz").status_code == 200)
        try:
            yield daemon
        finally:
            daemon.stop()
            shutil.rmtree(captures)
