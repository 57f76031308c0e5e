"""`POST /triggers/NAME`: alerts from other systems."""

import asyncio
import time
from collections.abc import Callable

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response

from pcapdaemon.api.access import refuse_without
from pcapdaemon.api.bodies import content_type, read_body
from pcapdaemon.api.problems import WRONG_TOKEN_DELAY, Responses, problem
from pcapdaemon.core.events import Publish
from pcapdaemon.core.node_events import AlertJudged, AlertOutcome
from pcapdaemon.core.wire import to_wire
from pcapdaemon.triggers.access import signature_refusal, token_refusal
from pcapdaemon.triggers.alert import MAX_ALERTS, NotAnAlert
from pcapdaemon.triggers.kinds import cloudevents
from pcapdaemon.triggers.trigger import Trigger, Triggers, turned_away

PATH = "/triggers/"

READ_AT_ONCE = 32
"""Most messages that are read at the same time; each has as long as any request."""

OF_FORMS = ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
"""Types that a page in a browser may send to any server, without asking it first."""


class AlertRoutes:
    """The routes for alerts. `triggers` returns those of this node."""

    def __init__(self, triggers: Callable[[], Triggers], publish: Publish) -> None:
        self._triggers, self._publish = triggers, publish
        self._reading = asyncio.Semaphore(READ_AT_ONCE)

    def add_to(self, app: FastAPI, refusals: Responses) -> None:
        """Add the routes to an application."""
        answers: Responses = {s: refusals[s] for s in (400, 401, 404, 413, 415, 503)}
        path = PATH + "{name}"
        app.add_api_route(path, self.take, methods=["POST", "PUT"], responses=answers)
        app.add_api_route(path, self.allow, methods=["OPTIONS"], include_in_schema=False)

    def is_open(self, path: str) -> bool:
        """Return whether a path needs no token: the trigger there checks its senders itself."""
        trigger = self._triggers().get(path.removeprefix(PATH)) if path.startswith(PATH) else None
        return trigger is not None and trigger.settings.is_protected

    async def take(
        self,
        request: Request,
        name: str,
        access_token: str = Query("", description="The token of the trigger."),
    ) -> Response:
        """Start captures for the alerts in a message, as the `[[trigger]]` says.

        The answer has an entry for each alert that matches. It is 503 if one of them was turned
        away for now, so that the sender sends the message again.
        """
        trigger = self._named(name)
        if not trigger.settings.is_protected:
            refuse_without(request, "capture", None)
        headers = {key.lower(): value for key, value in request.headers.items()}
        if words := token_refusal(trigger.settings, headers, access_token):
            return await self._refused(name, words)
        async with self._reading:  # messages are long
            body = await read_body(request, MAX_ALERTS, "alerts")
        if words := signature_refusal(trigger.settings, headers, body, time.time()):
            return await self._refused(name, words)
        if content_type(request) in OF_FORMS:
            raise HTTPException(415, "send the header 'Content-Type: application/json'")
        try:
            judged = await _judged(trigger, body, request)
        except NotAnAlert as error:
            raise HTTPException(400, str(error)) from None
        alerts = [to_wire(one) for one in judged]
        if turned_away(judged):
            return problem(503, "; ".join(one.reason for one in judged), alerts=alerts)
        return JSONResponse({"alerts": alerts})

    async def allow(self, request: Request, name: str) -> Response:
        """Answer whether CloudEvents may be sent here (its webhook specification, section 4)."""
        self._named(name)
        origin = request.headers.get("webhook-request-origin", "*")
        allowed = {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
        return Response(headers={"Allow": "POST", **allowed})

    async def _refused(self, name: str, words: str) -> Response:
        self._publish(AlertJudged(name, AlertOutcome.UNAUTHORIZED, reason=words))
        await asyncio.sleep(WRONG_TOKEN_DELAY)
        return problem(401, words)

    def _named(self, name: str) -> Trigger:
        if (trigger := self._triggers().get(name)) is None:
            raise HTTPException(404, f"this node has no trigger {name!r}")
        return trigger


async def _judged(trigger: Trigger, body: bytes, request: Request) -> list[AlertJudged]:
    if trigger.settings.kind == "cloudevents" and "ce-specversion" in request.headers:
        return await trigger.handle_value(cloudevents.of_headers(request.headers.items(), body))
    return await trigger.handle(body)
