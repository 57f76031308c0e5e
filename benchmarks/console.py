"""How soon the page can be used, what it transfers, and what an open page costs the daemon."""

import statistics
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.report import Figure
from tests.browser import launch, visit
from tests.helpers import Wire
from tests.servers import DaemonProcess

ROUNDS, SECONDS = 9, 30

NOTE_USABLE = """new MutationObserver(() => {
  if (!window.usable && document.querySelector("table button")) window.usable = performance.now();
}).observe(document, { childList: true, subtree: true });"""
"""Notes in the page itself when its table is there: asking for it takes time, too."""


def figures(wire: Wire, directory: Path) -> list[Figure]:
    """Measure with a daemon that has a recorder, in Debian's Chromium."""
    home = directory / "console"
    home.mkdir()
    tables = {"recorder 1": {"interface": wire.far, "seconds": 30, "memory": 16 << 20}}
    daemon = DaemonProcess(home, tables).start()
    try:
        with sync_playwright() as playwright:
            browser = launch(playwright)
            try:
                return _figures(browser, daemon)
            finally:
                browser.close()
    finally:
        daemon.stop()


def _figures(browser: Browser, daemon: DaemonProcess) -> list[Figure]:
    origin = f"http://127.0.0.1:{daemon.port}"
    rounds = [_first_view(browser, origin) for _ in range(ROUNDS)]
    first, transferred = (statistics.median(values) for values in zip(*rounds, strict=True))
    at_rest = _cpu(daemon)
    with visit(browser, origin) as made:
        made.open("node")
        open_page = _cpu(daemon)
    return [
        Figure("console: first view, loopback", first, "ms", most=300),
        Figure("console: first view, transferred", transferred, "kB", most=150),
        Figure("console: a daemon at rest", at_rest, "% of a core"),
        Figure("console: an open page costs", open_page - at_rest, "% of a core", most=0.5),
    ]


def _first_view(browser: Browser, origin: str) -> tuple[float, float]:
    """Return milliseconds to the table of interfaces, by the page's clock, and kB of its files.

    The window is new, so nothing is in its cache. Nothing listens to its requests, which is slow.
    """
    window = browser.new_context()
    window.add_init_script(NOTE_USABLE)
    page = window.new_page()
    page.goto(f"{origin}/")
    page.wait_for_selector("table button")
    milliseconds, transferred = page.evaluate(
        """() => [window.usable, performance.getEntries().reduce(
             (sum, one) => sum + (one.transferSize || 0), 0)]"""
    )
    window.close()
    return float(milliseconds), transferred / 1000


def _cpu(daemon: DaemonProcess) -> float:
    time.sleep(2)  # what came before ends
    before, begun = daemon.cpu(), time.monotonic()
    time.sleep(SECONDS)
    return (daemon.cpu() - before) / (time.monotonic() - begun) * 100
