"""Twenty daemons, each in its own network namespace, on one bus at a time; fewer on queues.

The server of the bus is restarted twice during the test. Every node must process exactly the
requests for it, once.
"""

import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.aws import MotoServer
from tests.helpers import eventually
from tests.kafka_server import KafkaServer, produce
from tests.proxy import Proxy
from tests.servers import PCAPDAEMON, RedisServer, free_port

NODES = 20
REQUESTS = 200
HERE = "10.99.0.1"
"""The address of the servers, as every node sees it."""


class Node:
    """One daemon in its namespace, with its name and labels from its configuration."""

    def __init__(self, number: int, directory: Path, sections: dict[str, Any]) -> None:
        self.number, self.name = number, f"node-{number:02}"
        self.labels = {
            "site": "fra1" if number % 2 else "lon2",
            "role": "edge" if number % 5 == 0 else "core",
        }
        self.directory = directory / self.name
        self.directory.mkdir()
        self.namespace = f"fleet{number}"
        self._log = self.directory / "log"
        general = {
            "node": self.name,
            "labels": self.labels,
            "writelocal": True,
            "localdir": str(self.directory),
        }
        more = {
            "maxcaptures": 500,
            "defaulttimeout": 1,
            "maxage": 3600,
            "statedir": str(self.directory / "state"),
        }
        self._tables = {"general": {**general, **more}, "capture": {"buffer": 131072}, **sections}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.directory / "pcapdaemon.toml"
        config.write_text("\n".join(_toml(self._tables)))
        for command in (
            f"ip netns add {self.namespace}",
            f"ip link add up{self.number} type veth peer name eth0 netns {self.namespace}",
            f"ip addr add 10.98.{self.number}.1/24 dev up{self.number}",
            f"ip link set up{self.number} up",
            f"ip -n {self.namespace} addr add 10.98.{self.number}.2/24 dev eth0",
            f"ip -n {self.namespace} link set eth0 up",
            f"ip -n {self.namespace} link set lo up",
            f"ip -n {self.namespace} route add default via 10.98.{self.number}.1",
        ):
            subprocess.run(command.split(), check=True)
        with self._log.open("ab") as log:
            command_line = [
                "ip",
                "netns",
                "exec",
                self.namespace,
                str(PCAPDAEMON),
                "run",
                "--config",
                str(config),
            ]
            self._process = subprocess.Popen(command_line, stderr=log)

    def lines(self, event: str) -> list[dict[str, Any]]:
        found = [
            json.loads(line)
            for line in self._log.read_text().rpartition("\n")[0].splitlines()
            if line.startswith("{")
        ]
        return [line for line in found if line["event"] == event]

    def done(self) -> Counter[str]:
        return Counter(line["id"] for line in self.lines("request finished"))

    def connected_more_often(self, times: int) -> bool:
        return len(self.lines("source connected")) > times

    def has_done(self, ids: set[str]) -> bool:
        return ids <= set(self.done())

    def has_accepted(self, ids: set[str]) -> bool:
        return ids <= {line["id"] for line in self.lines("request accepted")}

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            assert self._process.wait(40) == 0
        subprocess.run(["ip", "netns", "del", self.namespace], check=True)


def _toml(tables: dict[str, Any]) -> Iterator[str]:
    for name, table in tables.items():
        yield f"[{name}]"
        for key, value in table.items():
            inline = (
                ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items())
                if isinstance(value, dict)
                else ""
            )
            yield (
                f"{key} = {{{inline}}}"
                if isinstance(value, dict)
                else f"{key} = {json.dumps(value)}"
            )


class Bus:
    """One bus with its server.

    It knows how to configure the nodes, how to send a message, and how to restart the server.
    """

    keeps = True
    shared = False

    def __init__(self, directory: Path) -> None: ...

    def sections(self, node: str) -> dict[str, Any]:
        raise NotImplementedError

    def send(self, body: bytes) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class OnKafka(Bus):
    def __init__(self, directory: Path) -> None:
        self.kafka = KafkaServer(directory / "kafka", host=HERE).start()
        self.kafka.create("capture", 3)
        self._producer = self.kafka.producer()
        self._sent = 0

    def sections(self, node: str) -> dict[str, Any]:
        return {"kafka": {"listen": True, "server": [self.kafka.address], "topic": "capture"}}

    def send(self, body: bytes) -> None:
        self._sent += 1
        produce(self._producer, "capture", body, partition=self._sent % 3)

    def restart(self) -> None:
        self.kafka.kill()
        self.kafka.start()

    def close(self) -> None:
        self.kafka.kill()


