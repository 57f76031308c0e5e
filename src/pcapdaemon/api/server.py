"""The API's socket, and its access control."""

import asyncio
import contextlib
import hmac
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from pcapdaemon.api.connection import Connection
from pcapdaemon.api.problems import WRONG_TOKEN_DELAY, problem
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.events import Publish
from pcapdaemon.core.network import is_loopback
from pcapdaemon.core.node_events import TokenRefused
from pcapdaemon.sources.http import HttpSettings, address_family

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]


HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
"""Headers of every response, unless it has its own: records and packets belong in no cache."""


class Guard:
    """Rejects unauthorized requests, and adds headers for browsers to all responses.

    If a token is configured, every request needs it. `/healthz` does not, because it reveals
    nothing and probes use it, nor do paths that `is_open` names: the page that asks for the token,
    links that are secrets, and triggers that check their senders themselves.

    On loopback, the `Host` header must name loopback. Otherwise a page in a browser on this host
    could reach the API through a name that resolves to 127.0.0.1 (DNS rebinding).
    """

    def __init__(self, server: "ApiServer") -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve an ASGI scope, or reject it."""
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        if refusal and refusal.status_code == 401:
            self._server.publish(TokenRefused((scope["client"] or ("",))[0]))
            await asyncio.sleep(WRONG_TOKEN_DELAY)
        if scope["method"] == "HEAD":  # uvicorn leaves out the body
            scope = {**scope, "method": "GET", "head": True}
        with contextlib.suppress(ClientDisconnect):
            await (refusal or self._server.app)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        settings, headers = self._server.settings, dict(scope["headers"])
        name = _host_name(headers.get(b"host", b""))
        if is_loopback(settings.host) and not (is_loopback(name) or name in settings.names):
            return problem(
                421, "use localhost or 127.0.0.1, or add the name to [http] names", host=name
            )
        if settings.token is not None and not self._server.needs_no_token(scope["path"]):
            scheme, _, shown = headers.get(b"authorization", b"").partition(b" ")
            right = hmac.compare_digest(shown.strip(), settings.token.get_secret_value().encode())
            if scheme.lower() != b"bearer" or not right:
                return problem(401, "send the header 'Authorization: Bearer TOKEN'")
        return None


def _with_headers(send: Any) -> Any:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message["headers"]}
            more = [header for header in HEADERS if header[0] not in names]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+?)\.?)(?::\d+)?", re.IGNORECASE)


def _host_name(header: bytes) -> str:
    """Return the name or address in a Host header, without port and brackets.

    Returns "" if the header is not valid (RFC 9110 section 7.2).
    """
    found = _HOST.fullmatch(header.decode("latin-1"))
    return (found[1] or found[2]).lower() if found else ""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the daemon handles signals


class ApiServer:
    """The API on its socket.

    The constructor binds the socket, and raises ConfigError if that fails. `settings`, `app` and
    `is_open` may be replaced if host and port stay the same. `is_open` returns whether a path needs
    no token. `closing` is set when endless responses must end.
    """

    def __init__(self, settings: HttpSettings, publish: Publish) -> None:
        self.settings, self.publish = settings, publish
        self.app: Asgi = _not_yet
        self.is_open: Callable[[str], bool] = lambda path: False
        self.closing = asyncio.Event()
        family = address_family(settings.host)
        try:
            self._socket = socket.create_server(
                (settings.host, settings.port), family=family, backlog=1024
            )
        except OSError as error:
            raise ConfigError(
                [f"[http]: can't listen on {settings.host} port {settings.port}: {error.strerror}"],
                "another daemon may be running; choose another port with [http] port",
            ) from None
        # Connections inherit it. asyncio only sets it where the socket names its protocol, and
        # without it each further response on a connection waits 40 ms for the client's ACK.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                Guard(self),
                log_config=None,
                access_log=False,
                http=Connection,
                server_header=False,
                proxy_headers=False,  # any client could pretend to be another
                lifespan="off",
            )
        )

    def needs_no_token(self, path: str) -> bool:
        """Return whether requests to a path need no token of the API."""
        return path == "/healthz" or self.is_open(path)

    async def serve(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._socket])

    async def stop(self) -> None:
        """Stop listening, and return when the socket is closed.

        `serve` ends when the responses in progress are sent.
        """
        self.closing.set()
        self._server.should_exit = True
        # uvicorn has no event to wait for: it looks ten times a second, then closes the socket
        while self._server.started and self._socket.fileno() >= 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        self._socket.close()

    def abort(self) -> None:
        """End `serve` now, even if clients still wait."""
        self._server.should_exit = self._server.force_exit = True


async def _not_yet(scope: Scope, receive: Any, send: Any) -> None:
    await problem(503, "the daemon is starting")(scope, receive, send)
