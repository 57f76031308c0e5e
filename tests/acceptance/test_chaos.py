"""No savefile is lost silently, whatever fails.

The test makes at least 300 captures with three failing destinations, and kills the daemon five
times.

Set CHAOS_SEED to repeat a run. Every failure message contains the seed.
"""

import hashlib
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.conftest import Make
from tests.acceptance.test_cli import command
from tests.chaos import ChaosProxy
from tests.contracts.sources import Shared
from tests.helpers import Wire, eventually
from tests.servers import DaemonProcess, free_port

SEED = int(os.environ.get("CHAOS_SEED", "4"))
ASKED, CAPTURES, KILLS = 375, 300, 5
"""Each kill ends some running captures, and nothing guarantees those."""


class Day:
    """A daemon with three destinations, which all fail now and then while `trouble` is on."""

    def __init__(self, make: Make, shared: Shared, directory: Path) -> None:
        self.random, self.shared = random.Random(SEED), shared
        self.bucket = shared.moto.bucket(f"chaos-{SEED}")
        self.disk, self.spool = directory / "disk", directory / "spool"
        for mount in (self.disk, self.spool):
            mount.mkdir()
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "mode=700,size=200m", "tmpfs", mount], check=True
            )
        self.s3 = ChaosProxy(free_port(), shared.moto.port, SEED)
        self.cloudshark = ChaosProxy(free_port(), shared.cloudshark.port, SEED + 1)
        s3 = {**shared.moto.section(self.bucket), "endpoint": f"http://127.0.0.1:{self.s3.port}"}
        cloudshark = shared.cloudshark.section(port=self.cloudshark.port)
        general = {
            "localdir": str(self.disk),
            "statedir": str(directory / "state"),
            "filename": f"{{node}}-{{interface}}-{{id}}-{SEED}.pcap",
        }
        self.daemon: DaemonProcess = make(
            {
                "s3": s3,
                "cloudshark": cloudshark,
                "general": general,
                "spool": {"dir": str(self.spool)},
                "delivery": {"memory_grace": 1, "deadline": 600},
            }
        ).start()

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """Break a third of all connections, stall servers, and make disks read-only or full."""
        over = threading.Event()
        thread = threading.Thread(target=self._trouble, args=(over,))
        self.s3.share = self.cloudshark.share = 0.35
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.s3.share = self.cloudshark.share = 0.0

    def _trouble(self, over: threading.Event) -> None:
        dice = random.Random(SEED + 2)
        filler = self.spool / "quarantine"
        while not over.wait(dice.uniform(0.1, 0.5)):
            match dice.choice(
                ["read-only", "read-only", "full", "stalled s3", "stalled cloudshark", "stalled s3"]
            ):
                case "read-only":
                    subprocess.run(["mount", "-o", "remount,ro", self.disk], check=False)
                    over.wait(dice.uniform(0.2, 1.5))
                    subprocess.run(["mount", "-o", "remount,rw", self.disk], check=True)
                case "full":
                    filler.mkdir(exist_ok=True)
                    with suppress(OSError), (filler / "ballast").open("wb") as file:
                        file.write(b"\0" * (200 << 20))
                    over.wait(dice.uniform(0.05, 0.3))
                    (filler / "ballast").unlink(missing_ok=True)
                case stalled:
                    server = self.shared.moto if stalled.endswith("s3") else self.shared.cloudshark
                    server.freeze()
                    over.wait(dice.uniform(0.1, 1.0))
                    server.thaw()

    def request(self, number: int, interface: str, packets: int) -> None:
        """Send the request until it is accepted, because the daemon may be down."""
        while True:
            try:
                answer = self.daemon.request(
                    interface=[interface], id=f"c{number}", packets=packets, snap=300, timeout=20
                )
            except httpx2.HTTPError:
                time.sleep(0.1)
                continue
            if answer.status_code in (200, 202):
                return
            assert answer.status_code in (429, 503), answer.text
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the daemon, and start it again."""
        self.daemon.kill()
        self.daemon.start()

    def ended(self) -> dict[str, str]:
        """Return name and digest of each savefile whose capture has logged its end."""
        return {
            line["file_name"]: line["sha256"]
            for line in self.daemon.logged("capture stopped")
            if line["packets"]
        }

    def found(self) -> dict[str, dict[str, list[str]]]:
        """Return the digests of all stored savefiles, by destination and name."""
        objects = [
            one["Key"]
            for page in self.shared.moto.s3.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket
            )
            for one in page.get("Contents", [])
        ]
        uploads = [
            one
            for one in self.shared.cloudshark.uploads
            if one["filename"].endswith(f"-{SEED}.pcap")
        ]
        files = [path for path in self.disk.iterdir() if path.suffix == ".pcap"]
        return {
            "s3": {
                key: [_sha(self.shared.moto.object(f"s3://{self.bucket}/{key}"))] for key in objects
            },
            "cloudshark": {
                name: [u["sha256"] for u in uploads if u["filename"] == name]
                for name in {u["filename"] for u in uploads}
            },
            "local": {path.name: [_sha(path.read_bytes())] for path in files},
        }

    def close(self) -> None:
        """Stop everything except the daemon."""
        self.s3.close()
        self.cloudshark.close()
        for mount in (self.disk, self.spool):
            subprocess.run(["umount", "-l", mount], check=True)


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def day(make: Make, shared: Shared, tmp_path: Path) -> Iterator[Day]:
    made = Day(make, shared, tmp_path)
    yield made
    made.daemon.kill()
    made.close()


@pytest.mark.timeout(300)
def test_300_captures_while_everything_fails_and_the_daemon_is_killed_five_times(
    day: Day, wire: Wire
) -> None:
    sending = wire.sending(10**9, size=250, rate=4000)
    sizes = [day.random.randrange(5, 400) for _ in range(ASKED)]
    with day.trouble(), ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(day.request, number, wire.far, size) for number, size in enumerate(sizes)
        ]
        for part in range(1, KILLS + 1):
            eventually(partial(_done, asked, part * ASKED // (KILLS + 1)), 120)
            time.sleep(day.random.uniform(0, 0.5))
            day.kill()
        for one in asked:
            one.result()
        eventually(
            lambda: "pcapdaemon_captures_running 0.0" in day.daemon.api("GET", "/metrics").text, 60
        )
    sending.kill()
    sending.wait()
    before = _held(day.daemon)
    _deliver_all(day, 90)
    _compare(day)
    eventually(lambda: _held(day.daemon) <= (before[0] + 5, before[1] + 5), 70)
    assert day.daemon.stop() == 0


def _deliver_all(day: Day, seconds: float) -> None:
    """Retry all that waits until nothing waits."""
    deadline = time.monotonic() + seconds
    while left := _left(day):
        assert time.monotonic() < deadline, f"seed {SEED}: {left}"
        command("spool", "retry", "--config", str(day.daemon.config))
        time.sleep(0.5)


def _left(day: Day) -> list[str]:
    """Return what is in the spool, and what is in progress."""
    records: list[dict[str, Any]] = day.daemon.api("GET", "/captures?limit=1000").json()
    return [
        path.name for path in day.spool.iterdir() if path.name not in (".lock", "quarantine")
    ] + [str(record) for record in records if record["state"] == "running"]


def _held(daemon: DaemonProcess) -> tuple[int, int]:
    """Return the numbers of descriptors and threads."""
    assert daemon.process
    here = f"/proc/{daemon.process.pid}"
    return len(os.listdir(f"{here}/fd")), len(os.listdir(f"{here}/task"))


def _compare(day: Day) -> None:
    """Check that each destination has every savefile exactly once, byte for byte.

    Otherwise the log must say that it was lost, or not in the spool.
    """
    ended, found = day.ended(), day.found()
    assert len(ended) >= CAPTURES, f"seed {SEED}: {len(ended)}"
    lost = {(line["destination"], line["file_name"]) for line in day.daemon.logged("savefile lost")}
    unspooled = {line["file_name"] for line in day.daemon.logged("savefile not in the spool")}
    wrong: list[Any] = []
    for destination, there in found.items():
        for name, digest in ended.items():
            if (
                there.get(name) != [digest]
                and (destination, name) not in lost
                and not (name in unspooled and name not in there)
            ):
                wrong.append((destination, name, there.get(name), digest))
    assert not wrong, f"seed {SEED}: {len(wrong)} of {len(ended)}: {wrong[:5]}"
    named = {name for _, name in lost} | {
        name for name in unspooled if any(name not in there for there in found.values())
    }
    troubles = Counter(day.s3.troubles) + Counter(day.cloudshark.troubles)
    words = f"{len(named)} named as lost or unspooled, troubles {dict(troubles)}"
    print(f"seed {SEED}: {len(ended)} savefiles, {words}")  # noqa: T201
    assert len(named) < CAPTURES / 6


def _done(asked: "list[Future[Any]]", goal: int) -> bool:
    return sum(one.done() for one in asked) >= goal