class OnRedisStream(Bus):
    def __init__(self, directory: Path) -> None:
        self.redis = RedisServer(
            directory,
            *("--appendonly", "yes", "--appendfsync", "always"),  # else a kill may lose 2 s
            *("--protected-mode", "no", "--bind", "0.0.0.0"),
        ).start()

    def sections(self, node: str) -> dict[str, Any]:
        return {
            "redis": {"listen": True, "host": HERE, "port": self.redis.port, "stream": "capture"}
        }

    def send(self, body: bytes) -> None:
        with self.redis.client() as client:
            client.xadd("capture", {"request": body})

    def restart(self) -> None:
        self.redis.kill()
        self.redis.start()

    def close(self) -> None:
        self.redis.kill()


class OnRedis(OnRedisStream):
    keeps = False

    def sections(self, node: str) -> dict[str, Any]:
        return {"redis": {"listen": True, "host": HERE, "port": self.redis.port}}

    def send(self, body: bytes) -> None:
        with self.redis.client() as client:
            client.publish("capture", body)


class OnSns(Bus):
    """SNS in front of a queue per node.

    moto loses all messages when it is killed, so this cuts the connection instead.
    """

    def __init__(self, directory: Path) -> None:
        self.moto = MotoServer(directory).start()
        self._proxy = Proxy(free_port(), self.moto.port, listen="0.0.0.0")
        self._topic = self.moto.sns.create_topic(Name="capture")["TopicArn"]
        self._make_queues()

    def _make_queues(self) -> None:
        for number in range(NODES):
            self.moto.queue(f"pcapdaemon-node-{number:02}")
            arn = f"arn:aws:sqs:us-east-1:123456789012:pcapdaemon-node-{number:02}"
            attributes = {"RawMessageDelivery": "true" if number % 2 else "false"}
            self.moto.sns.subscribe(
                TopicArn=self._topic, Protocol="sqs", Endpoint=arn, Attributes=attributes
            )

    def sections(self, node: str) -> dict[str, Any]:
        return {"sqs": {**self._account(), "queue": "pcapdaemon-{node}"}}

    def _account(self) -> dict[str, Any]:
        where = {"endpoint": f"http://{HERE}:{self._proxy.port}", "region": "us-east-1"}
        return {"listen": True, **where, "accessid": "test", "accesskey": "test", "waitseconds": 5}

    def send(self, body: bytes) -> None:
        self.moto.sns.publish(TopicArn=self._topic, Message=body.decode())

    def restart(self) -> None:
        self._proxy.close()
        self._proxy.open()

    def close(self) -> None:
        self._proxy.close()
        self.moto.kill()


class OnSharedSqs(OnSns):
    shared = True

    def _make_queues(self) -> None:
        self._url = self.moto.queue("capture")

    def sections(self, node: str) -> dict[str, Any]:
        # what a node held when its connection was cut comes again after this time
        return {"sqs": {**self._account(), "queue": "capture", "shared": True, "visibility": 15}}

    def send(self, body: bytes) -> None:
        self.moto.sqs.send_message(QueueUrl=self._url, MessageBody=body.decode())


def done_by(nodes: list[Node]) -> Counter[str]:
    """Return how often each request was processed, by all nodes together."""
    return sum((node.done() for node in nodes), Counter())


def has(node: Node, labels: dict[str, str]) -> bool:
    return all(fnmatchcase(node.labels[name], glob) for name, glob in labels.items())


def the_requests(
    nodes: list[Node], number: int, shared: bool
) -> dict[str, tuple[dict[str, Any], set[str]]]:
    """Return requests by id: the message, and the names of the nodes that it is for."""
    rng = random.Random(7)
    made: dict[str, tuple[dict[str, Any], set[str]]] = {}
    for n in range(number):
        one = rng.choice(nodes)
        address: dict[str, Any]
        # on a shared queue, a message for one node is passed around for minutes, so send only a few
        kind = n % 4 or (0 if not shared or n % 20 == 0 else 1)
        if kind == 0:
            address, meant = {"node": one.name}, {one.name}
        elif kind == 1:
            address, meant = (
                {"nodere": "^node-0[3-7]$"},
                {f"node-0{digit}" for digit in range(3, 8)},
            )
        elif kind == 2:
            labels = {"site": "fra*"} if shared else {"site": "fra*", "role": "edge"}
            address = {"node": "any", "labels": labels}
            meant = {node.name for node in nodes if has(node, labels)}
        else:
            address, meant = {"node": "any"}, {node.name for node in nodes}
        made[f"r{n}"] = (
            {**address, "interface": ["lo"], "id": f"r{n}", "timeout": 1, "packets": 1},
            meant,
        )
    return made


