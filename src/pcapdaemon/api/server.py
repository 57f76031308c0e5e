"""The API's socket, and its access control."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from pcapdaemon.api.access import NOTHING, Door, Peer
from pcapdaemon.api.connection import Connection
from pcapdaemon.api.listening import Address, Tcp, Unix
from pcapdaemon.api.problems import WRONG_TOKEN_DELAY, problem
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.events import Publish
from pcapdaemon.core.network import is_loopback
from pcapdaemon.core.node_events import TokenRefused
from pcapdaemon.sources.http import HttpSettings
from pcapdaemon.threads import Few
from pcapdaemon.trust.requesters import Requesters

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]


HEADERS = [
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
"""Headers of every response, unless it has its own: records and packets belong in no cache."""


MOST_THREADS = 16
"""Most threads that answer requests at the same time: any client could make them without end."""


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
        refusal = await self._refusal(scope)
        if refusal and refusal.status_code in (401, 403):
            self._server.publish(TokenRefused((scope["client"] or ("",))[0]))
            await asyncio.sleep(WRONG_TOKEN_DELAY)
        if scope["method"] == "HEAD":  # uvicorn leaves out the body
            scope = {**scope, "method": "GET", "head": True}
        with contextlib.suppress(ClientDisconnect):
            await (refusal or self._server.app)(scope, receive, _with_headers(send))

    async def _refusal(self, scope: Scope) -> Response | None:
        """Return why a request is refused, or None. The scope then says who sent it."""
        server, headers, path = self._server, dict(scope["headers"]), scope["path"]
        scope["threads"] = server.threads
        name = _host_name(headers.get(b"host", b""))
        if self._is_rebound(name):
            return problem(
                421, "use localhost or 127.0.0.1, or add the name to [http] names", host=name
            )
        if server.needs_no_token(path):
            scope["caller"] = server.door.nobody
            return None
        peer = scope.get("state", {}).get("peer") or Peer()
        caller = await server.door.caller(headers.get(b"authorization", b""), peer)
        if caller is None:
            return problem(401, "send the header 'Authorization: Bearer TOKEN'")
        # a signed message says itself who sent it
        signable = (scope["method"], path) == ("POST", "/captures")
        if caller.rights is NOTHING and not signable:
            words = f"{caller.name} may do nothing here: no valid [[requester]] has this name"
            return problem(403, words)
        scope["caller"] = caller
        return None

    def _is_rebound(self, name: str) -> bool:
        """Return whether a page in a browser may have reached a loopback address by a name."""
        settings = self._server.settings
        of_host = isinstance(self._server.address, Unix) or not is_loopback(settings.host)
        return not (of_host or is_loopback(name) or name in settings.names)


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


def _config(app: Any, address: Address) -> uvicorn.Config:
    tls = address if isinstance(address, Tcp) else Tcp("", 0)
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        http=Connection,
        server_header=False,
        proxy_headers=False,  # any client could pretend to be another
        lifespan="off",
        ssl_certfile=tls.certificate,
        ssl_keyfile=tls.key,
        ssl_ca_certs=tls.clients,
        # who has none may show a token
        ssl_cert_reqs=ssl.CERT_OPTIONAL if tls.clients else ssl.CERT_NONE,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._exits = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the daemon handles signals

    def exit(self) -> None:
        """End the main loop."""
        self.should_exit = True
        self._exits.set()

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second, which is most of the CPU of a daemon at rest
        while not await self.on_tick(0):  # 0 is when it sets the time of the Date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exits.wait(), 1)


class ApiServer:
    """The API on one socket.

    The constructor binds the socket, and raises ConfigError if that fails. `settings`, `app`,
    `is_open` and `door` may be replaced. `is_open` returns whether a path needs no token.
    """

    def __init__(self, settings: HttpSettings, publish: Publish, address: Address) -> None:
        self.settings, self.publish, self.address = settings, publish, address
        self.app: Asgi = _not_yet
        self.is_open: Callable[[str], bool] = lambda path: False
        self.door = Door(settings, Requesters((), ()))
        self.threads = Few(MOST_THREADS)
        self._socket = address.bind()
        self.port: int = self._socket.getsockname()[1] if isinstance(address, Tcp) else 0
        self._config = _config(Guard(self), address)
        self._server = _Server(self._config)

    def reload_certificates(self) -> None:
        """Use the files of TLS as they are now, for new connections. Raises ConfigError."""
        address = self.address
        if isinstance(address, Tcp) and address.certificate and self._config.ssl:
            try:
                self._config.ssl.load_cert_chain(address.certificate, address.key)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError([f"[http] certificate_file: {error}"]) from None

    def needs_no_token(self, path: str) -> bool:
        """Return whether requests to a path need no token of the API."""
        return path == "/healthz" or self.is_open(path)

    async def serve(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._socket])

    def abandon(self) -> None:
        """Close the socket of a server that does not serve."""
        self._socket.close()
        self.address.gone()

    async def stop(self) -> None:
        """Stop listening, and return when the socket is closed.

        `serve` ends when the responses in progress are sent.
        """
        self._server.exit()
        # uvicorn has no event that says when it has closed the socket
        while self._server.started and self._socket.fileno() >= 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        self._socket.close()

    def abort(self) -> None:
        """End `serve` now, even if clients still wait."""
        self._server.force_exit = True
        self._server.exit()


async def _not_yet(scope: Scope, receive: Any, send: Any) -> None:
    await problem(503, "the daemon is starting")(scope, receive, send)
