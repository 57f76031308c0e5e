"""Requests from Redis pub/sub: every node that subscribes hears every message that is sent while it is connected.

Pub/sub has no memory: what is published while a node is away is lost for it (redis.io/docs/interact/pubsub).
"""

import os
import time
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, NoPermissionError, RedisError

from pcapdaemon.errors import NotConnected
from pcapdaemon.section import Section
from pcapdaemon.sources.base import Message, Source
from pcapdaemon.text import printable

PING_AFTER = 2.0
GIVE_UP_AFTER = 6.0
"""Seconds of silence after which the server is asked for a sign of life, and taken for dead. redis-py's own health check
notices neither (it sends a PING and never looks for the answer), and a half-open connection reports no error for hours."""


Name = Annotated[str, Field(min_length=1)]


class RedisSettings(Section):
    """`[redis]`: one Redis server and the channels to subscribe to."""

    listen: bool = Field(False, description="Hear requests on Redis.")
    host: str = Field("localhost", min_length=1, description="The server's name or address.")
    port: int = Field(6379, ge=1, le=65535, description="The server's port.")
    channel: Name | Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] = Field(
        "capture", description="The channel, or an array of channels."
    )
    username: str | None = Field(None, description="The user of Redis 6's access control lists; absent: `default`.")
    auth: SecretStr | None = Field(None, description="The password.")
    tls: bool = Field(False, description="Encrypt, and verify the server's certificate and name.")
    ca_file: str | None = Field(None, description="Certificates to trust instead of the system's.")

    @field_validator("ca_file")
    @classmethod
    def _ca_file_is_there(cls, name: str | None) -> str | None:
        if name is not None and not os.access(name, os.R_OK):
            raise ValueError(f"can't read {name}")
        return name

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels, however they are written."""
        return (self.channel,) if isinstance(self.channel, str) else tuple(dict.fromkeys(self.channel))


class RedisSource(Source):
    """A subscription; a lost or half-open connection is noticed within GIVE_UP_AFTER seconds."""

    name = "redis"
    Settings = RedisSettings

    def __init__(self, settings: RedisSettings, node: str) -> None:
        self.settings = settings
        self._client: Redis | None = None
        self._pubsub: Any = None
        self._heard = self._pinged = 0.0

    @property
    def address(self) -> str:
        """Server and channels."""
        scheme = "rediss" if self.settings.tls else "redis"
        return f"{scheme}://{self.settings.host}:{self.settings.port} channel {', '.join(self.settings.channels)}"

    async def connect(self) -> None:
        """Subscribe, and wait for the server to confirm each channel."""
        try:
            self._client = self._make_client()
            self._pubsub = self._client.pubsub()
            await self._pubsub.subscribe(*self.settings.channels)
            for _ in self.settings.channels:
                if await self._pubsub.get_message(timeout=GIVE_UP_AFTER) is None:
                    raise NotConnected(f"{self.address}: the server does not answer")
        except (RedisError, OSError) as error:
            raise NotConnected(f"{self.address}: {_reason(error)}") from None
        self._heard = self._pinged = time.monotonic()

    async def receive(self) -> Message:
        """The next message; silence is broken by PING."""
        while True:
            try:
                item = await self._pubsub.get_message(timeout=1.0)
            except (RedisError, OSError) as error:
                raise NotConnected(f"{self.address}: {_reason(error)}") from None
            if item is None:
                await self._ask_for_life()
                continue
            self._heard = time.monotonic()
            if item["type"] == "message":
                return Message(item["data"], self.name)
            if item["type"] == "subscribe":
                raise NotConnected(f"{self.address}: the connection was made anew behind our back")

    async def close(self) -> None:
        """Drop the connection without waiting for a server that may be gone."""
        client, pubsub, self._client, self._pubsub = self._client, self._pubsub, None, None
        for part in (pubsub, client):
            if part is not None:
                try:
                    await part.aclose()
                except (RedisError, OSError):
                    continue  # it is being thrown away because it is broken

    async def _ask_for_life(self) -> None:
        silent = time.monotonic() - max(self._heard, 0)
        if silent > GIVE_UP_AFTER:
            raise NotConnected(f"{self.address}: no sign of life for {silent:.0f} s")
        if silent > PING_AFTER and self._pinged <= self._heard:
            self._pinged = time.monotonic()
            try:
                await self._pubsub.ping()
            except (RedisError, OSError) as error:
                raise NotConnected(f"{self.address}: {_reason(error)}") from None

    def _make_client(self) -> Redis:
        settings = self.settings
        return Redis(
            host=settings.host,
            port=settings.port,
            username=settings.username,
            password=settings.auth.get_secret_value() if settings.auth else None,
            ssl=settings.tls,
            ssl_ca_certs=settings.ca_file,
            socket_connect_timeout=2,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),  # the engine connects again, and knows that it had to
        )


def _reason(error: Exception) -> str:
    words = printable(str(error)) or type(error).__name__
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return f"{words} (set [redis] auth and username as the server's ACL has them)"
    return words
