"""The queue of results for one place, with a fake clock."""

import asyncio
from collections.abc import Awaitable, Callable

from pcapdaemon.core.errors import NotConnected, ResultRefused
from pcapdaemon.results.outbox import MOST, Outbox

DAY = 86400.0


class Place:
    """A place for results with a fake clock, so that no test really waits."""

    def __init__(self, keep: float = DAY) -> None:
        self.now = 0.0
        self.answers: Callable[[], Exception | None] = lambda: None
        self.tries = 0
        self.there: list[bytes] = []
        self.lost: list[tuple[int, str]] = []
        self.delayed: list[tuple[str, int]] = []
        self.box = Outbox(
            self.send,
            lambda *words: self.lost.append(words),
            keep,
            lambda *words: self.delayed.append(words),
            lambda: self.now,
            self.sleep,
        )

    async def send(self, body: bytes) -> None:
        self.tries += 1
        await asyncio.sleep(0)
        if error := self.answers():
            raise error
        self.there.append(body)

    def sleep(self, seconds: float) -> Awaitable[None]:
        self.now += seconds
        return asyncio.sleep(0)


async def test_sent_in_order() -> None:
    place = Place()
    for number in range(5):
        place.box.put(b"%d" % number)
    await place.box.flush(1)
    assert place.there == [b"0", b"1", b"2", b"3", b"4"]
    assert place.lost == []


async def test_a_place_that_is_down_for_an_hour_gets_everything_and_is_not_hammered() -> None:
    place = Place()
    place.answers = lambda: NotConnected("refused") if place.now < 3600 else None
    place.box.put(b"first")
    place.box.put(b"second")
    await place.box.flush(5)
    assert place.there == [b"first", b"second"]
    assert 3600 <= place.now < 3700, "soon after it is back"
    assert place.tries < 100
    assert place.lost == []
    assert [attempt for _, attempt in place.delayed] == list(range(1, place.tries - 1))
    assert {reason for reason, _ in place.delayed} == {"refused"}


async def test_given_up_after_its_time_and_told() -> None:
    place = Place(keep=1000)
    place.answers = lambda: NotConnected("no route")
    place.box.put(b"x")
    await place.box.flush(5)
    assert place.lost == [(1, "no route")]


async def test_one_that_is_refused_does_not_hold_up_the_others() -> None:
    place = Place()
    answers = iter([ResultRefused("status 400"), None])
    place.answers = lambda: next(answers)
    place.box.put(b"poison")
    place.box.put(b"good")
    await place.box.flush(5)
    assert place.there == [b"good"]
    assert place.lost == [(1, "status 400")]


async def test_one_that_fails_by_a_defect_does_not_hold_up_the_others() -> None:
    place = Place()
    answers = iter([TypeError("unforeseen"), None])
    place.answers = lambda: next(answers)
    place.box.put(b"poison")
    place.box.put(b"good")
    await place.box.flush(5)
    assert place.there == [b"good"]
    assert place.lost == [(1, "internal error: TypeError")]


async def test_a_full_queue_drops_progress_first_and_counts() -> None:
    place = Place()
    gate = asyncio.Event()
    place.box.send = lambda body: gate.wait()  # type: ignore[assignment,return-value]
    place.box.put(b"first")
    for number in range(MOST):
        place.box.put(b"p%d" % number, progress=True)
    for _ in range(10):
        place.box.put(b"finished")
    sent: list[bytes] = []

    async def send(body: bytes) -> None:
        sent.append(body)

    await asyncio.sleep(0)
    place.box.send = send
    gate.set()
    await place.box.flush(5)
    assert sent.count(b"finished") == 10
    assert len(sent) == MOST - 1, "the first was passed to the earlier `send`"
    assert b"p10" not in sent
    assert sum(number for number, _ in place.lost) == 11


async def test_what_is_left_at_the_end_is_told_as_lost() -> None:
    place = Place()
    place.box.send = lambda body: asyncio.Event().wait()  # type: ignore[assignment,return-value]
    place.box.put(b"x")
    await place.box.flush(0.01)
    assert place.lost[0][0] == 1
