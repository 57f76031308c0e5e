"""The HTTP API: requests, what became of them, health. RFC 9457 problem details for everything that is refused."""

import asyncio
import contextlib
import hmac
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from typing import Any
from urllib.parse import quote

import uvicorn
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException as StarletteHTTPException

from pcapdaemon import __version__
from pcapdaemon.api import docs_page
from pcapdaemon.core.answers import Answer
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.interface import RecorderStatus
from pcapdaemon.core.request import MAX_MESSAGE, json_schema
from pcapdaemon.engine import Engine
from pcapdaemon.results.history import History, RequestRecord
from pcapdaemon.sources.http import HttpSettings, HttpSource, address_family, is_loopback

STATUS = {"invalid": 400, "unknown": 404, "conflict": 409, "expired": 410, "busy": 429, "unavailable": 503}
TITLES = {
    400: "The request can't be obeyed",
    401: "A bearer token is required",
    404: "Not found",
    409: "A request of this id is running",
    410: "The request is too old",
    413: "The message is too long",
    415: "Only application/json is taken",
    405: "This can't be done here",
    422: "A parameter is wrong",
    421: "This host name is not served here",
    429: "No room for one more capture",
    503: "Not available now",
}

Scope = MutableMapping[str, Any]
Asgi = Callable[[Scope, Any, Any], Awaitable[None]]
Subscribe = Callable[[str | None], AsyncIterator[tuple[str, bytes]]]


def problem(status: int, detail: str = "", **members: Any) -> Response:
    """A problem details object; `members` extend it."""
    body = {
        "type": "about:blank",
        "title": TITLES.get(status, "Refused"),
        "status": status,
        "detail": detail,
        **members,
    }
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status, headers, media_type="application/problem+json")


class Guard:
    """Lets nobody in but who may: a bearer token where there is one, and on loopback no web page under a foreign name.

    A page in a browser on this machine can reach loopback by a name of its own that resolves to 127.0.0.1; its `Host`
    gives it away. `/healthz` says nothing and needs no token, so that a probe can ask it.
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
    """The name or address in a Host header, without port and brackets (RFC 9110 section 7.2); empty if it is none."""
    found = _HOST.fullmatch(header.decode("latin-1"))
    return (found[1] or found[2]).lower() if found else ""


class Api:
    """The routes, over what the engine and the history know."""

    def __init__(
        self,
        engine: Engine,
        history: History,
        source: HttpSource,
        subscribe: Subscribe,
        metrics: Callable[[], bytes],
        recorders: Callable[[], list[RecorderStatus]],
    ) -> None:
        self._engine, self._history, self._source = engine, history, source
        self._subscribe, self._metrics, self._recorders = subscribe, metrics, recorders

    def app(self) -> FastAPI:
        """The application that serves them."""
        words = "Packet captures on request."
        app = FastAPI(title="pcapdaemon", version=__version__, description=words, docs_url=None, redoc_url=None)
        app.add_exception_handler(StarletteHTTPException, _refused)
        app.add_exception_handler(RequestValidationError, _invalid)
        message = {"required": True, "content": {"application/json": {"schema": json_schema()}}}
        refusals: dict[int | str, dict[str, Any]] = {status: {"description": title} for status, title in TITLES.items()}
        add, one = app.add_api_route, "/captures/{request_id:path}"
        add(
            "/captures", self.start, methods=["POST"], status_code=202, responses=refusals, openapi_extra={"requestBody": message}
        )
        add("/captures", self.last, response_model=list[RequestRecord])
        add(one, self.tell, response_model=RequestRecord)
        add(one, self.end, methods=["DELETE"], status_code=202, response_model=RequestRecord)
        add("/recorders", self.recorders, response_model=list[RecorderStatus])
        add("/events", self.events, response_class=EventSourceResponse)
        add("/healthz", self.healthz)
        add("/readyz", self.readyz, response_model=dict[str, Any])
        add("/metrics", self.metrics, response_class=Response)
        add("/docs", self.docs, include_in_schema=False)
        return app

    async def start(
        self, request: Request, wait: bool = Query(False, description="Answer when it is finished, with the result.")
    ) -> Response:
        """Start a capture on each interface asked for."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "send the header 'Content-Type: application/json'")
        answer = await self._source.submit(await _body(request))
        if answer.kind == "accepted" and wait and answer.id in self._history.requests:
            await self._history.finished(answer.id)
            return JSONResponse(self._view(answer.id))
        return _response(answer)

    async def last(self, limit: int = Query(100, ge=1, le=1000)) -> list[dict[str, Any]]:
        """The last requests, newest first."""
        newest = [request_id for request_id, _ in zip(reversed(self._history.requests), range(limit), strict=False)]
        return [self._view(request_id) for request_id in newest]

    async def tell(self, request_id: str) -> dict[str, Any]:
        """State, live counters and result of one request."""
        return self._view(request_id)

    async def end(self, request_id: str) -> dict[str, Any]:
        """Stop a request's captures and deliver what they have."""
        self._engine.cancel(request_id, "http")
        return self._view(request_id)

    async def recorders(self) -> list[RecorderStatus]:
        """What each recorder does and how far back it reaches."""
        return self._recorders()

    async def healthz(self) -> dict[str, str]:
        """The daemon is alive."""
        return {"status": "ok"}

    async def readyz(self) -> Response:
        """Every source is connected."""
        sources = self._history.sources
        ready = bool(sources) and all(record.connected for record in sources.values())
        records = {name: vars(record) for name, record in sources.items()}
        body = {"ready": ready, "node": self._engine.node, "sources": records, "skipped": self._engine.skipped}
        return JSONResponse(body, 200 if ready else 503)

    async def metrics(self) -> Response:
        """Counters in the text format of Prometheus."""
        return Response(self._metrics(), media_type=CONTENT_TYPE_LATEST)

    async def events(
        self,
        id: str | None = Query(None, description="Only of this request."),  # noqa: A002  # the parameter's name on the wire
    ) -> AsyncIterator[ServerSentEvent]:
        """Results of all requests from now on, as server-sent events: each a CloudEvent, named by what happened."""
        yield ServerSentEvent(comment="listening")
        async for kind, body in self._subscribe(id):
            yield ServerSentEvent(event=kind, raw_data=body.decode())

    async def docs(self, request: Request) -> Response:
        """The description of these routes, for people."""
        return HTMLResponse(docs_page.render(request.app.openapi()), headers=docs_page.HEADERS)

    def _view(self, request_id: str) -> dict[str, Any]:
        if (record := self._history.requests.get(request_id)) is None:
            raise HTTPException(404, f"no request {request_id!r} is known here (any more)")
        return self._history.view(record, self._engine.counts(request_id))


