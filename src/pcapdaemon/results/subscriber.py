"""One reader of results as server-sent events."""

import asyncio
from collections import deque
from contextlib import suppress

MOST_WAITING = 1000
"""Results that wait for one reader of server-sent events."""


class Subscriber:
    """One reader of results; where it is slow, progress and then the oldest are left out."""

    def __init__(self, request_id: str | None) -> None:
        self.request_id = request_id
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._there = asyncio.Event()
        self.left_out = 0

    def put(self, kind: str, body: bytes) -> None:
        """Have it read soon."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.remove(
                next((one for one in self._waiting if one[0] == "progress"), self._waiting[0])
            )
            self.left_out += 1
        self._waiting.append((kind, body))
        self._there.set()

    async def next(self, seconds: float) -> tuple[str, bytes] | None:
        """What happened next and its CloudEvent, or None where nothing did for so long."""
        if not self._waiting:
            self._there.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._there.wait()
        return self._waiting.popleft() if self._waiting else None
