"""A real Apache Kafka (KRaft, one process per node).

scripts/setup --tests puts its jars beside tests/kafka/pom.xml.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic, OffsetSpec

from tests.helpers import eventually
from tests.servers import Server, free_port

JARS = Path(__file__).parent / "kafka" / "target" / "dependency"
JAVA = [
    "java",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-Xmx384m",
    "-cp",
    f"{JARS}/*",
]
CLUSTER = "AAAAAAAAAAAAAAAAAAAAAQ"


class KafkaServer(Server):
    """One node, both broker and controller; `more` are lines of its server.properties."""

    def __init__(
        self,
        directory: Path,
        host: str = "127.0.0.1",
        more: Sequence[str] = (),
        format_options: Sequence[str] = (),
    ):
        self.directory, self.host, self.port, self.controller_port = (
            directory,
            host,
            free_port(),
            free_port(),
        )
        self.proxied_port, self.behind_proxy = free_port(), free_port()
        self.node_id, self.voters = 1, f"1@127.0.0.1:{self.controller_port}"
        self.more, self._format_options = list(more), list(format_options)
        self._listeners: list[tuple[str, str, int]] = []
        self.guarded_address, self.ca_file = "", Path()
        self._formatted = False
        self._admin: AdminClient | None = None

    @property
    def address(self) -> str:
        """The bootstrap address for clients."""
        return f"{self.host}:{self.port}"

    def listen_too(self, name: str, protocol: str, port: int) -> None:
        """Add a listener."""
        self._listeners.append((name, protocol, port))

    def start(self, wait: bool = True) -> "KafkaServer":
        """Start the server, and wait until it answers."""
        assert JARS.exists(), "scripts/setup --tests brings Kafka"
        self.directory.mkdir(parents=True, exist_ok=True)
        properties = self.directory / "server.properties"
        properties.write_text("\n".join(self._properties()))
        if not self._formatted:
            options = ["-t", CLUSTER, "-c", str(properties), *self._format_options]
            command = [*JAVA, "kafka.tools.StorageTool", "format", *options]
            subprocess.run(command, check=True, capture_output=True)
            self._formatted = True
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*JAVA, "kafka.Kafka", str(properties)], stdout=log, stderr=log
            )
        if wait:
            self.wait()
        return self

    def wait(self) -> None:
        """Wait until the server answers."""
        eventually(self._answers, 60)

    @property
    def admin(self) -> AdminClient:
        """A client that may do everything."""
        if self._admin is None:
            self._admin = AdminClient(
                {"bootstrap.servers": self.address, "log_level": 0, "reconnect.backoff.max.ms": 500}
            )
        return self._admin

    def create(self, topic: str, partitions: int = 1, replicas: int = 1) -> None:
        """Create a topic, and wait until its leaders answer."""
        options = {"max.message.bytes": "40000000"}
        self.admin.create_topics([NewTopic(topic, partitions, replicas, config=options)])[
            topic
        ].result(30)
        eventually(lambda: len(self._led(topic)) == partitions, 30)
        eventually(lambda: self._leaders_know(topic), 30)

    def _leaders_know(self, topic: str) -> bool:
        """Return whether each leader knows that it is one, which is later than in the metadata."""
        latest: Any = OffsetSpec.latest  # the library has no types for it
        newest = {TopicPartition(topic, n): latest() for n in self._led(topic)}
        answers = self.admin.list_offsets(newest, request_timeout=10).values()
        try:
            return all(answer.result(10).offset >= 0 for answer in answers)
        except KafkaException:
            return False

    def grow(self, topic: str, partitions: int) -> None:
        """Increase the number of partitions to `partitions`."""
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(30)
        eventually(lambda: len(self._led(topic)) == partitions, 30)

    def delete(self, topic: str) -> None:
        """Delete a topic."""
        self.admin.delete_topics([topic])[topic].result(30)

    def producer(self, **options: Any) -> Producer:
        """Return a producer that sends at once."""
        return Producer(
            {
                "bootstrap.servers": self.address,
                "linger.ms": 0,
                "message.max.bytes": 40_000_000,
                "log_level": 0,
                **options,
            }
        )

    def committed(self, group: str, topic: str) -> int:
        """Return a group's position in partition 0."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": group, "log_level": 0})
        try:
            return int(consumer.committed([TopicPartition(topic, 0)], timeout=10)[0].offset)
        finally:
            consumer.close()

    def _led(self, topic: str) -> list[int]:
        partitions = self.admin.list_topics(topic, timeout=10).topics[topic].partitions
        return [
            number
            for number, partition in partitions.items()
            if partition.leader >= 0 and not partition.error
        ]

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
        try:
            return len(self.admin.list_topics(timeout=1).brokers) > 0
        except KafkaException:
            return False

    def _properties(self) -> list[str]:
        also = "".join(f",{name}://127.0.0.1:{port}" for name, _, port in self._listeners)
        kinds = "".join(f",{name}:{protocol}" for name, protocol, _ in self._listeners)
        return [
            "process.roles=broker,controller",
            f"node.id={self.node_id}",
            f"controller.quorum.voters={self.voters}",
            f"listeners=PLAIN://0.0.0.0:{self.port},PROXIED://127.0.0.1:{self.behind_proxy}"
            f",CONTROLLER://127.0.0.1:{self.controller_port}{also}",
            f"advertised.listeners=PLAIN://{self.address},PROXIED://127.0.0.1:{self.proxied_port}{also}",
            f"listener.security.protocol.map=PLAIN:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT{kinds}",
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=PLAIN",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=1",
            # lets a killed broker return at once
            "broker.session.timeout.ms=2000",
            "broker.heartbeat.interval.ms=500",
            "auto.create.topics.enable=false",
            "message.max.bytes=40000000",
            f"log.dirs={self.directory / 'data'}",
            *self.more,
        ]


def produce(producer: Producer, topic: str, body: bytes, **more: Any) -> None:
    """Send one message, and wait until the broker has it."""
    failures: list[object] = []
    producer.produce(
        topic, body, on_delivery=lambda error, _: failures.append(error) if error else None, **more
    )
    assert producer.flush(30) == 0
    assert not failures, failures
