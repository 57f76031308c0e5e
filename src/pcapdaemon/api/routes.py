"""The routes of the HTTP API: requests, their records, events, health."""

from collections.abc import AsyncIterator, Callable, Sequence
from itertools import islice
from typing import Annotated, Any, Protocol

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import AwareDatetime
from starlette.exceptions import HTTPException as StarletteHTTPException

from pcapdaemon import __version__
from pcapdaemon.api import docs_page
from pcapdaemon.api.access import caller_of, refuse_narrow, refuse_without
from pcapdaemon.api.answers import response_to
from pcapdaemon.api.bodies import read_body, refuse_all_but_json
from pcapdaemon.api.problems import TITLES, Responses, problem
from pcapdaemon.api.views import RECORDER, REQUEST
from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.interface import RecorderStatus
from pcapdaemon.core.record import Search
from pcapdaemon.core.request import json_schema
from pcapdaemon.core.wire import to_wire
from pcapdaemon.engine import Engine
from pcapdaemon.results.history import History
from pcapdaemon.sources.http import HttpSource

Subscribe = Callable[[str | None, Callable[[str], bool]], AsyncIterator[tuple[str, bytes]]]


class Routes(Protocol):
    """Routes of one subject, which come before those of this file."""

    def add_to(self, app: FastAPI, refusals: Responses) -> None:
        """Add the routes to an application."""

    def is_open(self, path: str) -> bool:
        """Return whether a path needs no token."""


