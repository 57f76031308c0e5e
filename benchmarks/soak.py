"""A soak: memory, descriptors and threads of a daemon under mixed work stay on a plateau.

SOAK_MINUTES sets how long it takes, 20 by default; 1440 is a day. The work is what a busy day has:
captures live and from a recorder, each format, joined and cancelled requests, junk on a bus, a bus
that is restarted, reloads, and a destination that is away for a while.
"""

import itertools
import json
import os
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.report import Figure
from tests.helpers import Wire, eventually
from tests.servers import DaemonProcess, RedisServer

MINUTES = float(os.environ.get("SOAK_MINUTES", "20"))
SAMPLE_EVERY = 2.0
MEMORY = 64 << 20


@dataclass(frozen=True)
class Sample:
    """What the process holds at a moment; `resident` is bytes."""

    resident: int
    descriptors: int
    threads: int


def figures(wire: Wire, directory: Path) -> list[Figure]:
    """Run for MINUTES, and compare the last third with the middle third."""
    server = RedisServer(directory).start()
    daemon = DaemonProcess(directory, _sections(wire, server, directory))
    daemon.start()
    eventually(lambda: daemon.api("GET", "/readyz").status_code == 200)
    try:
        samples, requests = _work(daemon, server, wire)
        log = daemon.log_path.stat().st_size
    finally:
        daemon.stop()
        server.kill()
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    grown = _median(last, "resident") - _median(middle, "resident")
    return [
        Figure("minutes of mixed work", MINUTES, "min", remark=f"{requests} requests"),
        Figure("memory, middle third, median", _median(middle, "resident") / 2**20, "MiB"),
        Figure("  grown in the last third", grown / 2**20, "MiB", most=2),
        Figure("descriptors, middle third, median", _median(middle, "descriptors"), ""),
        Figure("  more in the last third", _more(middle, last, "descriptors"), "", most=2),
        Figure("threads, middle third, median", _median(middle, "threads"), ""),
        Figure("  more in the last third", _more(middle, last, "threads"), "", most=2),
        Figure("bytes of log per request", log / max(1, requests), "B"),
    ]


def _sections(wire: Wire, server: RedisServer, directory: Path) -> dict[str, dict[str, object]]:
    return {
        "general": {
            "memory": MEMORY,
            "statedir": str(directory / "state"),
            "coalesce": 1,
            "localmaxbytes": "64MiB",
            "dedupe": 60,
        },
        "redis": {
            "listen": True,
            "host": "127.0.0.1",
            "port": server.port,
            "stream": "requests",
            "channel": "capture",
            "results": "results",
        },
        "spool": {"dir": str(directory / "spool")},
        "interface 1": {"name": wire.far},
        "recorder 1": {"interface": wire.near, "memory": "16MiB", "seconds": 10},
    }


def _work(daemon: DaemonProcess, server: RedisServer, wire: Wire) -> tuple[list[Sample], int]:
    samples, requests, rng = [], 0, random.Random(7)
    end = time.monotonic() + 60 * MINUTES
    for turn in itertools.count():
        requests += _turn(daemon, server, wire, turn, rng)
        if turn % 20 == 10:
            server.kill()
            server.start()
        if turn % 15 == 5:
            daemon.signal(1)  # SIGHUP
        samples.append(_sample(daemon))
        if time.monotonic() > end:
            return samples, requests
        time.sleep(SAMPLE_EVERY)
    raise AssertionError("unreachable")


def _turn(
    daemon: DaemonProcess, server: RedisServer, wire: Wire, turn: int, rng: random.Random
) -> int:
    bodies = list(_bodies(wire, turn, rng))
    try:
        with server.client() as client:
            for number, body in enumerate(bodies):
                if number % 2:
                    client.xadd("requests", {"request": body}, maxlen=10_000)
                else:
                    client.publish("capture", body)
            client.xtrim("results", maxlen=1000)
    except redis.ConnectionError:
        pass  # it was just restarted
    daemon.request(interface=[wire.far], id=f"http-{turn}", packets=50, timeout=2)
    wire.send(2000, rng.choice((60, 500, 1400)))
    daemon.api("GET", "/captures")
    daemon.api("DELETE", f"/captures/long-{turn}")
    return len(bodies) + 1


def _bodies(wire: Wire, turn: int, rng: random.Random) -> Iterator[bytes]:
    base = {"node": "any", "timeout": 2, "packets": rng.randint(1, 500)}
    forms: tuple[dict[str, str], ...] = (
        {},
        {"format": "pcapng"},
        {"compress": "zstd"},
        {"compress": "gzip"},
    )
    for number, form in enumerate(forms):
        wanted = {"interface": [wire.far], "id": f"live-{turn}-{number}", **form}
        yield json.dumps({**base, **wanted}).encode()
        past = {"interface": [wire.near], "id": f"past-{turn}-{number}", "lookback": 5, **form}
        yield json.dumps({**base, **past}).encode()
    yield json.dumps({**base, "interface": [wire.far], "id": f"joined-{turn}"}).encode()
    yield json.dumps({"node": "any", "interface": [wire.far], "id": f"long-{turn}"}).encode()
    yield json.dumps({**base, "interface": ["nope"], "id": f"bad-{turn}"}).encode()
    yield from (b"junk", b"{", b"[" * 1000, os.urandom(200), b'{"node": 7}')
    yield from itertools.repeat(json.dumps({"node": "another"}).encode(), 200)


def _sample(daemon: DaemonProcess) -> Sample:
    assert daemon.process
    process = Path(f"/proc/{daemon.process.pid}")
    return Sample(
        daemon.resident(),
        len(list((process / "fd").iterdir())),
        len(list((process / "task").iterdir())),
    )


def _median(samples: list[Sample], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in samples))


def _more(before: list[Sample], after: list[Sample], name: str) -> float:
    return max(0.0, _median(after, name) - _median(before, name))
