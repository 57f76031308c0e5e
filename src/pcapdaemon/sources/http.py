"""Requests by HTTP: `POST /captures` of the API (api.py serves it) is a source like any other."""

import asyncio
import ipaddress
import socket

from pydantic import Field, SecretStr, field_validator, model_validator

from pcapdaemon.core.answers import Answer, AnswerKind
from pcapdaemon.core.request import Problem
from pcapdaemon.core.section import Section
from pcapdaemon.sources.base import Message, Source

WAITING = 1024
"""Requests that may wait for the engine; more are refused as busy."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    A name other than localhost counts as reachable.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def address_family(host: str) -> socket.AddressFamily:
    """What kind of socket listens on an address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class HttpSettings(Section):
    """`[http]`: the API, and requests by it."""

    listen: bool = Field(False, description="Serve the API, and receive requests on it.")
    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(8723, ge=0, le=65535, description="The port; 0: any free one.")
    token: SecretStr | None = Field(
        None,
        min_length=8,
        description="Bearer token that clients must show; required where `host` is not loopback.",
    )

    @field_validator("token")
    @classmethod
    def _token_fits_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        text = token.get_secret_value() if token else ""
        if not (text.isascii() and text.isprintable()):
            raise ValueError("only printable ASCII characters fit into a header")
        return token

    @model_validator(mode="after")
    def _token_where_reachable(self) -> "HttpSettings":
        if self.listen and not is_loopback(self.host) and self.token is None:
            raise ValueError(
                f"host {self.host} can be reached from elsewhere: set token_file (or token,"
                " token_env)"
            )
        return self


class HttpSource(Source):
    """Hands bodies of POST requests to the engine, and the engine's answer back."""

    name = "http"
    Settings = HttpSettings

    def __init__(self, settings: HttpSettings, node: str) -> None:
        self.settings = settings
        self._queue: asyncio.Queue[Message] = asyncio.Queue(WAITING)
        self._listening = False

    @property
    def address(self) -> str:
        """The API's base URL as configured."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self.settings.port}"

    async def submit(self, body: bytes) -> Answer:
        """Called by the API for each POST.

        Returns what the engine says, or that nobody listens (any more).
        """
        if not self._listening:
            return Answer(
                "",
                AnswerKind.UNAVAILABLE,
                (Problem("", "the daemon is starting or shutting down"),),
            )
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def answer(words: Answer) -> None:
            if not answered.done():
                answered.set_result(words)

        try:
            self._queue.put_nowait(Message(body, self.name, answer=answer))
        except asyncio.QueueFull:
            return Answer("", AnswerKind.BUSY, (Problem("", f"{WAITING} requests are waiting"),))
        return await answered

    async def connect(self) -> None:
        """The API is there before the source is."""
        self._listening = True

    async def receive(self) -> Message:
        """The next body."""
        return await self._queue.get()

    async def close(self) -> None:
        """Take no more, and tell those who wait."""
        self._listening = False
        while not self._queue.empty():
            message = self._queue.get_nowait()
            if message.answer:
                message.answer(
                    Answer(
                        "", AnswerKind.UNAVAILABLE, (Problem("", "the daemon is shutting down"),)
                    )
                )
