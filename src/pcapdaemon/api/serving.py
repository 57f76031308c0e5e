"""Which sockets the API listens on, over reloads."""

import asyncio
from collections.abc import Callable, Iterable

from pcapdaemon.api.access import Door
from pcapdaemon.api.listening import Address, Tcp, addresses
from pcapdaemon.api.server import ApiServer, Asgi
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.events import Publish
from pcapdaemon.sources.http import HttpSettings


class Serving:
    """The API's servers, and earlier ones whose last responses are being sent.

    `closing` is set when the responses of the current ones that have no end must end.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._servers: dict[type[Address], ApiServer] = {}
        self._serving: dict[ApiServer, asyncio.Task[None]] = {}
        self.closing = asyncio.Event()
        self._door: Door | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; 0 if it does not."""
        return self._servers[Tcp].port if Tcp in self._servers else 0

    def serve(
        self, app: Asgi, settings: HttpSettings, is_open: Callable[[str], bool], door: Door
    ) -> None:
        """Serve this application from now on, if it listens.

        `is_open` returns whether a path needs no token. `door` recognizes callers.
        """
        for server in self._servers.values():
            server.settings, server.app = settings, app
            server.is_open, server.door = is_open, door
            if server not in self._serving:
                self._serving[server] = asyncio.create_task(server.serve())

    async def move(self, http: HttpSettings | None, renewed: bool = False) -> None:
        """Listen on the configured addresses, or not at all.

        With `renewed`, the files of TLS were replaced. If it fails, the old addresses are kept.
        Raises ConfigError.
        """
        if renewed:
            for server in self._servers.values():
                server.reload_certificates()
        wanted, settings = addresses(http), http or HttpSettings()
        current = {kind: server.address for kind, server in self._servers.items()}
        changed = [kind for kind in wanted if wanted[kind] != current.get(kind)]
        # what holds the port that is needed must go first
        first = {
            kind: self._servers[kind]
            for kind in changed
            if kind in current and current[kind].excludes(wanted[kind])
        }
        await self._stop(first)
        made: dict[type[Address], ApiServer] = {}
        try:
            for kind in changed:
                made[kind] = ApiServer(settings, self._publish, wanted[kind])
        except ConfigError:
            for server in made.values():
                server.abandon()
            self._resume(first)
            raise
        await self._stop([kind for kind in self._servers if kind in made or kind not in wanted])
        self._servers.update(made)

    def _resume(self, before: dict[type[Address], ApiServer]) -> None:
        for kind, old in before.items():
            made = ApiServer(old.settings, self._publish, old.address)
            made.app, made.is_open, made.door = old.app, old.is_open, old.door
            self._servers[kind] = made
            self._serving[made] = asyncio.create_task(made.serve())

    def change(self, door: Door) -> None:
        """End the responses without an end if other callers, or other rights, count from now on."""
        if self._door and self._door.differs(door):
            self._end_streams()
        self._door = door

    def _end_streams(self) -> None:
        self.closing.set()
        self.closing = asyncio.Event()

    async def close(self, seconds: float) -> None:
        """Stop listening. Clients that wait for an answer may wait this many seconds."""
        await self._stop(list(self._servers))
        if self._serving:
            await asyncio.wait(self._serving.values(), timeout=seconds)
            for server in self._serving:
                server.abort()
            await asyncio.gather(*self._serving.values(), return_exceptions=True)

    async def _stop(self, kinds: Iterable[type[Address]]) -> None:
        stopped = [self._servers.pop(kind) for kind in kinds]
        if stopped:
            self._end_streams()
        for server in stopped:
            await server.stop()
            server.address.gone()
