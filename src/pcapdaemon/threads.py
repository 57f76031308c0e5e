"""Runs blocking work outside the event loop, each call in its own daemon thread.

Unlike those of asyncio's executor, these threads never keep the process from exiting. A DNS lookup
or a disk that hangs can't be interrupted, only abandoned.
"""

import _thread
import asyncio
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

TRY_EVERY = 0.05
"""Seconds after which a thread that could not be started is tried again: others end meanwhile."""

P = ParamSpec("P")
R = TypeVar("R")


async def run_in_thread(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `work` in a new daemon thread and wait for its result.

    Cancelling stops the wait, not the work. If the system has no room for another thread, it waits
    until there is: what was captured must not be lost.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[R] = loop.create_future()
    job = (loop, done, work, args, kwargs)
    try:
        await _start(job)
        return await done
    finally:
        # an exception refers to this frame: a cycle with it would keep memory from being freed
        del done, job


async def _start(job: Any) -> None:
    while True:
        try:
            # threading.Thread would wait until the thread runs, which delays every capture
            _thread.start_new_thread(_run, job)
            return
        except RuntimeError:
            await asyncio.sleep(TRY_EVERY)


def started(work: Callable[[], None], name: str) -> threading.Thread | None:
    """Start a daemon thread that goes on, and return it; None if the system has no room for it."""
    made = threading.Thread(target=work, name=name, daemon=True)
    try:
        made.start()
    except RuntimeError:
        return None
    return made


class Few:
    """Runs work in threads, `most` at a time. Further callers wait."""

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` when it is its turn, and wait for its result."""
        async with self._free:
            return await run_in_thread(work, *args, **kwargs)


class InTurn:
    """Runs work in threads, one at a time for each key.

    Earlier work ends first, even if its caller no longer waits for it.
    """

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[Any]] = {}

    async def run(self, key: str, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `work` after all earlier work with this key, and wait for its result."""
        while (earlier := self._running.get(key)) is not None:
            await asyncio.wait([earlier])
        task = self._running[key] = asyncio.create_task(run_in_thread(work, *args, **kwargs))
        task.add_done_callback(lambda _: self._running.pop(key))
        task.add_done_callback(look_at)
        return await asyncio.shield(task)


def look_at(done: "asyncio.Future[Any]") -> None:
    """Retrieve the error of a future that nobody may wait for, so that asyncio does not warn."""
    if not done.cancelled():
        done.exception()


def call_in_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> None:
    """Call a function in the loop from another thread; do nothing if the loop is closed."""
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
    except BaseException as error:  # raised where the result is awaited
        call_in_loop(loop, _settle, done, done.set_exception, error)
    else:
        call_in_loop(loop, _settle, done, done.set_result, outcome)


def _settle(done: "asyncio.Future[Any]", setter: Callable[[Any], None], outcome: Any) -> None:
    if not done.cancelled():
        setter(outcome)
