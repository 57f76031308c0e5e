"""`POST /stream`: packets as they come, for Wireshark and other programs that read meanwhile."""

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response, StreamingResponse

from pcapdaemon.api.access import refuse_other_users, refuse_without
from pcapdaemon.api.answers import response_to
from pcapdaemon.api.bodies import read_body, refuse_all_but_json
from pcapdaemon.api.problems import Responses
from pcapdaemon.console.settings import ConsoleSettings
from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.message import UnreadableMessage, read
from pcapdaemon.core.request import json_schema
from pcapdaemon.engine import Engine
from pcapdaemon.results.history import History
from pcapdaemon.sources.http import HttpSource

PIPE = 1 << 20
"""Bytes that wait for a slow client, besides the kernel's capture buffer."""

AT_ONCE = 65536
PLAIN = {"format": "pcap", "compress": "none", "merge": False}


class StreamRoutes:
    """The route. A stream is a request like any other, but its packets are not kept."""

    def __init__(
        self,
        engine: Engine,
        history: History,
        source: HttpSource,
        settings: Callable[[], ConsoleSettings],
        closing: asyncio.Event,
    ) -> None:
        self._engine, self._history, self._source = engine, history, source
        self._settings, self._closing = settings, closing
        self._tasks: set[asyncio.Task[None]] = set()

    def add_to(self, app: FastAPI, refusals: Responses) -> None:
        """Add the route to an application."""
        message = {"required": True, "content": {"application/json": {"schema": json_schema()}}}
        answers: Responses = {s: one for s, one in refusals.items() if s not in (416, 422)}
        app.add_api_route(
            "/stream",
            self.stream,
            methods=["POST"],
            response_class=Response,
            responses=answers,
            openapi_extra={"requestBody": message},
        )

    def is_open(self, path: str) -> bool:
        """Return that no path is open."""
        return False

    async def stream(self, request: Request) -> Response:
        """Start a capture on one interface, and return its packets as they come, as a pcap file.

        With `lookback`, it begins with what the recorder has. It ends with the limits of the
        request, when the client is gone, or when callers or their rights change. No savefile is
        kept or delivered.
        """
        refuse_all_but_json(request)
        if not self._settings().download:
            raise HTTPException(403, "this node does not allow it: [console] download = false")
        who = refuse_without(request, "fetch", None).name
        await refuse_other_users(request, self._source.settings)
        body = _of_one_interface(await read_body(request))
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with suppress(OSError):  # this user has too many already, and this one stays small
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE)
        answer = await self._source.submit(body, who, writing, _own_connection(request))
        if answer.kind is not AnswerKind.ACCEPTED:
            os.close(reading)
            os.close(writing)
            return response_to(answer)
        task = asyncio.create_task(self._close_at_the_end(answer.id, writing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        pieces = self._pieces(answer.id, reading)
        kind = "application/vnd.tcpdump.pcap"
        return StreamingResponse(pieces, 200, {"X-Request-Id": _ascii(answer.id)}, media_type=kind)

    async def _close_at_the_end(self, request_id: str, writing: int) -> None:
        try:
            await self._history.finished(request_id)
        finally:
            os.close(writing)

    async def _pieces(self, request_id: str, reading: int) -> AsyncIterator[bytes]:
        reader, file = asyncio.StreamReader(), os.fdopen(reading, "rb", 0)
        opened: Any = file
        closing = asyncio.create_task(self._cancel_at_closing(request_id))
        try:
            opened, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), file
            )
            while piece := await reader.read(AT_ONCE):
                yield piece
        finally:  # also when the client is gone
            closing.cancel()
            self._engine.cancel(request_id, "http")
            opened.close()

    async def _cancel_at_closing(self, request_id: str) -> None:
        await self._closing.wait()
        self._engine.cancel(request_id, "http")


def _of_one_interface(body: bytes) -> bytes:
    """Return a message that asks for a plain pcap file. Raises HTTPException if it can't be one."""
    try:
        fields = read(body)
    except UnreadableMessage as error:
        raise HTTPException(400, str(error)) from None
    if {"cancel", "list", "dryrun"} & fields.keys():
        raise HTTPException(400, "only a request for a capture can be streamed")
    if "jws" in fields:  # the packets would go to whoever sends it, not to whoever signed it
        raise HTTPException(400, "jws: a stream can't be signed; show a token")
    names = fields.get("interface")
    if not isinstance(names, list) or len(names) != 1:
        raise HTTPException(400, "interface: a stream has the packets of one interface")
    return json.dumps({**fields, **PLAIN}).encode()


def _own_connection(request: Request) -> str:
    """Return a filter for the packets of this connection: a stream of them would never end."""
    client, server = request.scope["client"], request.scope["server"]
    return f"tcp port {client[1]} and tcp port {server[1]}" if client and server else ""


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode() if text.isprintable() else ""
