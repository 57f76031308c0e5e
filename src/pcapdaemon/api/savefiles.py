"""Routes of savefiles: the files, links to them, and what is in them."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response

from pcapdaemon.api.access import caller_of, fetched, refuse_other_users, refuse_without
from pcapdaemon.api.files import respond
from pcapdaemon.api.problems import Responses
from pcapdaemon.console.settings import ConsoleSettings
from pcapdaemon.core.errors import NotASavefile
from pcapdaemon.core.events import Publish
from pcapdaemon.results.history import History
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.sources.http import HttpSource
from pcapdaemon.threads import run_in_thread

SavefileOf = Callable[[str, str, Mapping[str, str]], Awaitable[Savefile | None]]
"""Returns a savefile by the request's id, its name, and where each destination has it.

The caller must close it.
"""

DOWNLOADS = "/downloads/"

LINK_LIVES = 60.0
"""Seconds in which a link can be used, once."""

MOST_LINKS = 256
"""Most links that can be used at the same time. A further one replaces the oldest."""


@dataclass(frozen=True, slots=True)
class _Link:
    request_id: str
    name: str
    until: float


def _preview() -> Any:
    from pcapdaemon.decode import preview  # noqa: PLC0415  # few nodes show packets

    return preview


class SavefileRoutes:
    """The routes. `savefile_of` finds what this node still has."""

    def __init__(
        self,
        history: History,
        source: HttpSource,
        savefile_of: SavefileOf,
        settings: Callable[[], ConsoleSettings],
        publish: Publish,
    ) -> None:
        self._history, self._source, self._publish = history, source, publish
        self._savefile_of, self._settings = savefile_of, settings
        self._links: dict[str, _Link] = {}
        self._reading = asyncio.Semaphore(1)

    def add_to(self, app: FastAPI, refusals: Responses) -> None:
        """Add the routes to an application."""
        add, path = app.add_api_route, "/captures/{request_id:path}/files/{name}"
        missing: Responses = {status: refusals[status] for status in (403, 404)}
        add(path + "/packets", self.packets, responses={**missing, 422: refusals[422]})
        add(path + "/summary", self.summary, responses={**missing, 422: refusals[422]})
        add(path + "/link", self.link, methods=["POST"], status_code=201, responses=missing)
        answers: Responses = {**missing, 416: refusals[416]}
        add(path, self.file, response_class=Response, responses=answers)
        add(DOWNLOADS + "{secret}", self.download, response_class=Response, responses=missing)

    def is_open(self, path: str) -> bool:
        """Return whether a path needs no token, because it is a secret itself."""
        return path.startswith(DOWNLOADS)

    async def file(
        self,
        request: Request,
        request_id: str,
        name: str,
        wanted: str | None = Header(None, alias="range"),
    ) -> Response:
        """Return a savefile of a request, from the local directory or the spool.

        Without a token, only root and the daemon's own user may have it.
        """
        if record := self._record_at(request):
            return JSONResponse(record)  # an id may look like this
        await self._refuse_strangers(request, request_id, self._settings().download, "download")
        savefile = await self._savefile(request_id, name)
        self._publish(fetched(request, request_id, name))
        return respond(savefile, name, wanted)

    async def packets(
        self,
        request: Request,
        request_id: str,
        name: str,
        first: int = Query(1, ge=1, description="Number of the first packet."),
        limit: int = Query(100, ge=1, le=1000, description="Most packets."),
        with_bytes: bool = Query(
            False,
            alias="bytes",
            description="With the bytes in hexadecimal, of one packet (`limit=1`).",
        ),
    ) -> Any:
        """Return packets of a savefile in words: addresses, protocol, and what it says.

        It is a first look; Wireshark decodes everything else.
        """
        if record := self._record_at(request):
            return record
        console = self._settings()
        await self._refuse_strangers(request, request_id, console.preview, "preview")
        if with_bytes and not console.download:
            raise HTTPException(403, "the bytes of packets are not shown: [console] download")
        if with_bytes and limit != 1:
            raise HTTPException(422, "with bytes=true, limit must be 1")
        read = _preview().bytes_of if with_bytes else _preview().some
        found = await self._read(request_id, name, read, first, limit)
        self._publish(fetched(request, request_id, name))
        return {"packets": found}

    async def summary(self, request: Request, request_id: str, name: str) -> Any:
        """Return what is in a savefile: packets over time, protocols, and who talks to whom.

        `whole` is false if it only counts the first part of the file.
        """
        if record := self._record_at(request):
            return record
        await self._refuse_strangers(request, request_id, self._settings().preview, "preview")
        found = await self._read(request_id, name, _preview().summary)
        self._publish(fetched(request, request_id, name))
        return found

    async def link(self, request: Request, request_id: str, name: str) -> dict[str, Any]:
        """Return a path at which the savefile can be fetched once within a minute, without a token.

        It is for browsers, which can't send a token when they download.
        """
        await self._refuse_strangers(request, request_id, self._settings().download, "download")
        (await self._savefile(request_id, name)).close()
        self._publish(fetched(request, request_id, name))
        now = time.monotonic()
        self._links = {key: one for key, one in self._links.items() if one.until > now}
        while len(self._links) >= MOST_LINKS:
            del self._links[next(iter(self._links))]
        secret = secrets.token_urlsafe(32)
        self._links[secret] = _Link(request_id, name, now + LINK_LIVES)
        return {"href": DOWNLOADS + secret, "seconds": LINK_LIVES}

    async def download(self, request: Request, secret: str) -> Response:
        """Return the savefile of a link. The link ends with this."""
        link = self._links.get(secret)
        if not request.scope.get("head"):  # a program may ask first what it would get
            self._links.pop(secret, None)
        if not self._settings().download:
            raise HTTPException(404, "this node does not allow it: [console] download = false")
        if link is None or link.until < time.monotonic():
            words = "the link was used, or is older than a minute; request a new one"
            raise HTTPException(404, words)
        return respond(await self._savefile(link.request_id, link.name), link.name, None)

    async def _read(self, request_id: str, name: str, read: Callable[..., Any], *how: int) -> Any:
        async with self._reading:  # it takes the time of Python from everything else
            with await self._savefile(request_id, name) as savefile:
                try:
                    return await run_in_thread(read, savefile, *how)
                except NotASavefile as error:
                    raise HTTPException(422, f"the savefile can't be read: {error}") from None

    async def _savefile(self, request_id: str, name: str) -> Savefile:
        places = self._history.places_of(request_id, name)
        if (savefile := await self._savefile_of(request_id, name, places)) is None:
            words = f"this node does not have the savefile {name!r} of request {request_id!r}"
            raise HTTPException(404, words)
        return savefile

    def _record_at(self, request: Request) -> dict[str, Any] | None:
        """Return the record of a request whose id is all of this path, if it may be seen."""
        name = str(request.scope["path"]).removeprefix("/captures/")
        if not caller_of(request).sees(self._history.owner_of(name)):
            return None
        return self._history.as_json(name)

    async def _refuse_strangers(
        self, request: Request, request_id: str, allowed: bool, key: str
    ) -> None:
        if not allowed:
            raise HTTPException(403, f"this node does not allow it: [console] {key} = false")
        refuse_without(request, "fetch", self._history.owner_of(request_id) or "")
        await refuse_other_users(request, self._source.settings)
