"""Requests from Redis pub/sub.

Every node that subscribes receives every message that is published while it is connected.

Pub/sub has no memory: a node loses what is published while it is disconnected
(redis.io/docs/interact/pubsub). Streams keep their entries. redis_stream.py reads them, with the
settings and the connection of this file.
"""

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import structlog
from pydantic import Field, SecretStr, ValidationInfo, field_validator
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from pcapdaemon.core.errors import NotConnected
from pcapdaemon.core.network import is_loopback
from pcapdaemon.core.section import Section
from pcapdaemon.core.text import printable
from pcapdaemon.secrets import CertificateFile
from pcapdaemon.sources.base import Bus, Message, Places
from pcapdaemon.sources.redis_address import Address

PING_AFTER = 2.0
GIVE_UP_AFTER = 6.0
"""Seconds of silence until a PING is sent, and until the server counts as dead.

redis-py's own health check detects neither silence nor death: it sends a PING and never checks for
the answer. A half-open connection reports no error for hours.
"""

log = structlog.get_logger()
_sentinel: Any = Sentinel  # redis-py has no types for it
Name = Annotated[str, Field(min_length=1)]


class RedisSettings(Section):
    """`[redis]`: one server, or several that act as one, its channels and its stream."""

    listen: bool = Field(False, description="Receive requests from Redis.")
    host: str = Field("localhost", min_length=1, description="The server's name or address.")
    port: int = Field(6379, ge=1, le=65535, description="The server's port.")
    url: SecretStr | None = Field(
        None,
        description=(
            "Replaces host, port, username, auth and tls: `rediss://user:password@host:port`,"
            " `unix:///path`, `redis+sentinel://user:password@host:port,host:port/service`,"
            " `redis+cluster://user:password@host:port,host:port`; `rediss+...` with TLS."
        ),
    )
    channel: Name | Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] = Field(
        "capture",
        description=(
            "The channel, or an array of channels. With `stream`, the node subscribes only if you"
            " set `channel`."
        ),
    )
    stream: Name | None = Field(
        None, description="A stream to read, in addition to the channel or instead of it."
    )
    group: Name = Field(
        "pcapdaemon-{node}",
        description="This node's consumer group of the stream; `{node}` is the node's name.",
    )
    results: Name | Places | None = Field(
        None,
        description=(
            "A channel for results, or an array of channels. `reply_to` picks one; the default is"
            " the first. Absent: none."
        ),
    )
    results_length: int = Field(
        10_000,
        ge=0,
        description=(
            "Results are also kept in a stream with the channel's name, about this many; 0: no"
            " stream."
        ),
    )
    username: str | None = Field(
        None, description="The user, for access control lists (Redis 6); absent: `default`."
    )
    auth: SecretStr | None = Field(None, description="The password.")
    tls: bool = Field(False, description="Encrypt, and verify the server's certificate and name.")
    ca_file: CertificateFile | None = Field(
        None, description="Certificates to trust instead of the system's."
    )

    @field_validator("url")
    @classmethod
    def _url_can_be_used(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            Address.of(url.get_secret_value())
        return url

    @field_validator("group")
    @classmethod
    def _group_is_this_nodes(cls, group: str, info: ValidationInfo) -> str:
        if "{node}" not in group:
            raise ValueError(
                "must contain {node}: nodes that share a group each receive only some requests"
            )
        return group

    def flaws(self) -> list[str]:
        """Return a warning if others on the network can read and send requests."""
        if self.url is None:
            plain, hosts = not self.tls, [self.host]
        elif (url := self.url.get_secret_value()).startswith("unix:"):
            return []
        else:
            address = Address.of(url)
            plain, hosts = not address.tls, [host for host, _ in address.hosts]
        if not plain or all(map(is_loopback, hosts)):
            return []
        return ["[redis] without TLS: requests, results and the password are sent unencrypted"]

    @property
    def channels(self) -> tuple[str, ...]:
        """The configured channels, one or several."""
        return (
            (self.channel,) if isinstance(self.channel, str) else tuple(dict.fromkeys(self.channel))
        )


class RedisBus(Bus):
    """What pub/sub and streams share: the connection, results and sending."""

    name = "redis"
    Settings = RedisSettings
    client: Redis | RedisCluster | None

    def __init__(self, settings: RedisSettings, node: str) -> None:
        self.settings, self.node = settings, node
        self.client = None
        self._no_stream = False

    @classmethod
    def of_answers(cls, settings: RedisSettings, node: str, place: str) -> Any:
        """Return a subscription to one channel of results."""
        return RedisSource(settings.model_copy(update={"channel": place}), node)

    @property
    def server(self) -> str:
        """The server's URL, without credentials."""
        if self.settings.url is None:
            scheme = "rediss" if self.settings.tls else "redis"
            return f"{scheme}://{self.settings.host}:{self.settings.port}"
        url = self.settings.url.get_secret_value()
        return "unix socket" if url.startswith("unix:") else str(Address.of(url))

    async def publish(self, body: bytes, channel: str) -> int:
        """Publish a message, and return how many subscribers received it."""
        async with self.any_client() as client:
            return int(await client.execute_command("PUBLISH", channel, body))

    async def check(self, place: str) -> str:
        """Return "" if the server answers. Whether it lets this user publish is not known."""
        async with self.any_client() as client:
            await client.ping()
        return ""

    async def tell(self, place: str, body: bytes) -> None:
        """Publish a result on a channel, and add it to the stream of the same name.

        The stream keeps it for those who were not subscribed.
        """
        async with self.any_client() as client:
            if self.settings.results_length:
                try:
                    await client.xadd(
                        place,
                        {"result": body},
                        maxlen=self.settings.results_length,
                        approximate=True,
                    )
                    self._no_stream = False
                except (NoPermissionError, ResponseError) as error:  # the stream is optional
                    if not self._no_stream:
                        log.warning(
                            "results go to the channel only",
                            source=self.name,
                            stream=place,
                            reason=_reason(error),
                        )
                    self._no_stream = True
            await client.execute_command("PUBLISH", place, body)

    @asynccontextmanager
    async def any_client(self) -> AsyncIterator[Any]:
        """Yield the connected client, or a temporary one. Errors become NotConnected."""
        client = self.client or self.make_client()
        try:
            yield client
        except (RedisError, OSError) as error:
            raise self.lost(error) from None
        finally:
            if client is not self.client:
                await drop(client)

    def make_client(self, any_node: bool = False) -> Redis | RedisCluster:
        """Return a client that is not connected yet.

        With `any_node` it is a client of one node of a cluster, chosen at random. That suffices for
        pub/sub.
        """
        options: dict[str, Any] = {
            "ssl_ca_certs": self.settings.ca_file,
            "socket_connect_timeout": 2,
            "socket_timeout": 5,
            "retry": Retry(NoBackoff(), 0),  # the pump reconnects, and reports each loss
            "protocol": 2,  # 3 begins with HELLO, which servers before 6.0 and proxies refuse
        }
        if self.settings.url is None:
            auth = self.settings.auth.get_secret_value() if self.settings.auth else None
            server: dict[str, Any] = {
                "host": self.settings.host,
                "port": self.settings.port,
                "ssl": self.settings.tls,
            }
            return Redis(username=self.settings.username, password=auth, **server, **options)
        return _client_of(self.settings.url.get_secret_value(), any_node, options)

    def lost(self, error: Exception) -> NotConnected:
        """Return the error as NotConnected, in words for a person."""
        return NotConnected(f"{self.address}: {_reason(error)}")


def _client_of(url: str, any_node: bool, options: dict[str, Any]) -> Redis | RedisCluster:
    address = Address.of(url)
    ca_file = options.pop("ssl_ca_certs")  # connections without TLS don't take it
    tls = {"ssl": True, "ssl_ca_certs": ca_file} if address.tls else {}
    if not address.kind:
        options |= {"ssl_ca_certs": ca_file} if address.tls else {}
        client: Redis = Redis.from_url(url, **options)
        return client
    options |= {"username": address.username, "password": address.password, **tls}
    if address.kind == "sentinel":
        sentinel = {"socket_connect_timeout": 2, "socket_timeout": 2, "protocol": 2, **tls}
        client = _sentinel(list(address.hosts), sentinel_kwargs=sentinel, **options).master_for(
            address.path
        )
        return client
    if any_node:
        host, port = random.choice(address.hosts)  # noqa: S311  # the next try takes another
        return Redis(host=host, port=port, **options)
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)


