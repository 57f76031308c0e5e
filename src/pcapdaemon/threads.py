"""Blocking work beside the event loop, each in a daemon thread of its own.

Unlike asyncio's executor these threads never keep the process from ending: a lookup in DNS or a
disk that hangs cannot be interrupted, only left behind.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


async def run_in_thread(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `work` in a new daemon thread and wait for its result.

    Cancelling stops the waiting, not the work.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[R] = loop.create_future()
    job = (loop, done, work, args, kwargs)
    threading.Thread(target=_run, args=job, name=f"pcapdaemon-{work.__name__}", daemon=True).start()
    try:
        return await done
    finally:
        del (
            done,
            job,
        )
        # an exception that refers to this frame would be part of a cycle, and keep memory from
        # going back


class InTurn:
    """Work in threads, one at a time for each key.

    Also where nobody waits for the earlier one any more, it ends first.
    """

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[Any]] = {}

    async def run(self, key: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` when its turn has come, and wait for its result."""
        while (earlier := self._running.get(key)) is not None:
            await asyncio.wait([earlier])
        task = self._running[key] = asyncio.create_task(run_in_thread(work, *args, **kwargs))
        task.add_done_callback(lambda _: self._running.pop(key))
        task.add_done_callback(look_at)
        return await asyncio.shield(task)


def look_at(done: "asyncio.Future[Any]") -> None:
    """Take note of an error where nobody may wait for it any more.

    That asyncio does not complain.
    """
    if not done.cancelled():
        done.exception()


def call_in_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> None:
    """Call in the loop from another thread; do nothing if the loop is closed."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _run(
    loop: asyncio.AbstractEventLoop,
    done: "asyncio.Future[Any]",
    work: Callable[..., Any],
    args: Any,
    kwargs: Any,
) -> None:
    try:
        outcome = work(*args, **kwargs)
    except BaseException as error:  # handed to whoever waits
        call_in_loop(loop, _settle, done, done.set_exception, error)
    else:
        call_in_loop(loop, _settle, done, done.set_result, outcome)


def _settle(done: "asyncio.Future[Any]", setter: Callable[[Any], None], outcome: Any) -> None:
    if not done.cancelled():
        setter(outcome)
