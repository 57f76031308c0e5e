"""Requests from Redis pub/sub.

Every node that subscribes receives every message that is sent while it is connected.

Pub/sub has no memory: what is published while a node is away is lost for it
(redis.io/docs/interact/pubsub). Streams, which have, are in redis_stream.py, on the settings and
the connection that stand here.
"""

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

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
from pcapdaemon.core.section import Section
from pcapdaemon.core.text import printable
from pcapdaemon.secrets import CertificateFile
from pcapdaemon.sources.base import Bus, Message, Places

PING_AFTER = 2.0
GIVE_UP_AFTER = 6.0
"""Seconds of silence after which the server is asked for a sign of life.

Taken for dead. redis-py's own health check

notices neither (it sends a PING and never looks for the answer), and a half-open connection reports
no error for hours.
"""

log = structlog.get_logger()
_sentinel: Any = Sentinel  # it has no types
SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)

Name = Annotated[str, Field(min_length=1)]


class RedisSettings(Section):
    """`[redis]`.

    One Redis server, or several that work as one, and the channels and the stream to hear.
    """

    listen: bool = Field(False, description="Receive requests from Redis.")
    host: str = Field("localhost", min_length=1, description="The server's name or address.")
    port: int = Field(6379, ge=1, le=65535, description="The server's port.")
    url: SecretStr | None = Field(
        None,
        description=(
            "In place of host, port, username, auth and tls: `rediss://user:password@host:port`,"
            " `unix:///path`, `redis+sentinel://user:password@host:port,host:port/service`,"
            " `redis+cluster://user:password@host:port,host:port`; `rediss+...` with TLS."
        ),
    )
    channel: Name | Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] = Field(
        "capture",
        description=(
            "The channel, or an array of channels. With `stream`, channels are heard only if they"
            " are named."
        ),
    )
    stream: Name | None = Field(
        None, description="A stream to read, beside the channel or in its place."
    )
    group: Name = Field(
        "pcapdaemon-{node}",
        description="This node's consumer group of the stream; `{node}` is its name.",
    )
    results: Name | Places | None = Field(
        None,
        description=(
            "A channel for results, or an array of them: `reply_to` picks one, else it is the"
            " first. Absent: none."
        ),
    )
    results_length: int = Field(
        10_000,
        ge=0,
        description=(
            "Results are also kept in a stream of the channel's name, about this many; 0: in none."
        ),
    )
    username: str | None = Field(
        None, description="The user of Redis 6's access control lists; absent: `default`."
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
            _Address.of(url.get_secret_value())
        return url

    @field_validator("group")
    @classmethod
    def _group_is_this_nodes(cls, group: str, info: ValidationInfo) -> str:
        if "{node}" not in group:
            raise ValueError("must contain {node}: nodes that share a group each hear only a part")
        return group

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels, however they are written."""
        return (
            (self.channel,) if isinstance(self.channel, str) else tuple(dict.fromkeys(self.channel))
        )


@dataclass(frozen=True, slots=True)
class _Address:
    """The parts of a URL; `kind` is "", "sentinel" or "cluster"."""

    kind: str
    tls: bool
    hosts: tuple[tuple[str, int], ...]
    path: str
    username: str | None
    password: str | None

    @classmethod
    def of(cls, url: str) -> Self:
        """Take a URL apart.

        Raises ValueError in words that don't repeat it, for it may hold a password.
        """
        scheme, _, rest = url.partition("://")
        if scheme not in SCHEMES or not rest:
            raise ValueError(
                f"must be a URL that begins with one of {', '.join(SCHEMES)}, then ://"
            )
        credentials, _, hosts = rest.partition("/")[0].rpartition("@")
        user, _, password = credentials.partition(":")
        kind, path = scheme.partition("+")[2], urlsplit(url).path.strip("/")
        if kind == "sentinel" and not path:
            raise ValueError("the name of the service is missing: ...//host:port,host:port/SERVICE")
        return cls(
            kind,
            scheme.startswith("rediss"),
            tuple(
                _host_and_port(host, 26379 if kind == "sentinel" else 6379)
                for host in hosts.split(",")
            ),
            path,
            unquote(user) or None,
            unquote(password) or None,
        )

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        kind = f"+{self.kind}" if self.kind else ""
        path = f"/{self.path}" if self.path else ""
        return f"{'rediss' if self.tls else 'redis'}{kind}://{hosts}{path}"


def _host_and_port(text: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        return parts.hostname or "localhost", parts.port or default
    except ValueError:
        raise ValueError("a port is wrong: must be host:port") from None


class RedisBus(Bus):
    """What both ways of using Redis share: the connection, answers, sending."""

    name = "redis"
    Settings = RedisSettings
    protocol = 3
    client: Redis | RedisCluster | None

    def __init__(self, settings: RedisSettings, node: str) -> None:
        self.settings, self.node = settings, node
        self.client = None
        self._no_stream = False

    @classmethod
    def of_answers(cls, settings: RedisSettings, node: str, place: str) -> Any:
        """A subscription to a channel of results."""
        return RedisSource(settings.model_copy(update={"channel": place}), node)

    @property
    def server(self) -> str:
        """Its URL without credentials."""
        if self.settings.url is None:
            return f"{'rediss' if self.settings.tls else 'redis'}://{self.settings.host}:{self.settings.port}"
        url = self.settings.url.get_secret_value()
        return "unix socket" if url.startswith("unix:") else str(_Address.of(url))

    async def publish(self, body: bytes, channel: str) -> int:
        """Publish; how many subscribers heard it."""
        async with self.any_client() as client:
            return int(await client.execute_command("PUBLISH", channel, body))

    async def tell(self, place: str, body: bytes) -> None:
        """Publish a result on a channel.

        Add it to the stream of the same name for those who were not listening.
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
                except (NoPermissionError, ResponseError) as error:  # the channel is what counts
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
        """The client that is connected, or one for this occasion; what fails is NotConnected."""
        client = self.client or self.make_client()
        try:
            yield client
        except (RedisError, OSError) as error:
            raise self.lost(error) from None
        finally:
            if client is not self.client:
                await drop(client)

    def make_client(self, any_node: bool = False) -> Redis | RedisCluster:
        """A client.

        With `any_node` of a cluster's first node that is up, which suffices for pub/sub.
        """
        options: dict[str, Any] = {
            "ssl_ca_certs": self.settings.ca_file,
            "socket_connect_timeout": 2,
            "socket_timeout": 5,
            "retry": Retry(NoBackoff(), 0),  # the engine connects again, and knows that it had to
            "protocol": self.protocol,
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
        """The same in words for a person."""
        return NotConnected(f"{self.address}: {_reason(error)}")


def _client_of(url: str, any_node: bool, options: dict[str, Any]) -> Redis | RedisCluster:
    address = _Address.of(url)
    ca_file = options.pop("ssl_ca_certs")  # connections without TLS don't know it
    tls = {"ssl": True, "ssl_ca_certs": ca_file} if address.tls else {}
    if not address.kind:
        options |= {"ssl_ca_certs": ca_file} if address.tls else {}
        client: Redis = Redis.from_url(url, **options)
        return client
    options |= {"username": address.username, "password": address.password, **tls}
    if address.kind == "sentinel":
        sentinel = {"socket_connect_timeout": 2, "socket_timeout": 2, **tls}
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
    """A subscription; a lost or half-open connection is noticed within GIVE_UP_AFTER seconds."""

    def __init__(self, settings: RedisSettings, node: str) -> None:
        super().__init__(settings, node)
        self._pubsub: Any = None
        self._heard = self._pinged = 0.0

    @property
    def address(self) -> str:
        """Server and channels."""
        return f"{self.server} channel {', '.join(self.settings.channels)}"

    async def connect(self) -> None:
        """Subscribe, and wait for the server to confirm each channel."""
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
        """The next message; silence is broken by PING."""
        while True:
            try:
                item = await self._pubsub.get_message(timeout=1.0)
            except (RedisError, OSError) as error:
                raise self.lost(error) from None
            if item is None:
                await self._ask_for_life()
                continue
            self._heard = time.monotonic()
            if item["type"] == "message":
                return Message(item["data"], self.name, answer=self.answer)
            if item["type"] == "subscribe":
                raise NotConnected(f"{self.address}: the connection was recreated behind our back")

    async def send(self, body: bytes, to: str | None = None) -> int | None:
        """Publish on the first channel, or another; how many subscribers heard it."""
        return await self.publish(body, to or self.settings.channels[0])

    async def close(self) -> None:
        """Drop the connection without waiting for a server that may be gone."""
        client, pubsub, self.client, self._pubsub = self.client, self._pubsub, None, None
        for part in (pubsub, client):
            await drop(part)

    async def _ask_for_life(self) -> None:
        silent = time.monotonic() - max(self._heard, 0)
        if silent > GIVE_UP_AFTER:
            raise NotConnected(f"{self.address}: no sign of life for {silent:.0f} s")
        if silent > PING_AFTER and self._pinged <= self._heard:
            self._pinged = time.monotonic()
            try:
                await self._pubsub.ping()
            except (RedisError, OSError) as error:
                raise self.lost(error) from None


async def drop(part: Any) -> None:
    """Close a client, or a part of one, that may be broken.

    A client by way of Sentinel has more of them inside.
    """
    manager = getattr(getattr(part, "connection_pool", None), "sentinel_manager", None)
    for one in (part, *(manager.sentinels if manager else ())):
        if one is not None:
            with suppress(RedisError, OSError):  # it is being thrown away because it is broken
                await one.aclose()


def _reason(error: Exception) -> str:
    words = printable(str(error)) or type(error).__name__
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return f"{words} (set [redis] auth and username as the server's ACL has them)"
    return words
