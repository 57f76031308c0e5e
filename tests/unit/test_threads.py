"""Work in threads, and tasks that go on, in a system that is short of threads."""

import _thread
import asyncio
import threading
from typing import Any

import pytest

from pcapdaemon import tasks, threads
from pcapdaemon.tasks import keep_up
from pcapdaemon.threads import Few, run_in_thread, started


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "TRY_EVERY", 0.001)
    monkeypatch.setattr(tasks, "AGAIN_AFTER", 0.001)


def refuse(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the system refuse this many threads."""
    start, left = _thread.start_new_thread, [None] * times

    def refusing(*args: Any) -> int:
        if left:
            left.pop()
            raise RuntimeError("can't start new thread")
        return start(*args)

    monkeypatch.setattr(_thread, "start_new_thread", refusing)


async def test_a_thread_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, 200)
    assert await run_in_thread(divmod, 7, 2) == (3, 1)


def test_what_goes_on_in_a_thread_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_all(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done = threading.Event()
    monkeypatch.setattr(threading.Thread, "start", refuse_all)
    assert started(done.set, "none") is None
    monkeypatch.undo()
    thread = started(done.set, "some")
    assert thread
    thread.join(5)
    assert done.is_set()


async def test_few_threads_work_at_the_same_time() -> None:
    few, working, most = Few(3), set[int](), []
    gate = threading.Barrier(3, timeout=5)

    def work(number: int) -> None:
        working.add(number)
        gate.wait()
        most.append(len(working))
        gate.wait()
        working.discard(number)

    await asyncio.gather(*(few.run(work, number) for number in range(12)))
    assert set(most) == {3}


async def test_background_work_begins_again_after_an_error() -> None:
    turns = []

    async def work() -> None:
        turns.append(1)
        if len(turns) < 3:
            raise OSError("a turn failed")

    await keep_up(work)
    assert len(turns) == 3


async def test_background_work_ends_when_it_is_cancelled() -> None:
    task = asyncio.create_task(keep_up(asyncio.Event().wait))  # type: ignore[arg-type]  # never ends
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