class Api:
    """The routes. Their docstrings are the descriptions on the page at /docs."""

    def __init__(
        self,
        engine: Engine,
        history: History,
        source: HttpSource,
        subscribe: Subscribe,
        metrics: Callable[[], bytes],
        recorders: Callable[[], list[RecorderStatus]],
        others: Sequence[Routes],
    ) -> None:
        self._engine, self._history, self._source = engine, history, source
        self._subscribe, self._metrics, self._recorders = subscribe, metrics, recorders
        self._others = others

    def app(self) -> FastAPI:
        """Return the application that serves the routes."""
        words = "Packet captures on request."
        app = FastAPI(
            title="pcapdaemon",
            version=__version__,
            description=words,
            docs_url=None,
            redoc_url=None,
        )
        app.add_exception_handler(StarletteHTTPException, _refused)
        app.add_exception_handler(RequestValidationError, _invalid)
        message = {"required": True, "content": {"application/json": {"schema": json_schema()}}}
        refusals: Responses = {
            status: {"description": title, "content": {"application/problem+json": {}}}
            for status, title in TITLES.items()
        }
        for others in self._others:
            others.add_to(app, refusals)
        add, one = app.add_api_route, "/captures/{request_id:path}"
        add(
            "/captures",
            self.start,
            methods=["POST"],
            status_code=202,
            responses=refusals,
            openapi_extra={"requestBody": message},
        )
        unknown: Responses = {404: refusals[404]}
        wrong: Responses = {422: refusals[422]}
        add("/captures", self.last, response_model=list[REQUEST], responses=wrong)
        add(one, self.record, response_model=REQUEST, responses=unknown)
        add(
            one,
            self.end,
            methods=["DELETE"],
            status_code=202,
            response_model=REQUEST,
            responses=unknown,
        )
        whole = [Depends(refuse_narrow)]
        add("/recorders", self.recorders, response_model=list[RECORDER], dependencies=whole)
        add("/events", self.events, response_class=EventSourceResponse)
        add("/healthz", self.healthz)
        add("/readyz", self.readyz, response_model=dict[str, Any])
        add("/metrics", self.metrics, response_class=Response, dependencies=whole)
        add("/docs", self.docs, include_in_schema=False)
        describe = app.openapi
        # FastAPI's own way to change the description is to replace the method
        app.openapi = lambda: _without_newer_words(describe())  # type: ignore[method-assign]
        return app

    async def start(
        self,
        request: Request,
        wait: bool = Query(False, description="Answer with the record once it is finished."),
    ) -> Response:
        """Start a capture on each interface of the request."""
        refuse_all_but_json(request)
        answer = await self._source.submit(await read_body(request), caller_of(request).name)
        caller, known = caller_of(request), answer.id in self._history.requests
        seen = known and caller.sees(self._engine.owner_of(answer.id))
        if answer.kind is AnswerKind.ACCEPTED and wait and seen:
            await self._history.finished(answer.id)
            view = self._view(answer.id)
            return JSONResponse({**view, "warnings": answer.warnings or view["warnings"]})
        return response_to(answer)

    async def last(
        self,
        request: Request,
        limit: int = Query(100, ge=1, le=1000),
        cause: str | None = Query(None, description="System, id or URL, or a part of the title."),
        customer: str | None = Query(None, description="The customer."),
        tag: str | None = Query(None, description="One of the request's tags."),
        since: Annotated[
            AwareDatetime | None, Query(description="Received since then, RFC 3339.")
        ] = None,
    ) -> list[dict[str, Any]]:
        """Return the last requests, newest first, or those that are looked for."""
        search = Search(cause, customer, tag, since.timestamp() if since else None)
        records = self._history.requests
        caller = caller_of(request)
        newest = (
            name
            for name in reversed(records)
            if caller.sees(records[name].requester) and search.finds(records[name])
        )
        return [self._view(request_id) for request_id in islice(newest, limit)]

    async def record(self, request: Request, request_id: str) -> dict[str, Any]:
        """Return the state, the current counts and the outcome of a request."""
        record = self._view(request_id)
        if not caller_of(request).sees(record["requester"]):
            raise _unknown(request_id)
        return record

    async def end(self, request: Request, request_id: str) -> dict[str, Any]:
        """Stop the captures of a request, and deliver what they have."""
        owner = self._engine.owner_of(request_id)
        owner = self._view(request_id)["requester"] if owner is None else owner
        if not caller_of(request).sees(owner):
            raise _unknown(request_id)
        caller = refuse_without(request, "cancel", owner)
        self._engine.cancel(request_id, "http", caller.name)
        return self._view(request_id)

    async def recorders(self) -> list[dict[str, Any]]:
        """Return the state of each recorder, and how far back it reaches."""
        return [to_wire(status) for status in self._recorders()]

    async def healthz(self) -> dict[str, str]:
        """Report that the daemon is alive."""
        return {"status": "ok"}

    async def readyz(self) -> Response:
        """Report whether every source is connected: status 200 if so, otherwise 503."""
        sources = self._history.sources
        ready = bool(sources) and all(record.connected for record in sources.values())
        records = {name: vars(record) for name, record in sources.items()}
        body = {
            "ready": ready,
            "node": self._engine.node,
            "sources": records,
            "skipped": self._engine.skipped,
        }
        return JSONResponse(body, 200 if ready else 503)

    async def metrics(self) -> Response:
        """Return metrics in the text format of Prometheus."""
        return Response(self._metrics(), media_type=CONTENT_TYPE_LATEST)

    async def events(
        self,
        request: Request,
        request_id: str | None = Query(
            None, alias="id", description="Only results of this request."
        ),
    ) -> AsyncIterator[ServerSentEvent]:
        """Send the results of all requests from now on, as server-sent events.

        Each is a CloudEvent. The name of the event is what happened.
        """
        yield ServerSentEvent(comment="listening")
        caller = caller_of(request)

        def is_shown(name: str) -> bool:
            return caller.sees(self._engine.owner_of(name))

        async for kind, body in self._subscribe(request_id, is_shown):
            yield ServerSentEvent(event=kind, raw_data=body.decode())

    async def docs(self, request: Request) -> Response:
        """Return the description of these routes as a page for people."""
        return HTMLResponse(docs_page.render(request.app.openapi()), headers=docs_page.HEADERS)

    def _view(self, request_id: str) -> dict[str, Any]:
        if (record := self._history.as_json(request_id, self._engine.counts(request_id))) is None:
            raise _unknown(request_id)
        return record


def _unknown(request_id: str) -> HTTPException:
    return HTTPException(404, f"this node has no record of request {request_id!r}")


def _without_newer_words(description: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document without `itemSchema`, which is a word of OpenAPI 3.2."""
    for methods in description["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                for content in response.get("content", {}).values():
                    if content.pop("itemSchema", None):
                        content["schema"] = {"type": "string"}
    return description


async def _refused(_: Request, error: Exception) -> Response:
    status, detail = getattr(error, "status_code", 500), str(getattr(error, "detail", ""))
    return problem(status, detail, headers=getattr(error, "headers", None))


async def _invalid(_: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    errors = [{"field": str(one["loc"][-1]), "message": one["msg"]} for one in found]
    return problem(
        422, "; ".join(f"{one['field']}: {one['message']}" for one in errors), errors=errors
    )
