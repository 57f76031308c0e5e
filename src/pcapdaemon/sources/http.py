"""Requests over HTTP.

`POST /captures` of the API is a source like any other. api/ serves it.
"""

import asyncio
import errno
import socket
import ssl

from pydantic import Field, model_validator

from pcapdaemon.core.answers import Answer, AnswerKind
from pcapdaemon.core.policy import Strings
from pcapdaemon.core.request import Problem
from pcapdaemon.core.section import Section
from pcapdaemon.secrets import CertificateFile, FileName, HeaderSecret
from pcapdaemon.sources.base import Message, Source

WAITING = 1024
"""Most requests that wait for the engine; further ones are refused as busy."""


def address_family(host: str) -> socket.AddressFamily:
    """Return the family of the socket that listens on an address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def why_not_listening(error: OSError) -> str:
    """Return what to do if a socket can't be bound."""
    if error.errno == errno.EACCES:
        return "ports below 1024 need CAP_NET_BIND_SERVICE; choose another with [http] port"
    if error.errno == errno.EADDRINUSE:
        return "another daemon may be running; choose another port with [http] port"
    wrong_host = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
    return "set [http] host to an address of this host" if wrong_host else ""


class HttpSettings(Section):
    """`[http]`: the API, and requests over it."""

    listen: bool = Field(False, description="Serve the API, and receive requests on it.")
    host: str = Field("127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(8723, ge=0, le=65535, description="The port to listen on; 0: any free port.")
    names: Strings = Field(
        (),
        description=(
            "Names in the `Host` header under which a proxy or a browser reaches the API on"
            " loopback, besides `localhost`."
        ),
    )
    token: HeaderSecret | None = Field(
        None,
        min_length=8,
        description=(
            "Bearer token that clients must send; required if other machines can reach `host`."
        ),
    )

    socket: str | None = Field(
        None,
        pattern=r"^/[!-~]{1,106}$",
        description=(
            "Path of a Unix socket on which the API listens too. The kernel says which user"
            " connects, see `[[requester]] users`. Without a token, only `/healthz` and the console"
            " are then served on the port."
        ),
    )
    certificate_file: FileName | None = Field(
        None, description="File with the certificate and its chain, in PEM: the port speaks TLS."
    )
    key_file: FileName | None = Field(
        None, description="File with the key of the certificate, in PEM, without a passphrase."
    )
    client_ca_file: CertificateFile | None = Field(
        None,
        description=(
            "File with certificates of authorities, in PEM. A client with a certificate from one of"
            " them is recognized, see `[[requester]] certificates`."
        ),
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$",
        description=(
            "The address under which people reach this API and the console, for example"
            " `https://node1.example.com`. The console of the fleet leads there."
        ),
    )

    @model_validator(mode="after")
    def _certificate_with_key(self) -> "HttpSettings":
        files = (self.certificate_file, self.key_file)
        if any(files) and not all(files):
            raise ValueError("certificate_file and key_file need each other")
        if self.client_ca_file and not self.certificate_file:
            raise ValueError("client_ca_file needs certificate_file and key_file")
        if self.certificate_file and self.key_file:
            try:
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                    self.certificate_file, self.key_file, password=lambda: b""
                )
            except (OSError, ssl.SSLError) as error:
                words = f"can't use certificate_file with key_file: {error.strerror or error}"
                raise ValueError(words) from None
        return self


class HttpSource(Source):
    """Passes the bodies of POST requests to the engine, and returns the engine's answers."""

    name = "http"
    Settings = HttpSettings

    def __init__(self, settings: HttpSettings, node: str) -> None:
        self.settings = settings
        self._queue: asyncio.Queue[Message] = asyncio.Queue(WAITING)
        self._listening = False

    @property
    def address(self) -> str:
        """The API's base URL, as configured."""
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        scheme = "https" if self.settings.certificate_file else "http"
        return f"{scheme}://{host}:{self.settings.port}"

    async def submit(
        self, body: bytes, requester: str = "", stream: int = 0, exclude: str = ""
    ) -> Answer:
        """Pass the body of a request to the engine, and wait for its answer.

        The API calls this for each POST. The answer is UNAVAILABLE while the daemon starts or shuts
        down, and BUSY if too many requests wait. The others are those of a Message.
        """
        if not self._listening:
            return Answer(
                "",
                AnswerKind.UNAVAILABLE,
                (Problem("", "the daemon is starting or shutting down"),),
            )
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def answer(reply: Answer) -> None:
            if not answered.done():
                answered.set_result(reply)

        try:
            self._queue.put_nowait(
                Message(
                    body,
                    self.name,
                    answer=answer,
                    stream=stream,
                    exclude=exclude,
                    requester=requester,
                )
            )
        except asyncio.QueueFull:
            return Answer("", AnswerKind.BUSY, (Problem("", f"{WAITING} requests are waiting"),))
        return await answered

    async def connect(self) -> None:
        """Accept requests from now on; the API already runs."""
        self._listening = True

    async def receive(self) -> Message:
        """Return the next request."""
        return await self._queue.get()

    async def close(self) -> None:
        """Refuse new requests, and answer those that wait with UNAVAILABLE."""
        self._listening = False
        while not self._queue.empty():
            message = self._queue.get_nowait()
            if message.answer:
                message.answer(
                    Answer(
                        "", AnswerKind.UNAVAILABLE, (Problem("", "the daemon is shutting down"),)
                    )
                )
