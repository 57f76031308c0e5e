"""Routes that describe this node: `/about`, `/interfaces`, `/rates`, `/filters`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ConfigDict, Field

from pcapdaemon.api.access import caller_of, in_thread, refuse_narrow
from pcapdaemon.api.bodies import read_json
from pcapdaemon.api.problems import Responses
from pcapdaemon.core.wire import to_wire
from pcapdaemon.node import Node
from pcapdaemon.threads import run_in_thread

EVERY = 1.0
"""Seconds between two reports of the rates."""

CHECKED_AT_ONCE = 2
"""Most filters that are compiled at the same time."""


class FilterToCheck(BaseModel):
    """A capture filter, and the interface that it is meant for."""

    model_config = ConfigDict(strict=True, extra="forbid")

    bpf: str = Field("", max_length=65536, description="The capture filter.")
    interface: str = Field("", max_length=255, description="The interface. Empty: Ethernet.")


class NodeRoutes:
    """The routes. `closing` is set when endless responses must end."""

    def __init__(self, node: Node, closing: asyncio.Event) -> None:
        self._node, self._closing = node, closing
        self._checking, self._counting = asyncio.Semaphore(CHECKED_AT_ONCE), asyncio.Semaphore(1)
        self._levels: dict[str, Any] = {}
        self._looked = 0.0

    def add_to(self, app: FastAPI, refusals: Responses) -> None:
        """Add the routes to an application."""
        add = app.add_api_route
        add("/about", self.about)
        add("/interfaces", self.interfaces)
        whole = [Depends(refuse_narrow)]  # before the response begins
        path: str = "/recorders/{interface:path}/rates"
        unknown: Responses = {404: refusals[404]}
        add(path, self.recorded, responses=unknown, dependencies=whole)
        add("/rates", self.rates, response_class=EventSourceResponse, dependencies=whole)
        wrong: Responses = {status: refusals[status] for status in (413, 415, 422)}
        schema = {"application/json": {"schema": FilterToCheck.model_json_schema()}}
        body = {"requestBody": {"required": True, "content": schema}}
        add("/filters", self.filters, methods=["POST"], responses=wrong, openapi_extra=body)

    def is_open(self, path: str) -> bool:
        """Return that no path is open."""
        return False

    async def about(self, request: Request) -> dict[str, Any]:
        """Return the name, version, limits, defaults and profiles of this node, and its servers."""
        return self._node.about(caller_of(request).rights)

    async def interfaces(self, request: Request) -> list[dict[str, Any]]:
        """Return the interfaces of this host, and which of them may be captured on.

        A requester sees those that its `interfaces` allow.
        """
        return await in_thread(request, self._node.interfaces, caller_of(request).rights)

    async def recorded(self, interface: str) -> dict[str, Any]:
        """Return how many packets, and bytes on the wire, a second a recorder has over time."""
        async with self._counting:  # it holds a block of the recorder meanwhile
            found = await run_in_thread(self._node.rates, interface)
        if found is None:
            raise HTTPException(404, f"interface {interface!r} has no recorder")
        rates: dict[str, Any] = to_wire(found)
        return rates

    async def rates(self) -> AsyncIterator[ServerSentEvent]:
        """Send the traffic, memory and recorders of this node every second, as server-sent events.

        The counters grow from the start of the host on. Clients calculate rates from two events.
        """
        closing = self._closing
        while not closing.is_set():
            yield ServerSentEvent(event="levels", raw_data=json.dumps(self._latest()))
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await closing.wait()

    def _latest(self) -> dict[str, Any]:
        """Return the levels of this moment. All clients within a second receive the same."""
        if time.monotonic() - self._looked > EVERY * 0.9:
            self._levels, self._looked = self._node.levels(), time.monotonic()
        return self._levels

    async def filters(self, request: Request) -> dict[str, Any]:
        """Check a capture filter as it is typed: whether it compiles, and if not, why not."""
        asked = await read_json(request, FilterToCheck)
        async with self._checking:
            if await request.is_disconnected():  # the next letter was typed
                raise HTTPException(400, "the client is gone")
            return await run_in_thread(self._node.check_filter, asked.bpf, asked.interface)
