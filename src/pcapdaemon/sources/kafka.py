"""Requests from Kafka.

Every node reads every message of all partitions and joins no consumer group.

In the client library, a subscription needs a group, and an assignment without a group does not
follow new partitions. So this source assigns partitions by hand. It reads partitions that exist at
the start from their end, partitions found later from their beginning, and after a lost connection
each partition from where it stopped. With `group` it also commits the positions under that name,
without joining the group.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Annotated, Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import Message as Record
from pydantic import Field, field_validator, model_validator

from pcapdaemon.core.errors import NotConnected, ResultRefused
from pcapdaemon.core.network import is_loopback
from pcapdaemon.core.section import Section
from pcapdaemon.core.text import printable
from pcapdaemon.core.units import Time
from pcapdaemon.secrets import resolve_indirect
from pcapdaemon.sources.base import Bus, Message, Places
from pcapdaemon.sources.kafka_reader import ANSWER_WITHIN, Positions, Reader, words_of
from pcapdaemon.threads import run_in_thread

OURS = {
    "bootstrap.servers",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
}
"""Properties of the client library that only this file sets."""

UNSENDABLE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD}
"""Errors about one message that no broker will ever take."""

Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]


class KafkaSettings(Section):
    """`[kafka]`: the bootstrap brokers, and the topics to read."""

    listen: bool = Field(False, description="Receive requests from Kafka.")
    server: Name | Names = Field(
        "localhost:9092", description="Bootstrap broker, `host:port`, or an array of them."
    )
    topic: Name | Names = Field(
        "capture", description="The topic, or an array of topics; every partition is read."
    )
    group: Name | None = Field(
        None,
        description=(
            "Commit positions under this name, which must contain `{node}`. Requests that were sent"
            " during a restart are then received, up to `[general] maxage`. Absent: the node begins"
            " with what is sent from now on."
        ),
    )
    metadata_refresh: Time = Field(
        30, ge=1, le=3600, description="Seconds between checks for new partitions and topics."
    )
    results: Name | Places | None = Field(
        None,
        description=(
            "A topic for results, or an array of topics. `reply_to` picks one; the default is the"
            " first. Absent: none."
        ),
    )
    client: dict[str, str | int | float | bool] = Field(
        {},
        repr=False,
        description=(
            "Properties of the client library (TLS, SASL) under its own names:"
            " https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md. Each may be"
            ' set as `"KEY_file"` or `"KEY_env"`.'
        ),
    )

    @field_validator("client", mode="before")
    @classmethod
    def _flat(cls, client: Any) -> Any:
        # TOML turns unquoted names with dots into tables
        flat = dict(_flattened(client)) if isinstance(client, dict) else client
        return resolve_indirect(flat) if isinstance(client, dict) else flat

    @field_validator("group")
    @classmethod
    def _group_is_this_nodes(cls, group: str | None) -> str | None:
        if group is not None and "{node}" not in group:
            raise ValueError(
                "must contain {node}: nodes that share a group overwrite each other's positions"
            )
        return group

    @model_validator(mode="after")
    def _client_is_understood(self) -> Self:
        if taken := OURS & self.client.keys():
            raise ValueError(f"client: {', '.join(sorted(taken))} can't be set here")
        try:
            Consumer(consumer_options(self, "check") | {"bootstrap.servers": ""}).close()
        except KafkaException as error:
            raise ValueError(f"client: {words_of(error)}") from None
        return self

    def flaws(self) -> list[str]:
        """Return a warning if others on the network can read and send requests."""
        protocol = str(self.client.get("security.protocol", "plaintext")).upper()
        hosts = [server.rpartition(":")[0].strip("[]") for server in self.servers.split(",")]
        if protocol.endswith("SSL") or all(map(is_loopback, hosts)):
            return []
        words = f"[kafka.client] security.protocol = {protocol}: requests and results are sent"
        return [f"{words} unencrypted"]

    @property
    def topics(self) -> tuple[str, ...]:
        """The configured topics, one or several."""
        return (self.topic,) if isinstance(self.topic, str) else tuple(dict.fromkeys(self.topic))

    @property
    def servers(self) -> str:
        """The bootstrap brokers in the client library's format, separated by commas."""
        return self.server if isinstance(self.server, str) else ",".join(self.server)


