"""A source inside the process: for tests, and as the shortest example of the contract."""

import asyncio
from typing import Any

from pcapdaemon.core.errors import NotConnected
from pcapdaemon.core.section import Section
from pcapdaemon.sources.base import Message, Source


class MemorySource(Source):
    """Messages that `put` puts in; `fail` makes the connection break."""

    name = "memory"
    Settings = Section

    def __init__(self, settings: Any = None, node: str = "") -> None:
        self._queue: asyncio.Queue[Message | NotConnected] = asyncio.Queue()

    def put(self, message: Message) -> None:
        """Send a message."""
        self._queue.put_nowait(message)

    def fail(self, reason: str) -> None:
        """Break the connection after the messages that were put before."""
        self._queue.put_nowait(NotConnected(reason))

    async def connect(self) -> None:
        """There is always a connection."""

    async def receive(self) -> Message:
        """The next message, or the break."""
        item = await self._queue.get()
        if isinstance(item, NotConnected):
            raise item
        return item

    async def close(self) -> None:
        """Nothing to close; what was put stays."""

    @property
    def address(self) -> str:
        """Inside the process."""
        return "memory"
