"""Routes of the fleet: its nodes, requests to all of them, and their savefiles in one."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from pcapdaemon.api.access import fetched, refuse_other_users, refuse_without
from pcapdaemon.api.bodies import read_body, refuse_all_but_json
from pcapdaemon.api.problems import Responses
from pcapdaemon.api.savefiles import SavefileOf
from pcapdaemon.core.errors import NotASavefile, NotConnected
from pcapdaemon.core.events import Publish
from pcapdaemon.core.message import UnreadableMessage, read
from pcapdaemon.core.text import path_safe
from pcapdaemon.decode.reading import packets
from pcapdaemon.fleet.fetch import Fetcher, NotFetched
from pcapdaemon.fleet.watch import FleetWatch
from pcapdaemon.node import Node
from pcapdaemon.savefile.merging import Part, merged
from pcapdaemon.sources.base import Source
from pcapdaemon.sources.http import HttpSettings, HttpSource
from pcapdaemon.threads import run_in_thread

EVERY = 1.0
"""Seconds between two reports of what changed."""

MOST_FILES = 1000
"""Most savefiles that are merged."""


class FleetRoutes:
    """The routes, and the watch that knows the fleet. It is kept while it is off."""

    def __init__(
        self,
        savefile_of: SavefileOf,
        node: Node,
        closing: Callable[[], asyncio.Event],
        sign: Callable[[Mapping[str, Any]], dict[str, Any]],
        publish: Publish,
    ) -> None:
        self._savefile_of, self._node, self._closing = savefile_of, node, closing
        self._publish = publish
        self._watch = FleetWatch(sign)
        self._settings = HttpSettings()
        self._merging = asyncio.Semaphore(1)

    @property
    def is_on(self) -> bool:
        """Whether it watches."""
        return self._watch.is_on

    async def watch(self, sources: Mapping[str, Source], keys: Sequence[str]) -> None:
        """Watch the results on the buses among these sources, or nothing.

        With the public keys of nodes, only what they signed counts.
        """
        http = sources.get("http")
        self._settings = http.settings if isinstance(http, HttpSource) else self._settings
        await self._watch.configure(sources, keys)

    def add_to(self, app: FastAPI, refusals: Responses) -> None:
        """Add the routes to an application."""
        add, one = app.add_api_route, "/fleet/captures/{request_id:path}"
        unknown: Responses = {404: refusals[404]}
        sent: Responses = {status: refusals[status] for status in (400, 404, 413, 415, 503)}
        see_all = [Depends(_refuse_narrow)]  # before the response begins
        add("/fleet/events", self.events, response_class=EventSourceResponse, dependencies=see_all)
        add("/fleet", self.fleet, dependencies=see_all)
        add("/fleet/captures", self.start, methods=["POST"], status_code=202, responses=sent)
        merged_answers: Responses = {status: refusals[status] for status in (403, 404, 422)}
        add(one + "/merged", self.merged, response_class=Response, responses=merged_answers)
        add(one, self.request, responses=unknown, dependencies=see_all)
        add(one, self.end, methods=["DELETE"], status_code=202, responses=sent)

    def is_open(self, path: str) -> bool:
        """Return that no path is open."""
        return False

    async def fleet(self) -> dict[str, Any]:
        """Return the nodes that were heard of, requests on them, and whether the buses work."""
        return self._since(-1)

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """Send what is known of the fleet, and then every second what changed."""
        change, buses, closing = -1, None, self._closing()
        while self._watch.is_on and not closing.is_set():
            found = self._since(change)
            if (found["change"], found["buses"]) != (change, buses):
                yield ServerSentEvent(event="fleet", raw_data=json.dumps(found))
            change, buses = found["change"], found["buses"]
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await closing.wait()

    async def request(self, request_id: str) -> dict[str, Any]:
        """Return what each node reported of a request."""
        found = self._watch.state.requests.get(request_id)
        if found is None:
            raise HTTPException(404, f"no node has reported a request {request_id!r}")
        return {**found.summary(), "records": found.followed.records}

    async def start(
        self,
        request: Request,
        bus: str = Query("", description="The bus to send it on. Empty: the first."),
    ) -> dict[str, Any]:
        """Send a request to the fleet over a bus. The nodes that it names do what it says."""
        refuse_without(request, "fleet", None)
        await refuse_other_users(request, self._settings)
        refuse_all_but_json(request)
        try:
            message = read(await read_body(request))
        except UnreadableMessage as error:
            raise HTTPException(400, str(error)) from None
        if {"cancel", "list"} & message.keys():
            raise HTTPException(400, "only requests for captures can be sent here")
        return await self._send(message, bus)

    async def end(self, request: Request, request_id: str) -> dict[str, Any]:
        """End a request on all nodes."""
        refuse_without(request, "fleet", None)
        await refuse_other_users(request, self._settings)
        try:
            await self._watch.cancel(request_id)
        except NotConnected as error:
            raise HTTPException(503, str(error)) from None
        return {"id": request_id}

    async def merged(self, request: Request, request_id: str) -> Response:
        """Return one pcapng file of all nodes' savefiles of a request, in time order.

        It has those that this node can read: its own, those in its bucket, and those of nodes from
        which `[console] fetch_from` allows to fetch. If one of them is missing,
        the answer is 422 and names it; `?partial=true` leaves it out.
        """
        if not self._node.console().download:
            raise HTTPException(403, "this node does not allow it: [console] download = false")
        refuse_without(request, "fetch-all", None)
        await refuse_other_users(request, self._settings)
        found = await self.request(request_id)
        partial = request.query_params.get("partial") == "true"
        stack = AsyncExitStack()
        await self._merging.acquire()  # until all is sent: it takes space for temporary files
        stack.callback(self._merging.release)
        try:
            parts, missing = await self._parts(found["records"], request_id, stack)
            if not parts or (missing and not partial):
                words = "; ".join(missing) or "no node has reported a savefile"
                raise HTTPException(422 if missing else 404, words)
        except BaseException:
            await stack.aclose()
            raise
        comment = f"request {request_id}" + "".join(f"\nmissing: {words}" for words in missing)
        name = f"{path_safe(request_id, 120)}.pcapng"
        self._publish(fetched(request, request_id, name))
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        pieces = _pieces(parts, comment, stack)
        return StreamingResponse(pieces, 200, headers, media_type="application/x-pcapng")

    async def _parts(
        self, records: Mapping[str, Any], request_id: str, stack: AsyncExitStack
    ) -> tuple[list[Part], list[str]]:
        """Open the savefiles of all nodes; return them, and why others can't be opened."""
        parts: list[Part] = []
        missing: list[str] = []
        fetcher = Fetcher(self._node.console())
        stack.push_async_callback(fetcher.close)
        for node, record in records.items():
            for capture in record.get("captures") or ():
                if not (name := capture.get("file_name")):
                    continue
                try:
                    if len(parts) >= MOST_FILES:
                        raise NotFetched(f"more than {MOST_FILES} savefiles are not merged")
                    file = await self._open(node, request_id, name, capture, fetcher)
                    stack.callback(file.close)
                    await run_in_thread(_check, file)
                except (NotFetched, NotASavefile) as error:
                    missing.append(f"{node}: {name}: {error}")
                    continue
                parts.append(Part(node, file, capture["interface"], self._clock(node)))
        return parts, missing

    async def _open(
        self, node: str, request_id: str, name: str, capture: Mapping[str, Any], fetcher: Fetcher
    ) -> Any:
        receipts, own = capture.get("delivered") or {}, node == self._node.name
        # another node's directory is not this one's, even if it has the same name
        places = {one: it["where"] for one, it in receipts.items() if own or one != "local"}
        if there := await self._savefile_of(request_id, name if own else "", places):
            return there
        seen = self._watch.state.nodes.get(node)
        url = seen.presence.get("url", "") if seen else ""
        return await fetcher.fetch(url, request_id, name)

    def _clock(self, node: str) -> str:
        """Return what is known of a node's clock, for the description of its interfaces."""
        seen = self._watch.state.nodes.get(node)
        if seen is None or seen.clock is None:
            return ""
        way = "ahead of" if seen.clock > 0 else "behind"
        return f"its clock seems to be {abs(seen.clock):.3f} s {way} the console's"

    async def _send(self, message: Mapping[str, Any], bus: str) -> dict[str, Any]:
        if not self._watch.buses:
            raise HTTPException(
                503, "no bus of this node has a place for results; set results in its section"
            )
        if bus and bus not in self._watch.buses:
            known = ", ".join(self._watch.buses)
            raise HTTPException(404, f"the fleet is not on {bus!r}, but on {known}")
        try:
            return await self._watch.request(message, bus)
        except NotConnected as error:
            raise HTTPException(503, str(error)) from None

    def _since(self, change: int) -> dict[str, Any]:
        now = time.time()
        return {"at": now, "buses": dict(self._watch.buses), **self._watch.state.since(change, now)}


def _refuse_narrow(request: Request) -> None:
    refuse_without(request, "list-all", None)


def _check(file: Any) -> None:
    """Raise NotASavefile unless a file begins like one, before the answer begins."""
    next(packets(file), None)
    file.seek(0)


async def _pieces(parts: list[Part], comment: str, stack: AsyncExitStack) -> AsyncIterator[bytes]:
    async with stack:
        pieces = merged(parts, comment)
        while (piece := await run_in_thread(next, pieces, b"")) != b"":
            yield piece