def _flattened(table: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _common_options(settings: KafkaSettings, node: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": settings.servers,
        "client.id": f"pcapdaemon-{node}",
        # the first detects a broker that hangs during a fetch, the second one that does not
        # answer a new connection
        "socket.timeout.ms": 4000,
        "api.version.request.timeout.ms": 2500,
        "reconnect.backoff.max.ms": 1000,
        "log_level": 2,  # NotConnected reports an error once, the library dozens of times
        "logger": logging.getLogger("librdkafka"),
        **settings.client,
    }


def consumer_options(settings: KafkaSettings, node: str) -> dict[str, Any]:
    """Return the consumer's properties; it buffers about 1 MiB per partition at most."""
    return {
        "topic.metadata.refresh.interval.ms": settings.metadata_refresh * 1000,
        "allow.auto.create.topics": False,
        "queued.max.messages.kbytes": 1024,
        "fetch.message.max.bytes": 1 << 18,  # a longer message is fetched all the same (KIP-74)
        **_common_options(settings, node),
        # required, but used for commits only
        "group.id": settings.group.replace("{node}", node) if settings.group else "unused",
        "enable.auto.commit": False,
        # applies if a position is gone because the topic was shortened or recreated
        "auto.offset.reset": "earliest",
    }


class KafkaSource(Bus):
    """Reads all partitions of the topics in one thread, batch after batch."""

    name = "kafka"
    Settings = KafkaSettings

    def __init__(self, settings: KafkaSettings, node: str) -> None:
        self.settings, self.node = settings, node
        self.positions = Positions(commit=settings.group is not None)
        self._buffer: deque[Message] = deque()
        self._reader: Reader | None = None
        self._arrived = asyncio.Event()
        self._producer: Producer | None = None
        self._said = ""

    @property
    def address(self) -> str:
        """The brokers and topics."""
        return f"kafka://{self.settings.servers} topic {', '.join(self.settings.topics)}"

    @classmethod
    def redelivers(cls, settings: Any) -> bool:
        """With a group, messages that were not committed are redelivered."""
        return settings.group is not None

    @classmethod
    def of_answers(cls, settings: KafkaSettings, node: str, place: str) -> Self:
        """Return a source that receives the results of one topic."""
        return cls(settings.model_copy(update={"topic": place, "group": None}), node)

    async def connect(self) -> None:
        """Start the reader, and wait until it knows the end of each partition."""
        settings = self.settings
        options = consumer_options(settings, self.node)
        refresh = settings.metadata_refresh
        self._reader = Reader(
            options, settings.topics, refresh, self.positions, self._messages, self._take_in
        )
        self._reader.start()
        try:
            await self._reader.connected
        except NotConnected as error:
            raise NotConnected(f"{self.address}: {error}") from None

    async def receive(self) -> Message:
        """Return the next message."""
        while not self._buffer:
            reader = self._reader
            if reader is None or reader.failure:
                raise NotConnected(f"{self.address}: {reader.failure if reader else 'closed'}")
            self._arrived.clear()
            reader.room.set()
            await self._arrived.wait()
        return self._buffer.popleft()

    async def send(self, body: bytes, to: str | None = None) -> int | None:
        """Produce one message to the first topic or to `to`, and wait until the broker has it."""
        await run_in_thread(self._produce, body, to or self.settings.topics[0])
        return None

    async def check(self, place: str) -> str:
        """Return why the topic for results can't be written to, or ""."""
        return await run_in_thread(self._check, place)

    async def close(self) -> None:
        """Commit the settled positions; a reader that hangs is left behind after 3 seconds."""
        reader, self._reader, self._producer = self._reader, None, None
        if reader is not None:
            reader.ending.set()
            await asyncio.wait([reader.ended], timeout=3)

    def _take_in(self, messages: list[Message]) -> None:
        self._buffer.extend(messages)
        self._arrived.set()

    def _messages(self, records: list[Record]) -> list[Message]:
        return [self._message(record) for record in records]

    def _message(self, record: Record) -> Message:
        topic, partition, offset = (
            record.topic() or "",
            record.partition() or 0,
            record.offset() or 0,
        )
        kind, milliseconds = record.timestamp()
        # a recreated topic may use the same offset again
        key = f"{topic} {partition} {offset} {milliseconds}"
        settle = self.positions.settler((topic, partition), offset)
        return Message(
            record.value() or b"",
            self.name,
            milliseconds / 1000 if kind else None,
            key,
            settle,
            self.answer,
        )

    def _check(self, topic: str) -> str:
        try:
            consumer = Consumer(consumer_options(self.settings, self.node))
            try:
                found = consumer.list_topics(topic, timeout=ANSWER_WITHIN).topics[topic]
            finally:
                consumer.close()
        except KafkaException as error:
            return words_of(error)
        return printable(found.error.str()) if found.error else ""

    def _produce(self, body: bytes, topic: str) -> None:
        failures: list[KafkaError] = []
        self._said = ""
        try:
            producer = self._producer
            if producer is None:
                options = _common_options(self.settings, self.node) | {
                    "message.timeout.ms": 8000,
                    "linger.ms": 0,
                }
                options["error_cb"] = self._on_error
                self._producer = producer = Producer(options)
            producer.produce(
                topic,
                body,
                on_delivery=lambda error, _: failures.append(error) if error else None,
            )
            left = producer.flush(10)
        except KafkaException as error:
            raise self._unsent(error.args[0]) from None
        except BufferError as error:
            raise NotConnected(f"{self.address}: {words_of(error)}") from None
        if failures or left:
            raise self._unsent(failures[0] if failures else None)

    def _unsent(self, error: KafkaError | None) -> NotConnected | ResultRefused:
        words = error.str() if error else "the brokers do not answer"
        if error and error.code() in UNSENDABLE:
            return ResultRefused(f"{self.address}: {words}")
        return NotConnected(f"{self.address}: {self._said or words}")

    def _on_error(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # it only counts the brokers
            self._said = printable(error.str())
