"""What many interfaces, and many requests that a node remembers, cost a request.

Neither should cost anything: a request looks up only the interfaces that it names, and ids in a
table. The request of the first figure is that of daemon.py.
"""

import asyncio
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.daemon import latency
from benchmarks.report import Figure
from pcapdaemon.core.answers import Answer, AnswerKind
from pcapdaemon.dedupe import MOST, Dedupe
from tests.helpers import Wire, eventually
from tests.servers import DaemonProcess, RedisServer

PAIRS = 150
ROUNDS, AT_ONCE = 20, 25


def figures(wire: Wire, directory: Path) -> list[Figure]:
    """Measure a request on a host with 300 interfaces, and one with MOST remembered ids."""
    return [_interfaces(wire, directory), _remembered(wire, directory)]


def _interfaces(wire: Wire, directory: Path) -> Figure:
    server = RedisServer(directory).start()
    bus = {"listen": True, "host": "127.0.0.1", "port": server.port}
    try:
        with _interface_pairs(), _daemon(wire, directory / "interfaces", redis=bus) as daemon:
            eventually(lambda: daemon.logged("source connected", source="redis"))
            first = [latency(daemon, server, wire, number)[1] for number in range(ROUNDS)]
    finally:
        server.kill()
    words = f"from PUBLISH to the first packet, {2 * PAIRS} more interfaces"
    return Figure(words, statistics.median(first), "ms", most=2)


@contextmanager
def _interface_pairs() -> Iterator[None]:
    names = [(f"many{number}", f"more{number}") for number in range(PAIRS)]
    _ip(*(f"link add {one} type veth peer name {other}" for one, other in names))
    try:
        yield
    finally:
        _ip(*(f"link del {one}" for one, _ in names))


def _ip(*commands: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), text=True, check=True)


def _remembered(wire: Wire, directory: Path) -> Figure:
    """Compare the CPU of the same requests on two daemons in turn."""
    few, many = directory / "few", directory / "many"
    asyncio.run(_fill(many / "state"))
    with _daemon(wire, few) as without, _daemon(wire, many) as full:
        pairs = [(_accepted(without, wire), _accepted(full, wire)) for _ in range(ROUNDS)]
    peer, ours = (statistics.median(used) for used in zip(*pairs, strict=True))
    words = f"an accepted request, {MOST} remembered ids / none"
    return Figure(words, ours / peer, "ratio of CPU", most=1.05)


async def _fill(directory: Path) -> None:
    """Write what a node keeps that accepted MOST requests."""
    dedupe = Dedupe(directory)
    for number in range(MOST):
        await dedupe.claim(f"before-{number}", 600)
        answer = Answer(f"before-{number}", AnswerKind.ACCEPTED, interfaces=("eth0",))
        await dedupe.decide(f"before-{number}", answer)


def _accepted(daemon: DaemonProcess, wire: Wire) -> float:
    """Return the CPU seconds of AT_ONCE captures of a packet that does not come."""
    before, over = daemon.cpu(), len(daemon.logged("request finished"))
    for _ in range(AT_ONCE):
        daemon.request(interface=[wire.far], bpf="udp port 9", timeout=1)
    eventually(lambda: len(daemon.logged("request finished")) == over + AT_ONCE)
    return daemon.cpu() - before


@contextmanager
def _daemon(wire: Wire, directory: Path, **sections: Any) -> Iterator[DaemonProcess]:
    directory.mkdir(exist_ok=True)
    general = {"statedir": str(directory / "state")}
    tables = {"general": general, "interface 1": {"name": wire.far}, **sections}
    daemon = DaemonProcess(directory, tables).start()
    eventually(lambda: daemon.api("GET", "/readyz").status_code == 200)
    try:
        yield daemon
    finally:
        daemon.stop()
