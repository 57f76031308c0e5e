"""The one place that reconnects a source and passes on its messages."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import stamina
import structlog

from pcapdaemon.core.errors import NotConnected
from pcapdaemon.core.events import Publish
from pcapdaemon.core.node_events import SourceConnected, SourceDisconnected
from pcapdaemon.sources.base import Message, Source

log = structlog.get_logger()

LONGEST_PAUSE = 1.5
"""Most seconds between two attempts to connect; up to a third more is added at random."""


Take = Callable[[Message], Awaitable[None] | None]
"""Takes a message. If it returns something to await, the next message waits for that."""


async def pump(source: Source, take: Take, publish: Publish) -> None:
    """Pass every message of a source to `take`, until cancelled.

    It connects again, with back-off and jitter, whenever the connection is lost. Cancelling it
    leaves the source open, because verdicts on its messages may still follow. Whoever cancels it
    then calls `close`.
    """
    pause = 0.1
    while True:
        connected_at = time.monotonic()
        try:
            await _connect(source, publish)
            connected_at = time.monotonic()
            while True:
                if (taken := take(await source.receive())) is not None:
                    await taken
        except NotConnected as error:
            publish(SourceDisconnected(source.name, str(error)))
        except Exception as error:  # a bug in one source must not end the others or captures
            log.exception("a source failed in an unforeseen way", source=source.name)
            publish(SourceDisconnected(source.name, f"internal error: {type(error).__name__}"))
        await close(source)
        # do not hammer a server that accepts connections and drops them
        pause = min(pause * 2, LONGEST_PAUSE) if time.monotonic() - connected_at < 10 else 0.1
        await asyncio.sleep(pause * random.uniform(1, 1.3))  # noqa: S311  # jitter


async def end(task: "asyncio.Task[None]") -> None:
    """Cancel a pump and wait until it ends.

    It cancels repeatedly, because a client library may swallow a cancellation (seen in redis-py 8.1
    during a read).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.2)


async def close(source: Source) -> None:
    """Close a source; an error is only logged, because the connection is dropped anyway."""
    try:
        await source.close()
    except Exception:
        log.exception("a source could not be closed", source=source.name)


async def _connect(source: Source, publish: Publish) -> None:
    logged = ""
    async for attempt in stamina.retry_context(
        on=NotConnected,
        attempts=None,
        timeout=None,
        wait_initial=0.2,
        wait_max=LONGEST_PAUSE,
        wait_jitter=0.3,
    ):
        with attempt:
            try:
                await source.connect()
            except NotConnected as error:
                await close(source)
                if str(error) != logged:
                    publish(SourceDisconnected(source.name, str(error)))
                logged = str(error)
                raise
    publish(SourceConnected(source.name))
