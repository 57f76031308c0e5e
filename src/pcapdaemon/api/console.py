"""Serves the page at `/console/`."""

from collections.abc import Callable

from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import RedirectResponse, Response

from pcapdaemon.api.problems import Responses
from pcapdaemon.console.files import page_files
from pcapdaemon.console.settings import ConsoleSettings

PATH = "/console/"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'"
    " data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Only files of this server run, and text never becomes a script."""


class ConsoleRoutes:
    """The routes of the page. They need no token, because the page asks for it."""

    def __init__(self, settings: Callable[[], ConsoleSettings]) -> None:
        self._settings = settings

    def add_to(self, app: FastAPI, _: Responses) -> None:
        """Add the routes to an application."""
        add = app.add_api_route
        add("/", self.index, include_in_schema=False)
        add(PATH.rstrip("/"), self.index, include_in_schema=False)
        add(PATH + "{path:path}", self.file, include_in_schema=False)
        if not self._settings().fleet:
            methods = ["GET", "POST", "DELETE"]
            add("/fleet{path:path}", self.no_fleet, methods=methods, include_in_schema=False)

    def is_open(self, path: str) -> bool:
        """Return whether a path needs no token."""
        return path == "/" or path.startswith(PATH) or path == PATH.rstrip("/")

    async def index(self) -> Response:
        """Lead people to the page or, without it, to the description of the API."""
        return RedirectResponse(PATH if self._settings().listen else "/docs")

    async def no_fleet(self) -> Response:
        """Answer requests for the fleet on a node that does not show it."""
        raise HTTPException(404, "this node does not show the fleet: [console] fleet = false")

    async def file(
        self,
        path: str,
        known: str = Header("", alias="if-none-match"),
        accepted: str = Header("", alias="accept-encoding"),
    ) -> Response:
        """Return a file of the page."""
        if not self._settings().listen:
            raise HTTPException(404, "the console is turned off: [console] listen = false")
        if (found := page_files().get(path)) is None:
            raise HTTPException(404, f"the console has no file {path!r}")
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            "ETag": f'W/"{found.tag}"',  # weak: the compressed file has the same
            "Vary": "Accept-Encoding",
        }
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        if found.tag in known:
            return Response(None, 304, headers)
        if "gzip" not in accepted:
            return Response(found.content, 200, headers, found.type)
        return Response(found.packed, 200, {**headers, "Content-Encoding": "gzip"}, found.type)
