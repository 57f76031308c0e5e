"""Which socket the API listens on, over reloads."""

import asyncio
from collections.abc import Callable

from pcapdaemon.api.server import ApiServer, Asgi
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.events import Publish
from pcapdaemon.sources.http import HttpSettings


class Serving:
    """The API's server, and earlier ones whose last responses are being sent."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._server: ApiServer | None = None
        self._serving: dict[ApiServer, asyncio.Task[None]] = {}

    @property
    def port(self) -> int:
        """The port that it listens on; 0 if it does not."""
        return self._server.port if self._server else 0

    @property
    def closing(self) -> asyncio.Event:
        """Set when the responses of the current server that have no end must end."""
        return self._server.closing if self._server else asyncio.Event()

    def serve(self, app: Asgi, settings: HttpSettings, is_open: Callable[[str], bool]) -> None:
        """Serve this application from now on, if it listens.

        `is_open` returns whether a path needs no token.
        """
        if (server := self._server) is None:
            return
        server.settings, server.app, server.is_open = settings, app, is_open
        if server not in self._serving:
            self._serving[server] = asyncio.create_task(server.serve())

    async def move(self, http: HttpSettings | None) -> None:
        """Listen on the configured address, or not at all.

        If that fails, the old one is kept. Raises ConfigError.
        """
        server = self._server
        old = server.settings if server else None
        if http and old and (http.host, http.port) == (old.host, old.port):
            return
        if old and http and http.port == old.port:
            await self._stop()  # it holds the same port on another address
        try:
            made = ApiServer(http, self._publish) if http else None
        except ConfigError:
            if self._server is None and old and server:
                self._server = ApiServer(old, self._publish)
                self.serve(server.app, old, server.is_open)
            raise
        await self._stop()
        self._server = made

    async def close(self, seconds: float) -> None:
        """Stop listening. Clients that wait for an answer may wait this many seconds."""
        await self._stop()
        if self._serving:
            await asyncio.wait(self._serving.values(), timeout=seconds)
            for server in self._serving:
                server.abort()
            await asyncio.gather(*self._serving.values(), return_exceptions=True)

    async def _stop(self) -> None:
        server, self._server = self._server, None
        if server:
            await server.stop()
