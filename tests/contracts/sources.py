"""How the contract tests drive each source.

Each source has one harness, with a real server behind it.
"""

import asyncio
import itertools
from functools import cached_property
from pathlib import Path
from typing import Any

from pcapdaemon.sources.base import Message, Source
from pcapdaemon.sources.http import HttpSettings, HttpSource
from pcapdaemon.sources.kafka import KafkaSettings, KafkaSource
from pcapdaemon.sources.memory import MemorySource
from pcapdaemon.sources.redis import RedisSettings, RedisSource
from pcapdaemon.sources.redis_stream import RedisStreamSource
from pcapdaemon.sources.sqs import SqsSource
from pcapdaemon.sources.sqs_settings import SqsSettings
from tests.aws import KEYS, MotoServer
from tests.cloudshark import CloudSharkServer
from tests.examples.folder_bus import FolderBus, FolderSettings
from tests.kafka_server import KafkaServer, produce
from tests.proxy import Proxy
from tests.servers import RedisServer, free_port

_names = itertools.count()


class Shared:
    """Servers that take long to start.

    All tests share one of each, and use topics and queues of their own.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @cached_property
    def kafka(self) -> KafkaServer:
        """A Kafka."""
        return KafkaServer(self._directory / "kafka").start()

    @cached_property
    def moto(self) -> MotoServer:
        """S3, SQS and SNS."""
        return MotoServer(self._directory).start()

    @cached_property
    def cloudshark(self) -> CloudSharkServer:
        """A CloudShark."""
        return CloudSharkServer(self._directory).start()

    def close(self) -> None:
        """Stop the servers that were started."""
        for name in ("kafka", "moto", "cloudshark"):
            if name in vars(self):
                vars(self)[name].kill()


class Harness:
    """One source and its server; `server` is False if it has none that could stop."""

    server = True
    keeps = True
    """Whether messages that are sent while the node is away arrive once it is back."""
    returns = False
    """Whether a BUSY message is redelivered."""
    others_may_have_it = False
    """Whether a message for another node is redelivered."""
    source: Source

    def __init__(self, directory: Path, shared: Shared) -> None: ...

    async def send(self, body: bytes) -> None:
        """Send a message as a requester would."""

    def fit(self, body: bytes) -> bytes:
        """Return the nearest body that this bus can carry."""
        return body

    async def left(self) -> int:
        """Return how many messages the bus would redeliver to this node after a crash."""
        return 0

    def stop(self) -> None:
        """Kill the server."""

    def start(self) -> None:
        """Start the server, perhaps again."""

    def freeze(self) -> None:
        """Stop the server from answering; it keeps its connections."""

    def thaw(self) -> None:
        """Let the server continue."""

    def same_node(self) -> Source:
        """Return the source after a restart of the node."""
        raise NotImplementedError

    def behind_proxy(self) -> tuple[Source, Proxy]:
        """Return a source of the same messages, whose connection can be broken."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop everything."""


class MemoryHarness(Harness):
    server = False

    def __init__(self, directory: Path, shared: Shared) -> None:
        self.source = self.memory = MemorySource()

    async def send(self, body: bytes) -> None:
        self.memory.put(Message(body, "memory"))


class HttpHarness(Harness):
    """Does what the API does with the body of a POST; test_api.py tests the API itself."""

    server = False

    def __init__(self, directory: Path, shared: Shared) -> None:
        self.http = HttpSource(HttpSettings(listen=True), "here")
        self.source = self.http
        self._answers: list[asyncio.Task[object]] = []

    async def send(self, body: bytes) -> None:
        self._answers.append(asyncio.create_task(self.http.submit(body)))
        await asyncio.sleep(0)

    async def close(self) -> None:
        for answer in self._answers:
            answer.cancel()


class RedisHarness(Harness):
    keeps = False
    stream: str | None = None

    def __init__(self, directory: Path, shared: Shared) -> None:
        self.redis = RedisServer(
            directory, "--appendonly", "yes", "--appendfsync", "always"
        ).start()
        self.source = self.same_node()

    def _source(self, port: int) -> Source:
        cls = RedisStreamSource if self.stream else RedisSource
        return cls(
            RedisSettings(listen=True, host="127.0.0.1", port=port, stream=self.stream), "here"
        )

    async def send(self, body: bytes) -> None:
        with self.redis.client() as client:
            await asyncio.to_thread(client.publish, "capture", body)

    def same_node(self) -> Source:
        return self._source(self.redis.port)

    def stop(self) -> None:
        self.redis.kill()

    def start(self) -> None:
        self.redis.start()

    def freeze(self) -> None:
        self.redis.freeze()

    def thaw(self) -> None:
        self.redis.thaw()

    def behind_proxy(self) -> tuple[Source, Proxy]:
        proxy = Proxy(free_port(), self.redis.port)
        return self._source(proxy.port), proxy

    async def close(self) -> None:
        self.redis.kill()


