"""Daemons as processes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import DaemonProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Make = Callable[..., DaemonProcess]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes daemons, each in its own directory, and stops them."""
    made: list[DaemonProcess] = []

    def one(sections: dict[str, dict[str, Any]] | None = None, **more: Any) -> DaemonProcess:
        directory = tmp_path / f"daemon{len(made)}"
        directory.mkdir()
        made.append(DaemonProcess(directory, sections, **more))
        return made[-1]

    yield one
    for daemon in made:
        daemon.end()


@pytest.fixture
def daemon(make: Make) -> DaemonProcess:
    """A running daemon."""
    return make().start()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright  # few tests need it

    from tests.browser import launch

    with sync_playwright() as playwright:
        made = launch(playwright)
        yield made
        made.close()
