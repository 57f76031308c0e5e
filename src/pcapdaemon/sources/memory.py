"""A source inside the process, for tests and as the shortest example of the contract."""

import asyncio
from typing import Any

from pcapdaemon.core.errors import NotConnected
from pcapdaemon.core.section import Section
from pcapdaemon.sources.base import Message, Source


class MemorySource(Source):
    """Receives the messages passed to `put`; `fail` breaks the connection."""

    name = "memory"
    Settings = Section

    def __init__(self, settings: Any = None, node: str = "") -> None:
        self._queue: asyncio.Queue[Message | NotConnected] = asyncio.Queue()

    def put(self, message: Message) -> None:
        """Send a message to the source."""
        self._queue.put_nowait(message)

    def fail(self, reason: str) -> None:
        """Break the connection, after the messages that were put before."""
        self._queue.put_nowait(NotConnected(reason))

    async def connect(self) -> None:
        """Return at once: there is nothing to connect to."""

    async def receive(self) -> Message:
        """Return the next message, or raise the NotConnected of `fail`."""
        item = await self._queue.get()
        if isinstance(item, NotConnected):
            raise item
        return item

    async def close(self) -> None:
        """Keep the messages that were not received."""

    @property
    def address(self) -> str:
        """Always `memory`."""
        return "memory"
