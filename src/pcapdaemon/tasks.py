"""Tasks that run until they are cancelled, whatever happens to one of their turns."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

AGAIN_AFTER = 1.0
"""Seconds after which work that failed begins again."""

log = structlog.get_logger()


async def keep_up(work: Callable[[], Awaitable[None]]) -> None:
    """Do `work`, and begin it again after an error, until it returns."""
    while True:
        try:
            return await work()
        except Exception:  # a bug, or a system short of everything; what depends on it must go on
            name = getattr(work, "__qualname__", repr(work))
            log.exception("a background task failed, and begins again", task=name)
        await asyncio.sleep(AGAIN_AFTER)
