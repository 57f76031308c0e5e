"""How soon the page can be used, what it transfers, and what an open page costs the daemon."""

import os
import statistics
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.report import Figure
from tests.browser import Visit, launch, visit
from tests.helpers import Wire
from tests.servers import DaemonProcess

ROUNDS, SECONDS = 9, 30


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
    first = []
    for _ in range(ROUNDS):  # each in a window of its own, which has nothing in its cache
        with visit(browser, origin) as made:
            first.append(_usable(made))
            transferred = made.bytes / 1000
    at_rest = _cpu(daemon)
    with visit(browser, origin) as made:
        made.open("node")
        open_page = _cpu(daemon)
    return [
        Figure("console: first view, loopback", statistics.median(first), "ms", most=300),
        Figure("console: first view, transferred", transferred, "kB", most=150),
        Figure("console: a daemon at rest", at_rest, "% of a core"),
        Figure("console: an open page costs", open_page - at_rest, "% of a core", most=0.5),
    ]


def _usable(made: Visit) -> float:
    """Return milliseconds from the address to the table of interfaces."""
    begun = time.perf_counter()
    made.page.goto(f"{made.origin}/")
    made.page.wait_for_selector("table button")
    return (time.perf_counter() - begun) * 1000


def _cpu(daemon: DaemonProcess) -> float:
    time.sleep(2)  # what came before ends
    before, begun = _ticks(daemon), time.monotonic()
    time.sleep(SECONDS)
    seconds = (_ticks(daemon) - before) / os.sysconf("SC_CLK_TCK")
    return seconds / (time.monotonic() - begun) * 100


def _ticks(daemon: DaemonProcess) -> int:
    assert daemon.process is not None
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
