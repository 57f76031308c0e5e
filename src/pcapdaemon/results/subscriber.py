"""A client that reads results as server-sent events."""

import asyncio
from collections import deque
from contextlib import suppress

MOST_WAITING = 1000
"""Most results that wait for one client."""


class Subscriber:
    """The queue of one client.

    If the client is slow, progress is dropped first, then the oldest. `left_out` counts what was
    dropped.
    """

    def __init__(self, request_id: str | None) -> None:
        self.request_id = request_id
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._there = asyncio.Event()
        self.left_out = 0

    def put(self, kind: str, body: bytes) -> None:
        """Queue a result: what happened, and the CloudEvent."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.remove(
                next((one for one in self._waiting if one[0] == "progress"), self._waiting[0])
            )
            self.left_out += 1
        self._waiting.append((kind, body))
        self._there.set()

    async def next(self, seconds: float) -> tuple[str, bytes] | None:
        """Return what happened next and its CloudEvent, or None after this many seconds."""
        if not self._waiting:
            self._there.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._there.wait()
        return self._waiting.popleft() if self._waiting else None
