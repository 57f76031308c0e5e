"""Receives from a source in a test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pcapdaemon.core.answers import Verdict
from pcapdaemon.core.events import Event
from pcapdaemon.core.node_events import SourceConnected, SourceDisconnected
from pcapdaemon.sources.base import Message, Source
from pcapdaemon.sources.pump import close, end, pump


class Ear:
    """Runs the pump of a source and keeps its messages; each gets `verdict`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.verdict: Verdict | None = Verdict.TAKEN
        self.messages: list[Message] = []
        self.events: list[Event] = []
        self.task = asyncio.create_task(pump(self.source, self._take, self.events.append))

    def _take(self, message: Message) -> None:
        self.messages.append(message)
        if message.settle and self.verdict:
            message.settle(self.verdict)

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of all received messages."""
        return [message.body for message in self.messages]

    def connections(self) -> int:
        """Return how often the source connected."""
        return sum(isinstance(event, SourceConnected) for event in self.events)

    def losses(self) -> list[str]:
        """Return the reason of each disconnection."""
        return [event.reason for event in self.events if isinstance(event, SourceDisconnected)]

    async def until(self, fact: Callable[[], object], seconds: float = 30) -> None:
        """Wait until `fact` is true."""
        try:
            async with asyncio.timeout(seconds):
                while not fact():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(
                f"not within {seconds} s: {[body[:50] for body in self.bodies[-3:]]}"
                f" {self.events[-5:]}"
            ) from None

    async def end(self) -> None:
        """End the pump and close the source, as the daemon does."""
        await end(self.task)
        await close(self.source)


@asynccontextmanager
async def listening(source: Source) -> AsyncIterator[Ear]:
    """Yield an `Ear` that has connected."""
    ear = Ear(source)
    try:
        await ear.until(ear.connections)
        yield ear
    finally:
        await ear.end()
