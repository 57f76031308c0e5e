"""Deliveries.

Memory and speed of a large savefile to S3 and CloudShark at once, and how soon a small one is
delivered.
"""

import asyncio
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import httpx2

from benchmarks.report import Figure
from pcapdaemon.destinations.cloudshark import CloudShark, CloudSharkSettings
from pcapdaemon.destinations.s3 import S3
from pcapdaemon.destinations.s3_settings import S3Settings
from tests.aws import KEYS, MotoServer
from tests.cloudshark import TOKEN, CloudSharkServer
from tests.contracts.destinations import facts
from tests.helpers import Wire, eventually, savefile_of
from tests.servers import DaemonProcess

SIZE, BLOCK, ROUNDS = 100 << 20, 1 << 20, 11
SMALL, SMALL_ROUNDS = 700, 25
"""Frames of 1500 bytes, which are 1 MB."""

NO_TAGS: Any = {"ContentType": "application/vnd.tcpdump.pcap", "Metadata": {"tags": "x"}}


def figures(wire: Wire, directory: Path) -> list[Figure]:
    """Measure everything against the servers of the tests."""
    moto, cloudshark = MotoServer(directory).start(), CloudSharkServer(directory).start()
    try:
        moto.bucket("bench")
        return [*_large(moto, cloudshark), *_small(moto, wire, directory)]
    finally:
        moto.kill()
        cloudshark.kill()


def _large(moto: MotoServer, cloudshark: CloudSharkServer) -> list[Figure]:
    blocks = [bytes([number % 251]) * BLOCK for number in range(SIZE // BLOCK)]
    savefile = savefile_of(*blocks)
    file = Path("/dev/shm/pcapdaemon-bench")
    with file.open("wb") as target:
        savefile.write_to(target.fileno())
    # Like the peer: the server does less work with announced checksums than without.
    s3 = S3(S3Settings.model_validate(moto.section("bench", checksums="when_supported")))
    shark = CloudShark(CloudSharkSettings.model_validate(cloudshark.section()))
    client: Any = boto3.client("s3", endpoint_url=moto.url, **KEYS)

    def to_s3() -> None:
        asyncio.run(s3.deliver(savefile.reader(), facts("large.pcap")))

    def to_cloudshark() -> None:
        asyncio.run(shark.deliver(savefile.reader(), facts("large.pcap")))

    def peer_to_s3() -> None:
        with file.open("rb") as source:
            client.upload_fileobj(source, "bench", "peer.pcap", ExtraArgs=NO_TAGS)

    def peer_to_cloudshark() -> None:
        url = f"{cloudshark.url}/api/v1/{TOKEN}/upload"
        with file.open("rb") as source, httpx2.Client(timeout=60) as http:
            http.post(url, files={"file": ("peer.pcap", source)}).raise_for_status()

    try:
        for warm_up in (to_s3, peer_to_s3):
            warm_up()
        memory = [_peak(to_s3), _peak(to_cloudshark)]
        alone = _paired(to_s3, peer_to_s3)
        together = _paired(
            lambda: _both(to_s3, to_cloudshark), lambda: _both(peer_to_s3, peer_to_cloudshark)
        )
    finally:
        file.unlink()
    megabytes = SIZE / 1e6
    return [
        Figure("100 MB to S3: peak memory beside its blocks", memory[0], "MiB", most=32),
        Figure("100 MB to CloudShark: the same", memory[1], "MiB", most=32),
        Figure("100 MB to S3", megabytes / alone[0], "MB/s"),
        Figure("boto3's upload_fileobj of the same from tmpfs", megabytes / alone[1], "MB/s"),
        Figure("ratio", alone[1] / alone[0], "", least=0.9),
        Figure("100 MB to S3 and CloudShark at once", megabytes / together[0], "MB/s each"),
        Figure(
            "upload_fileobj and a POST of the same from tmpfs at once",
            megabytes / together[1],
            "MB/s each",
        ),
        Figure("ratio", together[1] / together[0], "", least=0.9),
    ]


def _small(moto: MotoServer, wire: Wire, directory: Path) -> list[Figure]:
    """Measure from the last packet of 1 MB to `delivered`, and the same PUT alone."""
    client: Any = boto3.client("s3", endpoint_url=moto.url, **KEYS)
    body = b"x" * 1_050_000
    own = [
        _seconds(lambda: client.put_object(Bucket="bench", Key="own.pcap", Body=body))
        for _ in range(SMALL_ROUNDS)
    ]
    spool = {"dir": str(directory / "spool")}
    daemon = DaemonProcess(
        directory, {"s3": moto.section("bench"), "general": {"writelocal": False}, "spool": spool}
    ).start()
    try:
        late = [_after_last_packet(daemon, wire, number) for number in range(SMALL_ROUNDS)]
    finally:
        daemon.stop()
    own_median, median = statistics.median(own) * 1000, statistics.median(late) * 1000
    return [
        Figure("1 MB to S3, the server's own time, median", own_median, "ms"),
        Figure("1 MB from the last packet until it is in S3, median", median, "ms"),
        Figure("difference", median - own_median, "ms", most=100),
    ]


def _after_last_packet(daemon: DaemonProcess, wire: Wire, number: int) -> float:
    name = f"small{number}"
    daemon.request(interface=[wire.far], id=name, packets=SMALL, snap=1500)
    eventually(lambda: daemon.logged("capture started", id=name))
    wire.send(SMALL, size=1500, rate=20_000)
    delivered = eventually(lambda: daemon.logged("savefile delivered", id=name))
    return float(delivered[0]["after_last_packet"])


def _both(one: Callable[[], None], other: Callable[[], None]) -> None:
    thread = threading.Thread(target=other)
    thread.start()
    one()
    thread.join()


def _paired(ours: Callable[[], None], theirs: Callable[[], None]) -> tuple[float, float]:
    """Return the medians of both in seconds, run in turns."""
    pairs = [(_seconds(ours), _seconds(theirs)) for _ in range(ROUNDS)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(
        pair[1] for pair in pairs
    )


def _seconds(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _peak(work: Callable[[], None]) -> float:
    """Return how much more memory, in MiB, is resident at the peak."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    work()
    return (_resident("VmHWM") - before) / 1024


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))
