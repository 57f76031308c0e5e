"""`GET /audit`: the last lines of the audit log, for who may read it."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, HTTPException, Query, Request

from pcapdaemon.api.access import in_thread, refuse_other_users, refuse_without
from pcapdaemon.api.problems import Responses
from pcapdaemon.sources.http import HttpSource

Last = Callable[[int], list[dict[str, Any]] | None]
"""Returns the last lines, or None without an audit log. Blocks."""


class AuditRoutes:
    """`GET /audit`, for requesters with `audit` in `may`."""

    def __init__(self, last: Last, source: HttpSource) -> None:
        self._last, self._source = last, source

    def add_to(self, app: FastAPI, refusals: Responses) -> None:
        """Add the route to an application."""
        answers: Responses = {status: refusals[status] for status in (403, 404, 422)}
        app.add_api_route("/audit", self.lines, responses=answers)

    def is_open(self, path: str) -> bool:
        """Return that no path is open."""
        return False

    async def lines(
        self, request: Request, limit: int = Query(100, ge=1, le=1000)
    ) -> list[dict[str, Any]]:
        """Return the last lines of the audit log, oldest first."""
        refuse_without(request, "audit", None)
        await refuse_other_users(request, self._source.settings)
        found = await in_thread(request, self._last, limit)
        if found is None:
            raise HTTPException(404, "this node has no audit log: set [audit] file")
        return found
