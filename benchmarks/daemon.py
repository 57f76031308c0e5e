"""The daemon as a process.

How fast it is, what it needs at rest, and what messages for other nodes cost it.
"""

import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks.packet_loop import traffic
from benchmarks.report import Figure
from tests.helpers import Wire, eventually, packets
from tests.servers import DaemonProcess, RedisServer

ROOT = Path(__file__).parents[1]
INSTALLED = ROOT / "build" / "installed"
ROUNDS, FOREIGN = 20, 200_000
FOR_ANOTHER = {
    "node": "another-node",
    "interface": ["eth0"],
    "bpf": "port 53",
    "packets": 50,
    "customer": "acme",
}


def install() -> None:
    """Install the program as users do: without what its development needs, which takes memory."""
    words = "sync --quiet --locked --no-dev --no-editable --compile-bytecode --extra redis"
    words += " --reinstall-package pcapdaemon"  # its version is the same after a change
    command = [str(ROOT / ".uv" / "bin" / "uv"), *words.split(), "--python", "/usr/bin/python3"]
    environment = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(INSTALLED)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def figures(wire: Wire, directory: Path) -> list[Figure]:
    """Measure everything on one daemon with Redis and HTTP."""
    server = RedisServer(directory).start()
    bus = {"redis": {"listen": True, "host": "127.0.0.1", "port": server.port}}
    daemon = DaemonProcess(directory, {**bus, "interface 1": {"name": wire.far}})
    try:
        begun = time.monotonic()
        daemon.start(program=str(INSTALLED / "bin" / "pcapdaemon"))
        eventually(lambda: daemon.api("GET", "/readyz").status_code == 200)
        ready = time.monotonic() - begun
        return [
            Figure("from start to ready", ready, "s", most=1.5),
            *_idle(daemon),
            *_latencies(daemon, server, wire),
            *foreign(daemon, server, FOR_ANOTHER),
        ]
    finally:
        daemon.stop()
        server.kill()


def _idle(daemon: DaemonProcess) -> list[Figure]:
    time.sleep(2)
    before, seconds = daemon.cpu(), 10
    time.sleep(seconds)
    return [
        Figure("resident memory at rest", daemon.resident() / 2**20, "MiB", most=80),
        Figure("CPU at rest", 100 * (daemon.cpu() - before) / seconds, "%", most=1),
    ]


def _latencies(daemon: DaemonProcess, server: RedisServer, wire: Wire) -> list[Figure]:
    found = [latency(daemon, server, wire, number) for number in range(ROUNDS)]
    armed, first, last = zip(*found, strict=True)
    return [
        Figure("from PUBLISH to armed, median", statistics.median(armed), "ms"),
        Figure("from PUBLISH to the first packet, median", statistics.median(first), "ms", most=2),
        Figure("from the last packet to the file, median", statistics.median(last), "ms"),
        Figure("from the last packet to the file, maximum", max(last), "ms", most=200),
    ]


def latency(
    daemon: DaemonProcess, server: RedisServer, wire: Wire, number: int
) -> tuple[float, float, float]:
    """Return how fast a capture starts and ends, in milliseconds.

    From PUBLISH to armed, from PUBLISH to the first packet in the file, and from the last packet to
    the finished file.
    """
    sending = traffic(wire)
    time.sleep(0.2)
    message = {"node": "any", "interface": [wire.far], "packets": 500, "id": f"round-{number}"}
    with server.client() as client:
        client.ping()  # it connects only now
        published = time.time()
        client.publish("capture", json.dumps(message))
        time.sleep(0.05)  # who publishes does not run on this host: it must not take its CPU
    while not (found := list(daemon.captures.glob(f"*round-{number}.pcap"))):
        time.sleep(0.001)
    there = time.time()
    sending.kill()
    sending.wait()
    times = [at for at, _, _ in packets(found[0])]
    armed = daemon.record(f"round-{number}")["captures"][0]["started_at"]
    return 1000 * (armed - published), 1000 * (times[0] - published), 1000 * (there - times[-1])


def foreign(
    daemon: DaemonProcess, server: RedisServer, fields: dict[str, Any], number: int = FOREIGN
) -> list[Figure]:
    """Measure messages for other nodes, as fast as Redis delivers them."""
    client = server.client()
    message = json.dumps(fields)
    cpu = daemon.cpu()
    for _ in range(number // 1000):
        pipeline = client.pipeline(transaction=False)
        for _ in range(1000):
            pipeline.publish("capture", message)
        pipeline.execute()
    eventually(lambda: daemon.api("GET", "/readyz").json()["skipped"] == number, 60)
    rate = number / (daemon.cpu() - cpu)
    return [
        Figure("messages for other nodes per second of CPU", rate, "1/s", least=20_000),
        Figure("resident memory afterwards", daemon.resident() / 2**20, "MiB"),
    ]
