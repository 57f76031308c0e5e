"""Thousands of messages for other nodes and a few for this one, on every bus.

They arrive while as many captures run as the configuration allows.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Make
from tests.contracts.sources import Shared
from tests.helpers import Wire, eventually
from tests.kafka_server import produce
from tests.servers import DaemonProcess, RedisServer

FOREIGN = 5000
Send = Callable[[list[bytes]], None]


class Storm:
    """A bus: its section of the configuration, and how many messages are sent together."""

    def __init__(
        self, section: dict[str, dict[str, Any]], send: Send, foreign: int = FOREIGN
    ) -> None:
        self.section, self.send, self.foreign = section, send, foreign


@pytest.fixture(params=["redis", "redis-stream", "kafka", "kafka-group", "sqs"])
def storm(request: pytest.FixtureRequest, shared: Shared, tmp_path: Path) -> Iterator[Storm]:
    if request.param.startswith("redis"):
        server = RedisServer(tmp_path).start()
        stream = {"stream": "requests"} if request.param == "redis-stream" else {}

        def to_redis(bodies: list[bytes]) -> None:
            with server.client() as client, client.pipeline(transaction=False) as pipe:
                for body in bodies:
                    pipe.xadd("requests", {"request": body}) if stream else pipe.publish(
                        "capture", body
                    )
                pipe.execute()

        yield Storm(
            {"redis": {"listen": True, "host": "127.0.0.1", "port": server.port, **stream}},
            to_redis,
        )
        server.kill()
    elif request.param.startswith("kafka"):
        kafka, topic = shared.kafka, f"storm-{request.param}"
        kafka.create(topic, 3)
        group = {"group": "pcapdaemon-{node}"} if request.param == "kafka-group" else {}
        producer = kafka.producer(**{"linger.ms": 5, "queue.buffering.max.messages": 100_000})

        def to_kafka(bodies: list[bytes]) -> None:
            for body in bodies[:-1]:
                producer.produce(topic, body)
            produce(producer, topic, bodies[-1])

        yield Storm(
            {"kafka": {"listen": True, "server": kafka.address, "topic": topic, **group}}, to_kafka
        )
    else:
        url = shared.moto.queue("storm")
        account = {
            "endpoint": shared.moto.url,
            "region": "us-east-1",
            "accessid": "test",
            "accesskey": "test",
        }

        def to_sqs(bodies: list[bytes]) -> None:
            client = shared.moto.sqs
            for start in range(0, len(bodies), 10):
                entries: Any = [
                    {"Id": str(n), "MessageBody": b.decode()}
                    for n, b in enumerate(bodies[start : start + 10])
                ]
                client.send_message_batch(QueueUrl=url, Entries=entries)

        yield Storm(
            # moto scans the whole queue for each message
            {"sqs": {"listen": True, "url": url, "waitseconds": 1, **account}},
            to_sqs,
            foreign=1000,
        )


def skipped(daemon: DaemonProcess) -> int:
    return int(daemon.api("GET", "/readyz").json()["skipped"])


@pytest.mark.timeout(120)
def test_messages_for_others_while_32_captures_run(storm: Storm, make: Make, wire: Wire) -> None:
    daemon = make(
        {
            **storm.section,
            "general": {"maxcaptures": 33, "memory": 256 << 20},
            "capture": {"buffer": 1 << 20},
        }
    ).start()
    eventually(lambda: daemon.api("GET", "/readyz").status_code == 200, 20)
    for number in range(32):
        assert (
            daemon.request(
                interface=[wire.far], id=f"long{number}", bpf=f"udp port {number + 1}"
            ).status_code
            == 202
        )
    foreign = json.dumps(
        {"node": "another", "interface": ["eth0"], "customer": "acme", "bpf": "port 53"}
    ).encode()
    mine = {"node": "any", "interface": [wire.far], "bpf": "udp", "packets": 50, "timeout": 5}
    before = daemon.resident()
    for part in range(5):
        storm.send(
            [foreign] * (storm.foreign // 5)
            + [json.dumps({**mine, "id": f"mine{part}", "node": "another"}).encode()]
        )
    storm.send([json.dumps({**mine, "id": "mine"}).encode()])
    eventually(lambda: daemon.logged("capture started", id="mine"), 60)
    wire.send(50)
    eventually(lambda: daemon.logged("request finished", id="mine"))
    eventually(lambda: skipped(daemon) == storm.foreign + 5, 60)
    assert daemon.resident() - before < 40 << 20
    daemon.reported("request accepted", 33)
    assert daemon.api("GET", "/readyz").status_code == 200
    assert daemon.stop() == 0
    daemon.reported("request finished", 33)


LONG = b"x" * (30 << 20)


@pytest.fixture(params=["redis", "redis-stream", "kafka", "kafka-group"])
def wide(request: pytest.FixtureRequest, shared: Shared, tmp_path: Path) -> Iterator[Storm]:
    """Buses that carry messages of 30 MiB. SQS carries 1 MiB."""
    if request.param.startswith("redis"):
        server = RedisServer(tmp_path).start()
        stream = {"stream": "requests"} if request.param == "redis-stream" else {}

        def to_redis(bodies: list[bytes]) -> None:
            with server.client() as client:
                for body in bodies:
                    client.xadd("requests", {"r": body}) if stream else client.publish(
                        "capture", body
                    )

        yield Storm({"redis": {"listen": True, "port": server.port, **stream}}, to_redis)
        server.kill()
        return
    kafka, topic = shared.kafka, f"wide-{request.param}"
    kafka.create(topic)
    group = {"group": "pcapdaemon-{node}"} if request.param == "kafka-group" else {}
    producer = kafka.producer()

    def to_kafka(bodies: list[bytes]) -> None:
        for body in bodies:
            produce(producer, topic, body)

    section = {"listen": True, "server": kafka.address, "topic": topic, **group}
    yield Storm({"kafka": section}, to_kafka)


@pytest.mark.timeout(120)
def test_messages_of_30_mib_neither_deafen_a_node_nor_fill_its_memory(
    make: Make, wide: Storm, wire: Wire
) -> None:
    daemon = make(wide.section).start()
    eventually(lambda: daemon.api("GET", "/readyz").status_code == 200)
    request = {"node": "any", "interface": [wire.far], "id": "after"}
    wide.send([LONG] * 6)

    def heard() -> bool:  # Redis may end a subscription that is slow, and pub/sub forgets
        wide.send([json.dumps(request).encode()])
        time.sleep(0.2)
        return bool(daemon.logged("capture started", id="after"))

    eventually(heard, 60)
    assert peak_of(daemon) < 400 << 20, "three copies of one message beside the program"
    assert daemon.stop() == 0


def test_a_body_of_30_mib_is_refused_without_being_kept(make: Make) -> None:
    daemon = make({}).start()
    before = peak_of(daemon)
    headers = {"Content-Type": "application/json"}
    for _ in range(6):
        answer = daemon.api("POST", "/captures", content=LONG, headers=headers)
        assert answer.status_code == 413
    assert peak_of(daemon) - before < 16 << 20


def peak_of(daemon: DaemonProcess) -> int:
    """Return the most resident memory that it had, in bytes."""
    assert daemon.process
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def junk_and_request(number: int, wire: Wire, name: str) -> list[bytes]:
    """Return refused messages, and in the middle one that is good."""
    refused = [b'{"node": "any", "packets": -%d}' % n for n in range(1, number)]
    good = {"node": "any", "interface": [wire.far], "id": name, "packets": 5}
    return [*refused[: number // 2], json.dumps(good).encode(), *refused[number // 2 :]]


@pytest.mark.timeout(180)
def test_a_hundred_thousand_refusals(make: Make, tmp_path: Path, wire: Wire) -> None:
    server = RedisServer(tmp_path).start()
    section = {"listen": True, "host": "127.0.0.1", "port": server.port, "results": "results"}
    daemon = make({"redis": section}).start()
    eventually(lambda: daemon.logged("source connected", source="redis"))
    before = daemon.resident()
    with server.client() as client:
        for part in range(10):
            bodies = junk_and_request(10_000, wire, f"good{part}")
            with client.pipeline(transaction=False) as pipe:
                for body in bodies:
                    pipe.publish("capture", body)
                pipe.execute()
            eventually(partial(daemon.logged, "capture started", id=f"good{part}"), 60)
            wire.send(5)
            eventually(partial(daemon.logged, "request finished", id=f"good{part}"), 60)
    assert daemon.resident() - before < 48 << 20
    refused = len(daemon.logged("request rejected"))
    assert 60 <= refused < 500, "at most 60 lines a minute for each source"
    assert len(daemon.api("GET", "/captures?limit=1000").json()) <= 210
    assert daemon.log_path.stat().st_size < 5 << 20
    assert daemon.stop() == 0
    server.kill()


@pytest.mark.timeout(180)
def test_ten_thousand_requests_that_could_be_one(make: Make, tmp_path: Path, wire: Wire) -> None:
    """Each has an id of its own. Some join, and what is more than this node can do is refused."""
    server = RedisServer(tmp_path).start()
    section = {"listen": True, "host": "127.0.0.1", "port": server.port, "results": "results"}
    general = {"coalesce": 600, "statedir": str(tmp_path / "state"), "maxcaptures": 4}
    daemon = make({"redis": section, "general": general}).start()
    eventually(lambda: daemon.logged("source connected", source="redis"))
    before = daemon.resident()
    body = {"node": "any", "interface": [wire.far], "packets": 5, "timeout": 100}
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(10_000):
            pipe.publish("capture", json.dumps({**body, "id": f"r{number}"}))
            if number == 3:  # the others can join these only when they run
                pipe.execute()
                eventually(lambda: len(daemon.logged("capture started")) == 4)
        pipe.execute()
    eventually(lambda: metric(daemon, 'requests_total{outcome="busy",source="redis"}') > 9000, 120)
    assert metric(daemon, 'requests_total{outcome="joined",source="redis"}') == 4 * 32
    wire.send(5)
    eventually(lambda: len(daemon.logged("request finished")) == 4 * 33, 60)
    assert daemon.resident() - before < 48 << 20
    answer = daemon.request(interface=[wire.far], id="after", packets=5)
    assert answer.status_code == 202
    assert daemon.stop() == 0
    server.kill()


def metric(daemon: DaemonProcess, name: str) -> float:
    text = daemon.api("GET", "/metrics").text
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith(f"pcapdaemon_{name}")
    )


@pytest.mark.timeout(120)
def test_ten_thousand_connections(make: Make, wire: Wire) -> None:
    daemon = make({}).start()
    before = daemon.resident()
    held: list[socket.socket] = []
    for number in range(10_000):
        held.append(socket.create_connection(("127.0.0.1", daemon.port)))
        if number % 1000 == 999:
            answer = daemon.request(interface=[wire.far], id=f"c{number}", packets=5)
            assert answer.status_code == 202
            wire.send(5)
            eventually(partial(daemon.logged, "request finished", id=f"c{number}"))
            for one in held[:-1000]:
                one.close()
            del held[:-1000]
    assert daemon.resident() - before < 64 << 20
    assert daemon.process
    assert len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir())) < 1100
    for one in held:
        one.close()
    assert daemon.stop() == 0
