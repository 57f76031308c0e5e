"""Sends results to one place in the background, with retries and a bounded queue.

It never delays a capture.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from pcapdaemon.core.errors import NotConnected, ResultRefused

MOST, MOST_BYTES = 1000, 16 << 20
"""Most results that wait for one place, and most bytes of them.

If there are more, progress is dropped first, then the oldest.
"""

LONGEST_PAUSE = 60.0
"""Most seconds between two attempts; up to a third more is added at random."""

log = structlog.get_logger()

Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    body: bytes
    progress: bool
    at: float


class Outbox:
    """A queue of results for one place.

    `send`, which may be replaced, raises NotConnected if a retry may help, and ResultRefused if it
    never will. Retries end `keep` seconds after `put`. `lost` is called with the number of dropped
    results and the reason, and `delayed` after each failure with the reason and the number of
    failures in a row. Tests pass their own clock.
    """

    def __init__(
        self,
        send: Send,
        lost: Callable[[int, str], None],
        keep: float,
        delayed: Callable[[str, int], None],
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.send, self.keep = send, keep
        self._lost, self._delayed, self._now, self._sleep = lost, delayed, now, sleep
        self._waiting: deque[_Result] = deque()
        self._size = self._dropped = 0
        self._sending: asyncio.Task[None] | None = None

    def put(self, body: bytes, progress: bool = False) -> None:
        """Queue a result; if there is no room, those with `progress` are dropped first."""
        self._waiting.append(_Result(body, progress, self._now()))
        self._size += len(body)
        while len(self._waiting) > MOST or self._size > MOST_BYTES:
            self._drop(
                next((result for result in self._waiting if result.progress), self._waiting[0])
            )
            self._dropped += 1
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send_all())

    async def flush(self, seconds: float) -> None:
        """Wait at most `seconds` until the queue is sent; the rest is lost."""
        if self._sending and not self._sending.done():
            await asyncio.wait([self._sending], timeout=seconds)
            self._sending.cancel()
        if self._waiting:
            self._lost(len(self._waiting), "the daemon stopped, or the place was turned off")
            self._waiting.clear()
            self._size = 0

    async def _send_all(self) -> None:
        failures = 0
        while self._waiting:
            result = self._waiting[0]
            reason = "the queue was full"
            try:
                await self.send(result.body)
            except NotConnected as error:
                failures, reason = failures + 1, str(error)
                if self._now() - result.at > self.keep:
                    self._lose(result)
                else:
                    self._delayed(reason, failures)
                    jitter = random.uniform(1, 1.3)  # noqa: S311  # no secret
                    await self._sleep(min(0.5 * 2 ** min(failures, 10), LONGEST_PAUSE) * jitter)
            except ResultRefused as error:
                reason = str(error)
                self._lose(result)
            except Exception as error:  # a bug must not block the results behind this one
                log.exception("a result failed in an unforeseen way")
                reason = f"internal error: {type(error).__name__}"
                self._lose(result)
            else:
                failures = 0
                self._drop(result)
            self._report_lost(reason)

    def _lose(self, result: _Result) -> None:
        self._drop(result)
        self._dropped += 1

    def _drop(self, result: _Result) -> None:
        if result in self._waiting:  # otherwise it was dropped while it was being sent
            self._waiting.remove(result)
            self._size -= len(result.body)

    def _report_lost(self, reason: str) -> None:
        if self._dropped:
            self._lost(self._dropped, reason)
            self._dropped = 0
