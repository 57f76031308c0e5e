"""Debian's Chromium, which refuses everything that is not from the daemon under test."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, Playwright, Request, Route

PROGRAM = "/usr/bin/chromium"
OPTIONS = (
    "--no-sandbox",  # the tests are root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
PICTURES = os.environ.get("PCAPDAEMON_SCREENSHOTS", "")
"""A directory that screenshots are kept in, or empty."""


def launch(playwright: Playwright) -> Browser:
    return playwright.chromium.launch(executable_path=PROGRAM, args=list(OPTIONS))


class Visit:
    """A page in a window of its own, and what went wrong in it."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page, self.origin = page, origin
        self.log: list[str] = []
        self.foreign: list[str] = []
        self.expected: tuple[str, ...] = ()
        self.bytes = 0
        page.on("console", lambda message: self.log.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.log.append(f"error: {error}"))
        page.on("requestfinished", self._count)
        page.route("**/*", self._only_own)

    def open(self, view: str = "") -> Page:
        self.page.goto(f"{self.origin}/console/#/{view}")
        self.page.wait_for_selector("h1")
        return self.page

    def picture(self, name: str) -> None:
        if PICTURES:
            Path(PICTURES).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)

    def axe(self) -> list[Any]:
        """Return what axe-core finds, with the elements that it is about."""
        found = Axe().run(self.page).response["violations"]
        return [
            (one["id"], one["impact"], [node["html"][:200] for node in one["nodes"]])
            for one in found
        ]

    def check(self) -> None:
        """Fail if the page asked another host for something, or if the browser complained."""
        complaints = [one for one in self.log if not any(word in one for word in self.expected)]
        assert not complaints, complaints
        assert not self.foreign, self.foreign

    def _only_own(self, route: Route) -> None:
        if route.request.url.startswith(f"{self.origin}/"):
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()

    def _count(self, request: Request) -> None:
        try:
            sizes = request.sizes()
        except Error:  # the window was closed in this moment
            return
        self.bytes += sizes["responseBodySize"] + sizes["responseHeadersSize"]


@contextmanager
def visit(browser: Browser, origin: str, **context: Any) -> Iterator[Visit]:
    """Open a window, and check in the end that nothing went wrong in it."""
    window = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
    try:
        made = Visit(window.new_page(), origin)
        yield made
        made.check()
    finally:
        window.close()
