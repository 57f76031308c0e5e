"""Shared by several tests: wires, independent readers, plans, and waiting for conditions."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from scapy.utils import RawPcapReader

from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.session import Session
from pcapdaemon.core.choice import Surroundings
from pcapdaemon.core.plan import CapturePlan, Rejection, make_plan
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import validate
from pcapdaemon.native.blocks import BlockPool, Blocks, BlockWriter
from pcapdaemon.native.interfaces import list_interfaces
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.savefile.packing import Captured
from pcapdaemon.savefile.savefile import Savefile

T = TypeVar("T")
SEQUENCE_AT = 42
SMALLEST_BLOCK = 262272


@dataclass(frozen=True)
class Wire:
    """A veth pair: what goes into `near` comes out of `far`."""

    near: str
    far: str
    program: Path

    def send(self, frames: int, size: int = 100, rate: int = 0, ports: int = 1) -> None:
        """Send numbered frames, and return when the last one is sent."""
        subprocess.run(
            self._command(frames, size, rate, ports), check=True, stdout=subprocess.DEVNULL
        )

    def sending(
        self, frames: int, size: int = 100, rate: int = 0, ports: int = 1
    ) -> "subprocess.Popen[bytes]":
        """Begin to send, and return the process."""
        return subprocess.Popen(self._command(frames, size, rate, ports), stdout=subprocess.DEVNULL)

    def _command(self, *numbers: int) -> list[str]:
        return [str(self.program), self.near, *map(str, numbers)]


def savefile_of(*parts: bytes) -> Savefile:
    """Return a savefile in memory, with each part in blocks of its own."""
    pool, blocks = BlockPool(1 << 30, SMALLEST_BLOCK), Blocks()
    for part in parts:
        writer = BlockWriter(pool, 0)
        writer.write(part)
        blocks.extend(writer.blocks())
    return Savefile.of(b"", blocks)


def plan_for(interface: str, **fields: Any) -> CapturePlan:
    """Return the plan of a request for one interface. `fields` are those of a message."""
    request, problems = validate({"node": "any", "interface": [interface], **fields})
    general = Policy(maxpackets=100_000_000, maxbytes=10**11, snaplength=262144)
    around = Surroundings("here", time.time(), list_interfaces(), {})
    plan = make_plan(request.id or "id", request, problems, general, around)
    assert not isinstance(plan, Rejection), plan
    return plan


def session_for(interface: str, budget: MemoryBudget | None = None, **fields: Any) -> Session:
    """Return a session that is ready to run."""
    plan = plan_for(interface, **fields)
    return Session(plan, plan.captures[0], budget or MemoryBudget(256 << 20), CaptureSettings())


async def captured(session: Session, traffic: Callable[[], object] = lambda: None) -> Captured:
    """Run a session, and the traffic once it is armed."""
    running = asyncio.create_task(session.run())
    begun: list[asyncio.Future[Any]] = [session.armed, running]
    await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        await asyncio.to_thread(traffic)
    return await running


def saved(stopped: Captured, path: Path) -> Path:
    """Write what was captured to a file."""
    assert stopped.savefile is not None
    with path.open("wb") as file:
        stopped.savefile.write_to(file.fileno())
    return path


def tshark(path: Path, *fields: str) -> list[list[str]]:
    """Return a row per packet with the given fields, as an independent reader has them.

    Any complaint of the reader fails the test.
    """
    options = [word for field in fields for word in ("-e", field)]
    result = subprocess.run(
        ["tshark", "-n", "-r", path, "-T", "fields", *options],
        check=True,
        capture_output=True,
        text=True,
    )
    complaints = [line for line in result.stderr.splitlines() if "Running as user" not in line]
    assert not complaints, complaints
    return [line.split("\t") for line in result.stdout.splitlines()]


def numbers(path: Path) -> list[int]:
    """Return the sender's numbers of all frames, in the order of the file."""
    return [int(row[0].replace(":", "")[:16], 16) for row in tshark(path, "udp.payload")]


def packets(path: Path) -> list[tuple[float, int, bytes]]:
    """Return time, length on the wire and bytes of each packet, as scapy reads them."""
    with RawPcapReader(str(path)) as reader:
        return [(meta.sec + meta.usec / 1e6, meta.wirelen, data) for data, meta in reader]


def linktype(path: Path) -> int:
    """Return the LINKTYPE_ value in a savefile's header."""
    return int.from_bytes(path.read_bytes()[20:24], "little")


def eventually(fact: Callable[[], T], seconds: float = 30.0) -> T:
    """Wait until `fact` returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while not (value := fact()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
    return value


def bring_up(near: str, far: str) -> None:
    """Bring up a veth pair without traffic of its own, and wait until `near` sends."""
    for name in (far, near):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
        subprocess.run(["ip", "link", "set", "dev", name, "up"], check=True)
    eventually(lambda: can_send(near))


def can_send(device: str) -> bool:
    """Return whether a device sends. The kernel activates it a moment after its other end is up."""
    command = ["ip", "-o", "link", "show", "dev", device]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return "qdisc noqueue" in shown and "state UP" in shown


def certificates(directory: Path) -> None:
    """Create a certificate authority, and a server certificate for 127.0.0.1 by it."""
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=ca -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=redis -keyout server.key -out server.csr",
        (
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile"
            " names -out server.pem"
        ),
    ):
        (directory / "names").write_text("subjectAltName=IP:127.0.0.1")
        subprocess.run(
            ["openssl", *command.split()], cwd=directory, check=True, capture_output=True
        )