@pytest.fixture(scope="module", autouse=True)
def address() -> Iterator[None]:
    subprocess.run(["ip", "addr", "add", f"{HERE}/32", "dev", "lo"], check=True)
    yield
    subprocess.run(["ip", "addr", "del", f"{HERE}/32", "dev", "lo"], check=True)


BUSES: dict[str, tuple[type[Bus], int, int]] = {
    "kafka": (OnKafka, NODES, REQUESTS),
    "redis": (OnRedis, NODES, REQUESTS),
    "redis-stream": (OnRedisStream, NODES, REQUESTS),
    "sns": (OnSns, 10, 32),  # its server is slow
    # A message for one node passes all others first, two seconds each.
    "sqs-shared": (OnSharedSqs, 8, int(os.environ.get("SHARED_REQUESTS", "16"))),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(BUSES))
def test_every_node_does_exactly_what_is_for_it_once(name: str, tmp_path: Path) -> None:
    kind, size, number = BUSES[name]
    bus = kind(tmp_path)
    nodes = [Node(n, tmp_path, bus.sections(f"node-{n:02}")) for n in range(size)]
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            eventually(partial(node.lines, "source connected"), 90)
        surely = send_all(bus, nodes, the_requests(nodes, number, bus.shared))
        check(bus, nodes, the_requests(nodes, number, bus.shared), surely, tmp_path)
    finally:
        for node in nodes:
            node.stop()
        bus.close()


def send_all(
    bus: Bus, nodes: list[Node], requests: dict[str, tuple[dict[str, Any], set[str]]]
) -> set[str]:
    """Send all requests during two restarts; return the ids of those that no node may miss."""
    surely = set(requests)
    for n, (request_id, (message, _)) in enumerate(requests.items()):
        if n in (len(requests) // 3, 2 * len(requests) // 3):
            before = [len(node.lines("source connected")) for node in nodes]
            if not bus.keeps:  # Redis answers who publishes before it writes to who subscribes
                for node in nodes:
                    eventually(partial(node.has_accepted, so_far(node, requests, n) & surely), 60)
            bus.restart()
            if not bus.keeps:
                bus.send(
                    json.dumps(message).encode()
                )  # nodes that have not reconnected yet may miss it
                surely.discard(request_id)
                back(nodes, before)
                continue
        bus.send(json.dumps(message).encode())
    return surely


def so_far(
    node: Node, requests: dict[str, tuple[dict[str, Any], set[str]]], number: int
) -> set[str]:
    """Return the ids of the requests for a node that were sent before the one of that number."""
    sent = list(requests.items())[:number]
    return {request_id for request_id, (_, names) in sent if node.name in names}


def back(nodes: list[Node], before: list[int]) -> None:
    for node, times in zip(nodes, before, strict=True):
        eventually(partial(node.connected_more_often, times), 20)


def wait_for(node: Node, meant: set[str]) -> None:
    try:
        eventually(partial(node.has_done, meant), 300)
    except AssertionError:
        missing = meant - set(node.done())
        heard = {line["id"] for line in node.lines("request accepted")}
        gaps = [(one["timestamp"], one["reason"]) for one in node.lines("source not connected")]
        words = f"{node.name} did not do {missing}, accepted {missing & heard}, gaps: {gaps}"
        raise AssertionError(words) from None


def check(
    bus: Bus,
    nodes: list[Node],
    requests: dict[str, tuple[dict[str, Any], set[str]]],
    surely: set[str],
    directory: Path,
) -> None:
    if bus.shared:  # each message goes to only one of the nodes that it is for
        eventually(lambda: len(done_by(nodes)) == len(requests), 600)
    else:
        for node in nodes:
            meant = {i for i, (_, names) in requests.items() if node.name in names} & surely
            wait_for(node, meant)
    time.sleep(2)  # long enough for anything to be processed twice
    for node in nodes:
        meant = {i for i, (_, names) in requests.items() if node.name in names}
        done, accepted = node.done(), Counter(line["id"] for line in node.lines("request accepted"))
        assert set(done) <= meant, f"{node.name} did what was not for it"
        assert set(done.values()) | set(accepted.values()) <= {1}, (
            f"{node.name} did something twice"
        )
        assert accepted == done
        assert not node.lines("request rejected")
    if bus.shared:
        assert set(done_by(nodes).values()) == {1}
