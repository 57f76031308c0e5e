"""Results on their way to one place, in the background.

Bounded, tried again, and never in the way of a capture.
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
"""Results that wait for one place, and bytes of them; beyond, progress goes first, then the oldest.
"""

LONGEST_PAUSE = 60.0

log = structlog.get_logger()

Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True, eq=False)
class _Result:
    body: bytes
    progress: bool
    at: float


class Outbox:
    """A queue of results for one place.

    `send` (which may be replaced) raises NotConnected where trying again may help, until `keep`
    seconds after `put`, and ResultRefused where it never will. `lost` receives how many were given
    up, and why. The clock is handed in for tests.
    """

    def __init__(
        self,
        send: Send,
        lost: Callable[[int, str], None],
        keep: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.send, self.keep = send, keep
        self._lost, self._now, self._sleep = lost, now, sleep
        self._waiting: deque[_Result] = deque()
        self._size = self._dropped = 0
        self._sending: asyncio.Task[None] | None = None

    def put(self, body: bytes, progress: bool = False) -> None:
        """Send it soon; `progress` may be left out where there is no room."""
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
        """Wait until what was put is sent, or the time is over; what is left then is lost."""
        if self._sending and not self._sending.done():
            await asyncio.wait([self._sending], timeout=seconds)
            self._sending.cancel()
        if self._waiting:
            self._lost(len(self._waiting), "the daemon ended, or the place was switched off")
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
                    self._give_up(result)
                else:
                    jitter = random.uniform(1, 1.3)  # noqa: S311
                    await self._sleep(min(0.5 * 2 ** min(failures, 10), LONGEST_PAUSE) * jitter)
            except ResultRefused as error:
                reason = str(error)
                self._give_up(result)
            except Exception as error:  # a defect: those that wait behind it must not wait for ever
                log.exception("a result failed in an unforeseen way")
                reason = f"internal error: {type(error).__name__}"
                self._give_up(result)
            else:
                failures = 0
                self._drop(result)
            self._tell(reason)

    def _give_up(self, result: _Result) -> None:
        self._drop(result)
        self._dropped += 1

    def _drop(self, result: _Result) -> None:
        if result in self._waiting:  # else it had to go while it was being sent
            self._waiting.remove(result)
            self._size -= len(result.body)

    def _tell(self, reason: str) -> None:
        if self._dropped:
            self._lost(self._dropped, reason)
            self._dropped = 0
