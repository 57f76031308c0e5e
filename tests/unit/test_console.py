"""The files of the page, and the rates that all its viewers share."""

import asyncio
import hashlib
import re
from pathlib import Path

import pytest

from pcapdaemon.api.node import NodeRoutes
from pcapdaemon.console import files

FOLDER = Path(files.__file__).parent
VENDOR = FOLDER / "vendor"
OWN = sorted(path for path in FOLDER.rglob("*.js") if "vendor" not in path.parts)


def test_the_libraries_are_those_that_were_checked_in_with_their_checksums() -> None:
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in map(str.split, lines)}
    assert listed == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.iterdir()
        if path.name != "SHA256SUMS"
    }


def test_only_files_for_browsers_are_served() -> None:
    served = files.page_files()
    assert {path.rpartition(".")[2] for path in served if path} <= {
        *("html", "js", "css", "svg", "txt")
    }
    assert served[""] == served["index.html"]
    sizes = [len(one.packed) for path, one in served.items() if path and "txt" not in path]
    assert sum(sizes) < 75_000


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_elements_are_closed_and_nothing_needs_an_exception_of_the_policy(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"innerHTML|insertAdjacentHTML|eval\(|new Function|style=\"", text)
    assert not re.search(r"https?://(?!\[)[\w.-]+", text.replace("example", "")), "foreign URL"
    for name in ("tr", "td", "th", "li", "p", "dt", "dd", "option", "table", "section", "div"):
        opened = len(re.findall(rf"<{name}(?=[\s>])(?![^<>]*/>)", text))
        assert opened == text.count(f"</{name}>"), name


class CountingNode:
    def __init__(self) -> None:
        self.looks = 0

    def levels(self) -> dict[str, int]:
        self.looks += 1
        return {"at": self.looks}


async def test_many_viewers_cost_one_look_a_second() -> None:
    node = CountingNode()
    routes = NodeRoutes(node, asyncio.Event())  # type: ignore[arg-type]  # only that is asked
    streams = [routes.rates() for _ in range(50)]
    events = [await anext(stream) for stream in streams]
    assert {event.raw_data for event in events} == {'{"at": 1}'}
    assert node.looks == 1
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_rates_end_with_the_server() -> None:
    closing = asyncio.Event()
    stream = NodeRoutes(CountingNode(), closing).rates()  # type: ignore[arg-type]  # as above
    await anext(stream)
    closing.set()
    assert [one async for one in stream] == []