class RedisStreamHarness(RedisHarness):
    keeps = returns = True
    stream = "requests"

    async def send(self, body: bytes) -> None:
        with self.redis.client() as client:
            await asyncio.to_thread(client.xadd, "requests", {"request": body})

    async def left(self) -> int:
        with self.redis.client() as client:
            groups: Any = await asyncio.to_thread(client.xinfo_groups, "requests")
            return int(groups[0]["pending"]) + int(groups[0]["lag"] or 0)


class KafkaHarness(Harness):
    group: str | None = None

    def __init__(self, directory: Path, shared: Shared) -> None:
        self.kafka, self.topic = shared.kafka, f"capture-{next(_names)}"
        self.kafka.create(self.topic)
        self.producer = self.kafka.producer()
        self.source = self.same_node()

    def _source(self, server: str) -> Source:
        settings = KafkaSettings(listen=True, server=server, topic=self.topic, group=self.group)
        return KafkaSource(settings, self.topic)

    async def send(self, body: bytes) -> None:
        await asyncio.to_thread(produce, self.producer, self.topic, body)

    def same_node(self) -> Source:
        return self._source(self.kafka.address)

    def stop(self) -> None:
        self.kafka.kill()

    def start(self) -> None:
        self.kafka.start()

    def freeze(self) -> None:
        self.kafka.freeze()

    def thaw(self) -> None:
        self.kafka.thaw()

    def behind_proxy(self) -> tuple[Source, Proxy]:
        proxy = Proxy(self.kafka.proxied_port, self.kafka.behind_proxy)
        return self._source(f"127.0.0.1:{proxy.port}"), proxy


class KafkaGroupHarness(KafkaHarness):
    group = "node-{node}"
    sent = 0

    async def send(self, body: bytes) -> None:
        await super().send(body)
        self.sent += 1

    async def left(self) -> int:
        return self.sent - max(
            0, await asyncio.to_thread(self.kafka.committed, f"node-{self.topic}", self.topic)
        )


class SqsHarness(Harness):
    returns = True
    shared = False

    def __init__(self, directory: Path, shared: Shared) -> None:
        self.moto, self.name = shared.moto, f"pcapdaemon-{next(_names)}"
        self._make_queue()
        self.source = self.same_node()

    def _make_queue(self) -> None:
        # only FIFO queues promise an order; moto keeps one in standard queues, too
        self.url = self.moto.queue(self.name, MaximumMessageSize="1048576")

    def _source(self, endpoint: str) -> Source:
        settings = SqsSettings.model_validate(
            {
                "listen": True,
                "queue": "pcapdaemon-{node}",
                "endpoint": endpoint,
                "region": KEYS["region_name"],
                "accessid": KEYS["aws_access_key_id"],
                "accesskey": KEYS["aws_secret_access_key"],
                "waitseconds": 1,
                "visibility": 5,
                "shared": self.shared,
            }
        )
        return SqsSource(settings, self.name.removeprefix("pcapdaemon-"))

    async def send(self, body: bytes) -> None:
        await asyncio.to_thread(
            self.moto.sqs.send_message, QueueUrl=self.url, MessageBody=body.decode()
        )

    def fit(self, body: bytes) -> bytes:
        text = body.decode("utf-8", "replace").replace("\0", "?")[:1_000_000]
        return text.encode() or b" "

    async def left(self) -> int:
        return await asyncio.to_thread(self.moto.left, self.url)

    def same_node(self) -> Source:
        return self._source(self.moto.url)

    def stop(self) -> None:
        self.moto.kill()

    def start(self) -> None:
        self.moto.start()
        self._make_queue()

    def freeze(self) -> None:
        self.moto.freeze()

    def thaw(self) -> None:
        self.moto.thaw()

    def behind_proxy(self) -> tuple[Source, Proxy]:
        proxy = Proxy(free_port(), self.moto.port)
        return self._source(f"http://127.0.0.1:{proxy.port}"), proxy


class SqsSharedHarness(SqsHarness):
    shared = others_may_have_it = True


class FolderHarness(Harness):
    """An example of a bus that other people wrote."""

    server = False
    returns = False

    def __init__(self, directory: Path, shared: Shared) -> None:
        self.path = directory / "requests"
        self.path.mkdir()
        self.source = self.bus = FolderBus(FolderSettings(listen=True, path=str(self.path)), "here")

    async def send(self, body: bytes) -> None:
        await self.bus.send(body)


HARNESSES: dict[str, type[Harness]] = {
    "memory": MemoryHarness,
    "http": HttpHarness,
    "folder": FolderHarness,
    "redis": RedisHarness,
    "redis-stream": RedisStreamHarness,
    "kafka": KafkaHarness,
    "kafka-group": KafkaGroupHarness,
    "sqs": SqsHarness,
    "sqs-shared": SqsSharedHarness,
}
