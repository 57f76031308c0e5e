"""What trust costs: signatures, the audit log, headers alone, encryption."""

import asyncio
import resource
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

from benchmarks.daemon import foreign
from benchmarks.recorder import captured
from benchmarks.report import Figure
from pcapdaemon.audit.chain import Chain
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.recipient import recipient
from pcapdaemon.core.requester import Requester
from pcapdaemon.native.blocks import BlockPool, Blocks, BlockWriter
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.savefile.compression import compressed
from pcapdaemon.sources.base import Message
from pcapdaemon.trust.gate import Gate
from pcapdaemon.trust.requesters import Requesters
from pcapdaemon.trust.settings import TrustSettings
from tests.aws import KEYS, MotoServer
from tests.helpers import Wire
from tests.servers import DaemonProcess, RedisServer
from tests.signing import Signer

MESSAGES, ROUNDS, SIZE = 2000, 7, 100 << 20
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


def figures(wire: Wire, directory: Path) -> list[Figure]:
    """Measure everything."""
    return [
        _verification(),
        *_foreign(directory),
        *_headers(wire),
        *_encryption(directory),
        _audit(),
    ]


def _verification() -> Figure:
    signer = Signer()
    gate = Gate(lambda _: None)
    known = Requesters([Requester(name="alice", keys=(signer.line,))], ())
    trust = TrustSettings(verify_rate=10**9)
    gate.configure("web1", Policy(signatures="require"), trust, known)
    fields = {"node": "any", "interface": ["eth0"], "bpf": "port 53", "packets": 100}
    message = {"id": "x", **fields}
    made = [signer.message({**message, "id": f"m{n}"}) for n in range(MESSAGES)]
    begun = time.process_time()
    for one in made:
        gate.standing(Message(b"", "redis"), one)
    each = (time.process_time() - begun) / MESSAGES
    return Figure("verifying a signed message", each * 1e6, "us of CPU", most=250)


def _foreign(directory: Path) -> list[Figure]:
    """Measure signed messages for other nodes on a node that requires signatures."""
    signer, server = Signer(), RedisServer(directory).start()
    bus = {"listen": True, "host": "127.0.0.1", "port": server.port}
    requester = {"name": "alice", "keys": [signer.line]}
    local = {"name": "local", "may": ["list-all"]}
    tables: dict[str, Any] = {"redis": bus, "requester 1": requester, "requester 2": local}
    own = directory / "signed"
    own.mkdir()
    daemon = DaemonProcess(own, {**tables, "general": {"signatures": "require"}}).start()
    try:
        message = signer.message({"id": "x", "node": "another-node", "interface": ["eth0"]})
        # more would not fit into what Redis keeps for a client
        found = foreign(daemon, server, message, 30_000)[0]
    finally:
        daemon.stop()
        server.kill()
    words = "signed messages for other nodes per second of CPU"
    return [Figure(words, found.value, "1/s", least=20_000)]


def _headers(wire: Wire) -> list[Figure]:
    budget = MemoryBudget(1 << 30)
    found: dict[str, list[float]] = {"full": [], "headers": []}
    for _ in range(ROUNDS + 1):
        for payload, seconds in found.items():
            seconds.append(asyncio.run(captured(wire, budget, payload=payload)))
    full, headers = (statistics.median(seconds[1:]) for seconds in found.values())
    return [Figure("headers alone / whole packets, CPU", headers / full, "ratio", most=1.1)]


def _encryption(directory: Path) -> list[Figure]:
    """Compare the CPU of encrypting 100 MB with that of sending it to S3."""
    moto = MotoServer(directory).start()
    try:
        moto.bucket("bench")
        client: Any = boto3.client("s3", endpoint_url=moto.url, **KEYS)
        body = bytes(SIZE)
        sending = statistics.median(
            _cpu(lambda: client.put_object(Bucket="bench", Key="x", Body=body))
            for _ in range(ROUNDS)
        )
    finally:
        moto.kill()
    pauses: list[float] = []
    encrypting = statistics.median(_encrypting(pauses) for _ in range(ROUNDS))
    ratio = (sending + encrypting) / sending
    return [
        Figure("encrypting 100 MB", SIZE / 1e6 / encrypting, "MB/s"),
        Figure("delivering to S3 with / without", ratio, "ratio of CPU", most=1.5),
        Figure("  longest pause of another thread", max(pauses) * 1000, "ms", most=10),
    ]


def _encrypting(pauses: list[float]) -> float:
    """Return the CPU seconds that it takes to encrypt a savefile of SIZE bytes."""
    pool, done = BlockPool(2 * SIZE, 1 << 20), threading.Event()
    writer, blocks = BlockWriter(pool, 0), Blocks()
    writer.write(bytes(SIZE))
    blocks.extend(writer.blocks())
    to = [recipient(RECIPIENT)]
    watching = threading.Thread(target=_watch, args=(done, pauses))
    watching.start()
    used = _cpu(lambda: compressed("none", b"", blocks, b"", pool, to, with_digest=False))
    done.set()
    watching.join()
    return used


def _watch(done: threading.Event, pauses: list[float]) -> None:
    longest, before = 0.0, time.monotonic()
    while not done.wait(0.0005):
        now = time.monotonic()
        longest, before = max(longest, now - before - 0.0005), now
    pauses.append(longest)


def _audit() -> Figure:
    chain, facts = Chain(), {"event": "accepted", "id": "x", "asked": {"bpf": "port 53"}}
    begun = time.process_time()
    for _ in range(MESSAGES):
        chain.line(facts)
    return Figure("a line of the audit log", (time.process_time() - begun) / MESSAGES * 1e6, "us")


def _cpu(work: Callable[[], object]) -> float:
    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    before = used()
    work()
    return used() - before
