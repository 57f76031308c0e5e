"""The cost of messages for other nodes on each bus, and the time until it is reconnected.

The peer is a bare loop of the same client library.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import Figure
from tests.helpers import eventually
from tests.kafka_server import KafkaServer, produce
from tests.servers import DaemonProcess, RedisServer

FOREIGN = 200_000
MESSAGE = json.dumps(
    {
        "node": "another-node",
        "interface": ["eth0"],
        "bpf": "port 53",
        "packets": 50,
        "customer": "acme",
    }
).encode()

BARE_KAFKA = """
import json, sys
from confluent_kafka import Consumer, TopicPartition
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "bare"})
consumer.assign([TopicPartition("capture", n, 0) for n in range(3)])
left = int(sys.argv[2])
while left:
    for message in consumer.consume(min(left, 1000), 0.2):
        json.loads(message.value())
        left -= 1
"""
BARE_REDIS = """
import asyncio, json, sys
from redis.asyncio import Redis
async def main():
    pubsub = Redis(port=int(sys.argv[1])).pubsub()
    await pubsub.subscribe("capture")
    await pubsub.get_message(timeout=5)
    print("ready", flush=True)
    left = int(sys.argv[2])
    while left:
        if (message := await pubsub.get_message(timeout=5)) is not None:
            json.loads(message["data"])
            left -= 1
asyncio.run(main())
"""


@dataclass
class Bus:
    """A bus and its server.

    `section` is the daemon's configuration. `send` publishes messages, `kill` and `start` restart
    the server, and `bare` is the command of the bare loop. `least` is the target of the rate.
    """

    name: str
    least: float
    section: dict[str, Any]
    send: Callable[[int], None]
    kill: Callable[[], None]
    start: Callable[[], object]
    bare: list[str] | None = None


def figures(directory: Path) -> list[Figure]:
    """Measure each bus in turn."""
    found = []
    for make in (_kafka, _kafka_with_group, _redis, _redis_stream):
        (where := directory / make.__name__).mkdir()
        with make(where) as bus:
            found += _of(bus, where)
    return found


def _of(bus: Bus, directory: Path) -> list[Figure]:
    daemon = DaemonProcess(directory, bus.section).start()
    try:
        _ready(daemon)
        bus.send(FOREIGN)  # afterwards the client library's buffers have their size
        eventually(lambda: _skipped(daemon) == FOREIGN, 120)
        cpu, resident = daemon.cpu(), daemon.resident()
        bus.send(FOREIGN)
        eventually(lambda: _skipped(daemon) == 2 * FOREIGN, 120)
        rate, grown = FOREIGN / (daemon.cpu() - cpu), daemon.resident() - resident
        found = [
            Figure(f"{bus.name}: skipped per second of CPU", rate, "1/s", least=bus.least),
            Figure(f"{bus.name}: memory growth with {FOREIGN} more", grown / 2**20, "MiB", most=8),
        ]
        if bus.bare:
            bare = FOREIGN / _cpu_of(bus.bare, bus.send)
            found.append(
                Figure(
                    f"{bus.name}: a bare loop with json.loads / the daemon", bare / rate, "ratio"
                )
            )
        bus.kill()
        eventually(lambda: daemon.api("GET", "/readyz").status_code == 503)
        bus.start()
        back = time.monotonic()
        _ready(daemon)
        return [
            *found,
            Figure(f"{bus.name}: reconnected after", time.monotonic() - back, "s", most=2),
        ]
    finally:
        daemon.stop()


def _ready(daemon: DaemonProcess) -> None:
    eventually(lambda: daemon.api("GET", "/readyz").status_code == 200, 30)


def _skipped(daemon: DaemonProcess) -> int:
    return int(daemon.api("GET", "/readyz").json()["skipped"])


def _cpu_of(command: list[str], send: Callable[[int], None]) -> float:
    """Return the seconds of CPU of the bare loop.

    A source that receives only what is sent while it listens prints when it is ready.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        if "ready" in command[2] and process.stdout and process.stdout.readline():
            send(FOREIGN)
        assert process.wait(120) == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@contextmanager
def _kafka(directory: Path, **more: Any) -> Iterator[Bus]:
    kafka = KafkaServer(directory / "kafka").start()
    kafka.create("capture", 3)
    producer = kafka.producer(**{"linger.ms": 20, "queue.buffering.max.messages": 2 * FOREIGN})

    def send(number: int) -> None:
        for _ in range(number - 1):
            producer.produce("capture", MESSAGE)
        produce(producer, "capture", MESSAGE)

    section = {"kafka": {"listen": True, "server": kafka.address, **more}}
    bare = None if more else [sys.executable, "-c", BARE_KAFKA, kafka.address, str(FOREIGN)]
    yield Bus(
        "Kafka with group" if more else "Kafka",
        30_000,
        section,
        send,
        kafka.kill,
        kafka.start,
        bare,
    )
    kafka.kill()


def _kafka_with_group(directory: Path) -> Any:
    return _kafka(directory, group="pcapdaemon-{node}")


@contextmanager
def _redis(directory: Path) -> Iterator[Bus]:
    server = RedisServer(directory).start()
    section = {"redis": {"listen": True, "host": "127.0.0.1", "port": server.port}}
    bare = [sys.executable, "-c", BARE_REDIS, str(server.port), str(FOREIGN)]

    def send(number: int) -> None:
        _in_thousands(server, number, lambda pipeline: pipeline.publish("capture", MESSAGE))

    yield Bus("Redis", 20_000, section, send, server.kill, server.start, bare)
    server.kill()


@contextmanager
def _redis_stream(directory: Path) -> Iterator[Bus]:
    server = RedisServer(directory).start()
    section = {
        "redis": {"listen": True, "host": "127.0.0.1", "port": server.port, "stream": "capture"}
    }

    def send(number: int) -> None:
        _in_thousands(
            server, number, lambda pipeline: pipeline.xadd("capture", {"request": MESSAGE})
        )

    yield Bus("Redis stream", 20_000, section, send, server.kill, server.start)
    server.kill()


def _in_thousands(server: RedisServer, number: int, add: Callable[[Any], object]) -> None:
    client = server.client()
    for _ in range(number // 1000):
        pipeline = client.pipeline(transaction=False)
        for _ in range(1000):
            add(pipeline)
        pipeline.execute()
