"""The API's socket, and who may come in."""

import asyncio
import contextlib
import hmac
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import uvicorn
from fastapi.responses import Response

from pcapdaemon.api.problems import problem
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.sources.http import HttpSettings, address_family, is_loopback

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]


class Guard:
    """Lets nobody in but who may.

    A bearer token where there is one, and on loopback no web page under a foreign name.

    A page in a browser on this machine can reach loopback by a name of its own that resolves to
    127.0.0.1; its `Host` gives it away. `/healthz` says nothing and needs no token, so that a probe
    can ask it.
    """

    def __init__(self, server: "ApiServer") -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """One request, or one life of the application."""
        if scope["type"] == "http" and (refusal := self._refusal(scope)) is not None:
            await refusal(scope, receive, send)
        else:
            await self._server.app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        settings, headers = self._server.settings, dict(scope["headers"])
        if is_loopback(settings.host) and not is_loopback(_host_name(headers.get(b"host", b""))):
            return problem(421, "use the name localhost or the address 127.0.0.1")
        if settings.token is not None and scope["path"] != "/healthz":
            scheme, _, shown = headers.get(b"authorization", b"").partition(b" ")
            right = hmac.compare_digest(shown.strip(), settings.token.get_secret_value().encode())
            if scheme.lower() != b"bearer" or not right:
                return problem(401, "send the header 'Authorization: Bearer TOKEN'")
        return None


_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]]+?)\.?)(?::\d+)?", re.IGNORECASE)


def _host_name(header: bytes) -> str:
    """The name or address in a Host header, without port and brackets (RFC 9110 section 7.2).

    Empty if it is none.
    """
    found = _HOST.fullmatch(header.decode("latin-1"))
    return (found[1] or found[2]).lower() if found else ""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the daemon owns the signals


class ApiServer:
    """The API on its socket, bound when made.

    `settings` and `app` may be replaced as long as host and port stay.

    `closing` is set when answers that have no end must end.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        self.app: Asgi = _not_yet
        self.closing = asyncio.Event()
        family = address_family(settings.host)
        try:
            self._socket = socket.create_server(
                (settings.host, settings.port), family=family, backlog=1024
            )
        except OSError as error:
            raise ConfigError(
                [f"[http]: can't listen on {settings.host} port {settings.port}: {error.strerror}"],
                "another daemon may be running; choose another port by [http] port",
            ) from None
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                Guard(self),
                log_config=None,
                access_log=False,
                limit_concurrency=2000,
                server_header=False,
                lifespan="off",
            )
        )

    async def serve(self) -> None:
        """Serve until `stop`."""
        await self._server.serve(sockets=[self._socket])

    async def stop(self) -> None:
        """Return when nobody listens any more.

        `serve` ends when the answers that are under way are given.
        """
        self.closing.set()
        self._server.should_exit = True
        # uvicorn has no event for it
        while self._server.started and self._socket.fileno() >= 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # uvicorn looks ten times a second, and closes the socket
        self._socket.close()

    def abort(self) -> None:
        """End `serve` though somebody waits."""
        self._server.should_exit = self._server.force_exit = True


async def _not_yet(scope: Scope, receive: Any, send: Any) -> None:
    await problem(503, "the daemon is starting")(scope, receive, send)
