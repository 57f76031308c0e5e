"""A client that reads results as server-sent events."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress

MOST_WAITING, MOST_BYTES = 1000, 4 << 20
"""Most results that wait for one client, and most bytes of them."""


class Subscriber:
    """The queue of one client.

    If the client is slow, progress is dropped first, then the oldest. `left_out` counts what was
    dropped.
    """

    def __init__(
        self, request_id: str | None, is_shown: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._request_id, self._is_shown = request_id, is_shown
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._there = asyncio.Event()
        self._size = self.left_out = 0

    def wants(self, request_id: str) -> bool:
        """Return whether the results of a request are for this client."""
        return self._request_id in (None, request_id) and self._is_shown(request_id)

    def put(self, kind: str, body: bytes) -> None:
        """Queue a result: what happened, and the CloudEvent."""
        self._waiting.append((kind, body))
        self._size += len(body)
        while len(self._waiting) > MOST_WAITING or self._size > MOST_BYTES:
            progress = (one for one in self._waiting if one[0] == "progress")
            dropped = next(progress, self._waiting[0])
            self._waiting.remove(dropped)
            self._size -= len(dropped[1])
            self.left_out += 1
        self._there.set()

    async def next(self, seconds: float) -> tuple[str, bytes] | None:
        """Return what happened next and its CloudEvent, or None after this many seconds."""
        if not self._waiting:
            self._there.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._there.wait()
        if not self._waiting:
            return None
        kind, body = self._waiting.popleft()
        self._size -= len(body)
        return kind, body