async def _refused(_: Request, error: Exception) -> Response:
    return problem(getattr(error, "status_code", 500), str(getattr(error, "detail", "")))


async def _invalid(_: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    errors = [{"field": str(one["loc"][-1]), "message": one["msg"]} for one in found]
    return problem(422, "; ".join(f"{one['field']}: {one['message']}" for one in errors), errors=errors)


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_MESSAGE:
            raise HTTPException(413, f"a message may have {MAX_MESSAGE} bytes")
    return body


def _response(answer: Answer) -> Response:
    if answer.kind == "accepted":
        href = f"/captures/{quote(answer.id, safe='')}"
        body = {"id": answer.id, "state": "running", "interfaces": answer.interfaces, "href": href, "warnings": answer.warnings}
        joined = {"joined": answer.joined} if answer.joined else {}
        return JSONResponse({**body, **joined}, 202, {"Location": href})
    if answer.kind == "elsewhere":
        return JSONResponse({"id": answer.id, "state": "elsewhere", "detail": "the request is for another node"})
    if answer.kind not in STATUS:  # a dry run, a list, a request that was cancelled
        body = {"id": answer.id, "state": answer.kind, "interfaces": answer.interfaces, "warnings": answer.warnings}
        return JSONResponse({**body, **answer.details})
    errors = [{"field": p.field, "message": p.message} for p in answer.problems]
    detail = "; ".join(str(p) for p in answer.problems)
    members = {"id": answer.id, "errors": errors, "hint": answer.hint, "warnings": answer.warnings}
    return problem(STATUS[answer.kind], detail, **members)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the daemon owns the signals


class ApiServer:
    """The API on its socket, bound when made. `settings` and `app` may be replaced as long as host and port stay.

    `closing` is set when answers that have no end must end.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        self.app: Asgi = _not_yet
        self.closing = asyncio.Event()
        family = address_family(settings.host)
        try:
            self._socket = socket.create_server((settings.host, settings.port), family=family, backlog=1024)
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
        """Return when nobody listens any more; `serve` ends when the answers that are under way are given."""
        self.closing.set()
        self._server.should_exit = True
        while self._server.started and self._socket.fileno() >= 0:  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(0.01)  # uvicorn looks ten times a second, and closes the socket
        self._socket.close()

    def abort(self) -> None:
        """End `serve` though somebody waits."""
        self._server.should_exit = self._server.force_exit = True


async def _not_yet(scope: Scope, receive: Any, send: Any) -> None:
    await problem(503, "the daemon is starting")(scope, receive, send)
