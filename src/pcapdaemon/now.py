"""One capture at once, without a daemon: the same request, plan, session and delivery, for `pcapdaemon capture`."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pcapdaemon import destinations
from pcapdaemon.capture import MemoryBudget, Savefile
from pcapdaemon.config import Settings
from pcapdaemon.daemon import node_name
from pcapdaemon.delivery import Delivery
from pcapdaemon.destinations.base import Destination, Facts
from pcapdaemon.engine import Engine
from pcapdaemon.errors import ConfigError, DeliveryRefused
from pcapdaemon.history import History
from pcapdaemon.section import Section
from pcapdaemon.sources.base import Answer, Message
from pcapdaemon.threads import in_thread

SHOW_EVERY = 0.25
Show = Callable[[list[dict[str, Any]]], None]


class GivenFile(Destination):
    """The file that was named on the command line, or stdout by the name `-`."""

    name = "file"
    Settings = Section

    def __init__(self, settings: str) -> None:
        self._file = settings

    @property
    def address(self) -> str:
        """The file's name."""
        return self._file

    async def check(self) -> str:
        """Nothing is known before it is written."""
        return ""

    async def deliver(self, savefile: Savefile, facts: Facts) -> str:
        """Write it; what fails once is not tried again while a person waits."""
        try:
            await in_thread(self._write, savefile)
        except OSError as error:
            raise DeliveryRefused(f"{self._file}: {os.strerror(error.errno or 0)}") from None
        return "stdout" if self._file == "-" else self._file

    def _write(self, savefile: Savefile) -> None:
        if self._file == "-":
            savefile.write_to(sys.stdout.fileno())
            return
        with Path(self._file).open("wb") as file:
            savefile.write_to(file.fileno())


async def capture(body: bytes, settings: Settings, write: str | None, show: Show) -> list[dict[str, Any]]:
    """Take one request through the whole way; the records of its captures. Raises ConfigError where it is refused."""
    history = History()
    engine = Engine(
        node_name(), settings, MemoryBudget(settings.general.memory), _delivery(settings, write, history), history.hear
    )
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    with _stopped_by_signals(lambda: [engine.stop(request_id) for request_id in history.requests]):
        engine.take(Message(body, "command line", answer=answered.set_result))
        answer = await answered
        if answer.kind != "accepted":
            raise ConfigError([str(problem) for problem in answer.problems], answer.hint)
        await _watch(history, engine, answer.id, show)
    captures: list[dict[str, Any]] = history.view(history.requests[answer.id], {})["captures"]
    show(captures)
    return captures


def _delivery(settings: Settings, write: str | None, history: History) -> Delivery:
    if write is not None:
        return Delivery({"file": GivenFile(write)}, history.hear, settings.delivery.deadline)
    made = {name: destinations.load(name)(section) for name, section in settings.destinations.items()}
    return Delivery(made, history.hear, settings.delivery.deadline)


async def _watch(history: History, engine: Engine, request_id: str, show: Show) -> None:
    finished = asyncio.ensure_future(history.finished(request_id))
    while not finished.done():
        show(history.view(history.requests[request_id], engine.counts(request_id))["captures"])
        await asyncio.wait([finished], timeout=SHOW_EVERY)


@contextlib.contextmanager
def _stopped_by_signals(stop: Callable[[], Any]) -> Iterator[None]:
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