class RedisSource(RedisBus):
    """A subscription to channels.

    A lost or half-open connection is detected within GIVE_UP_AFTER seconds.
    """

    def __init__(self, settings: RedisSettings, node: str) -> None:
        super().__init__(settings, node)
        self._pubsub: Any = None
        self._heard = self._pinged = 0.0

    @property
    def address(self) -> str:
        """The server and channels."""
        return f"{self.server} channel {', '.join(self.settings.channels)}"

    async def connect(self) -> None:
        """Subscribe, and wait until the server has confirmed each channel."""
        try:
            self.client = self.make_client(any_node=True)
            self._pubsub = self.client.pubsub()
            await self._pubsub.subscribe(*self.settings.channels)
            for _ in self.settings.channels:
                if await self._pubsub.get_message(timeout=GIVE_UP_AFTER) is None:
                    raise NotConnected(f"{self.address}: the server does not answer")
        except (RedisError, OSError) as error:
            raise self.lost(error) from None
        self._heard = self._pinged = time.monotonic()

    async def receive(self) -> Message:
        """Return the next message. During silence, PING checks the connection."""
        while True:
            try:
                item = await self._pubsub.get_message(timeout=1.0)
            except (RedisError, OSError) as error:
                raise self.lost(error) from None
            if item is None:
                await self._check_connection()
                continue
            self._heard = time.monotonic()
            if item["type"] == "message":
                return Message(item["data"], self.name, answer=self.answer)
            if item["type"] == "subscribe":
                raise NotConnected(f"{self.address}: the client library reconnected by itself")

    async def send(self, body: bytes, to: str | None = None) -> int | None:
        """Publish on the first channel or on `to`, and return how many subscribers received it."""
        return await self.publish(body, to or self.settings.channels[0])

    async def close(self) -> None:
        """Drop the connection, without waiting for a server that may be gone."""
        client, pubsub, self.client, self._pubsub = self.client, self._pubsub, None, None
        for part in (pubsub, client):
            await drop(part)

    async def _check_connection(self) -> None:
        silent = time.monotonic() - max(self._heard, 0)
        if silent > GIVE_UP_AFTER:
            raise NotConnected(f"{self.address}: the server has not answered for {silent:.0f} s")
        if silent > PING_AFTER and self._pinged <= self._heard:
            self._pinged = time.monotonic()
            try:
                await self._pubsub.ping()
            except (RedisError, OSError) as error:
                raise self.lost(error) from None


async def drop(part: Any) -> None:
    """Close a client, or a part of one, that may be broken.

    A client through Sentinel contains further clients. They are closed too.
    """
    manager = getattr(getattr(part, "connection_pool", None), "sentinel_manager", None)
    for one in (part, *(manager.sentinels if manager else ())):
        if one is not None:
            with suppress(RedisError, OSError):  # it may already be broken
                await one.aclose()


def _reason(error: Exception) -> str:
    words = printable(str(error)) or type(error).__name__
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return f"{words} (set [redis] auth and username as the server's ACL has them)"
    return words
