"""Every message is answered once and settled once, whatever its kind and its outcome."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from pcapdaemon import config
from pcapdaemon.around import Around
from pcapdaemon.capture.session import Armed, Origins, Session
from pcapdaemon.core.answers import Answer, AnswerKind, Verdict
from pcapdaemon.core.errors import Busy, CaptureRefused
from pcapdaemon.core.events import (
    Event,
    RequestAccepted,
    RequestFinished,
    RequestJoined,
    RequestRejected,
    RequestReturned,
)
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.core.limits import StopReason
from pcapdaemon.core.node_events import ClocksDiffer
from pcapdaemon.core.outcome import Outcome
from pcapdaemon.core.request import Problem
from pcapdaemon.delivery.delivery import Delivery
from pcapdaemon.delivery.settings import DeliverySettings
from pcapdaemon.engine import Engine
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.runs import Runs
from pcapdaemon.savefile.packing import Captured
from pcapdaemon.sources.base import Message

TAKEN, DONE, BAD, ELSEWHERE, BUSY = (
    Verdict.TAKEN,
    Verdict.DONE,
    Verdict.BAD,
    Verdict.ELSEWHERE,
    Verdict.BUSY,
)
GOOD = {"node": "any", "interface": ["e0"]}
FOR_ANOTHER = Problem("", "the request is for another node than here")
BASE: dict[str, dict[str, Any]] = {
    "http": {"listen": True},
    "general": {"writelocal": True, "localdir": "/tmp", "maxcaptures": 2},
}


class Desk:
    """An engine whose captures run until `finish`, and what it answered to each message."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **general: Any) -> None:
        self._finished = asyncio.Event()
        monkeypatch.setattr(Session, "run", self._run())
        self.events: list[Event] = []
        settings = config.validate({**BASE, "general": {**BASE["general"], **general}})
        delivery = Delivery({}, self.events.append, DeliverySettings())
        interfaces = {"e0": Interface("e0", InterfaceKind.NETWORK)}
        runs = Runs(settings, MemoryBudget(64 << 20), delivery, self.events.append, Origins())
        self.engine = Engine("here", settings, runs, self.events.append, Around(lambda: interfaces))

    def _run(self) -> Callable[[Session], Any]:
        async def run(session: Session) -> Captured:
            if session.plan.capture_filter == "bad":
                session.armed.cancel()
                raise CaptureRefused("syntax error", kind="filter")
            session.armed.set_result(Armed("EN10MB", 96, 1.0))
            await self._finished.wait()
            return Captured(Outcome(stop_reason=StopReason.IDLE, seconds=1.0, trigger=1.0))

        return run

    def finish(self) -> None:
        self._finished.set()

    async def tell(
        self, body: Any, settled: int = 1, **more: Any
    ) -> tuple[list[Verdict], list[Answer]]:
        verdicts: list[Verdict] = []
        answers: list[Answer] = []
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.engine.take(
            Message(raw, "test", settle=verdicts.append, answer=answers.append, **more)
        )
        async with asyncio.timeout(5):
            while len(verdicts) < settled:
                await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        return verdicts, answers


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Desk(monkeypatch)
    yield made
    made.finish()
    await made.engine.drain(1)


@pytest.mark.parametrize(
    ("body", "verdict", "kind"),
    [
        (b"garbage", BAD, "invalid"),
        (b"x" * 70_000, BAD, "invalid"),
        ({}, BAD, "invalid"),
        ({**GOOD, "packets": -1}, BAD, "invalid"),
        ({**GOOD, "bpf": "bad"}, BAD, "invalid"),
        ({**GOOD, "node": "there"}, ELSEWHERE, "elsewhere"),
        ({**GOOD, "labels": {"role": "edge"}}, ELSEWHERE, "elsewhere"),
        ({**GOOD, "issued_at": "2020-01-01T00:00:00Z"}, DONE, "expired"),
        ({"cancel": "nothing"}, ELSEWHERE, "unknown"),
        ({"cancel": 5}, BAD, "invalid"),
        ({"list": True}, DONE, "list"),
    ],
    ids=str,
)
async def test_what_is_not_captured_is_answered_and_settled_once(
    desk: Desk, body: Any, verdict: Verdict, kind: str
) -> None:
    verdicts, answers = await desk.tell(body)
    assert verdicts == [verdict]
    assert [answer.kind for answer in answers] == [kind]


async def test_what_is_accepted_is_taken_and_then_done(desk: Desk) -> None:
    task = asyncio.create_task(desk.tell(GOOD, settled=2))
    while not desk.engine.runs.listed():
        await asyncio.sleep(0)
    desk.finish()
    verdicts, answers = await task
    assert verdicts == [TAKEN, DONE]
    assert [answer.kind for answer in answers] == ["accepted"]


async def test_what_is_too_old_by_the_brokers_time_is_done_even_if_it_is_for_another(
    desk: Desk,
) -> None:
    old = time.time() - 100
    assert await desk.tell({**GOOD, "node": "there"}, sent_at=old) == (
        [DONE],
        [Answer("", AnswerKind.ELSEWHERE, (FOR_ANOTHER,))],
    )
    verdicts, answers = await desk.tell(GOOD, sent_at=old)
    assert (verdicts, answers[0].kind) == ([DONE], "expired")


async def test_with_no_maxage_nothing_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, maxage=0)
    assert (await desk.tell(GOOD, sent_at=1.0))[0] == [TAKEN]
    desk.finish()
    await desk.engine.drain(1)


@pytest.mark.parametrize(("returnable", "verdict", "answered"), [(True, BUSY, 0), (False, DONE, 1)])
async def test_where_there_is_no_room(
    desk: Desk, returnable: bool, verdict: Verdict, answered: int
) -> None:
    for _ in range(2):
        await desk.tell(GOOD)
    verdicts, answers = await desk.tell(GOOD, returnable=returnable)
    assert verdicts == [verdict]
    assert len(answers) == answered
    assert sum(isinstance(event, RequestReturned) for event in desk.events) == 1 - answered


async def test_what_was_busy_is_taken_when_it_comes_again(desk: Desk) -> None:
    first = [await desk.tell({**GOOD, "id": str(n)}) for n in range(2)]
    assert [verdicts for verdicts, _ in first] == [[TAKEN], [TAKEN]]
    assert (await desk.tell({**GOOD, "id": "again"}, returnable=True))[0] == [BUSY]
    desk.finish()
    while desk.engine.runs.listed():
        await asyncio.sleep(0)
    assert (await desk.tell({**GOOD, "id": "again"}, returnable=True, settled=2))[0] == [
        TAKEN,
        DONE,
    ]


async def test_the_second_of_an_id_is_done_and_answered_like_the_first(desk: Desk) -> None:
    _, (first,) = await desk.tell({**GOOD, "id": "one"})
    verdicts, (second,) = await desk.tell({**GOOD, "id": "one"})
    assert verdicts == [DONE]
    assert (second.kind, second.id, second.interfaces) == (first.kind, first.id, first.interfaces)
    assert second.warnings


async def test_a_late_copy_is_known_though_it_is_too_old_by_now(desk: Desk) -> None:
    await desk.tell({**GOOD, "id": "one"})
    verdicts, (answer,) = await desk.tell({**GOOD, "id": "one"}, sent_at=time.time() - 100)
    assert (verdicts, answer.kind) == ([DONE], "accepted")
    assert not any(isinstance(event, RequestRejected) for event in desk.events)


async def test_a_dry_run_of_a_known_id_is_a_dry_run(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.tell({**GOOD, "id": "one"})

    async def possible(*_: object) -> None:
        return None

    monkeypatch.setattr(desk.engine.runs, "try_out", possible)
    assert (await desk.tell({**GOOD, "id": "one", "dryrun": True}))[1][0].kind == "dryrun"


async def test_where_memory_is_spent_what_can_come_again_is_given_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def spent(session: Session) -> Captured:
        session.armed.cancel()
        raise Busy("the memory budget is spent")

    monkeypatch.setattr(Session, "run", spent)
    assert (await desk.tell(GOOD, returnable=True)) == ([BUSY], [])
    assert (await desk.tell(GOOD))[0] == [DONE]


async def test_two_of_an_id_at_once_are_one(desk: Desk) -> None:
    (one, _), (two, _) = await asyncio.gather(
        desk.tell({**GOOD, "id": "x"}), desk.tell({**GOOD, "id": "x"})
    )
    assert sorted([one, two], key=str) == [[DONE], [TAKEN]]


async def test_messages_without_id_are_told_apart_by_their_key(desk: Desk) -> None:
    assert (await desk.tell(GOOD, key="a"))[0] == [TAKEN]
    assert (await desk.tell(GOOD, key="a"))[0] == [DONE]
    assert (await desk.tell(GOOD, key="b"))[0] == [TAKEN]


async def test_a_copy_of_what_is_held_until_done_is_not_given_up_before(desk: Desk) -> None:
    assert (await desk.tell({**GOOD, "id": "x"}, until_done=True))[0] == [TAKEN]
    assert (await desk.tell({**GOOD, "id": "x"}, until_done=True))[0] == [BUSY]
    desk.finish()
    while desk.engine.runs.listed():
        await asyncio.sleep(0)
    assert (await desk.tell({**GOOD, "id": "x"}, until_done=True))[0] == [DONE]


async def test_a_refused_id_may_be_tried_again(desk: Desk) -> None:
    assert (await desk.tell({**GOOD, "id": "x", "bpf": "bad"}))[0] == [BAD]
    assert (await desk.tell({**GOOD, "id": "x"}))[0] == [TAKEN]


async def test_a_defect_of_ours_does_not_make_a_message_come_for_ever(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcapdaemon.core.intake.make_plan", lambda *_: 1 / 0)
    verdicts, answers = await desk.tell(GOOD)
    assert verdicts == [DONE]
    assert [answer.kind for answer in answers] == ["unavailable"]


async def test_while_it_ends_messages_are_left_to_others(desk: Desk) -> None:
    await desk.engine.drain(0.01)
    verdicts, answers = await desk.tell(GOOD)
    assert verdicts == [BUSY]
    assert [answer.kind for answer in answers] == ["unavailable"]


async def test_a_capture_that_was_given_up_at_the_end_is_not_done(desk: Desk) -> None:
    verdicts, _ = await desk.tell(GOOD)
    await desk.engine.drain(0.01)
    assert verdicts == [TAKEN]


async def test_a_clock_that_is_off_is_told_once_per_source(desk: Desk) -> None:
    for _ in range(2):
        await desk.tell({**GOOD, "node": "here", "issued_at": "2199-01-01T00:00:00+01:00"})
    assert sum(isinstance(event, ClocksDiffer) for event in desk.events) == 1


async def test_what_joins_another_comes_after_that_one_was_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(monkeypatch, coalesce=30, maxcaptures=50)
    monkeypatch.setattr(Session, "extend", lambda session, limits: session.armed.done())
    await asyncio.gather(*(desk.tell({**GOOD, "id": str(n)}) for n in range(20)))
    await desk.tell({**GOOD, "id": "last"})
    reported: set[str] = set()
    for event in desk.events:
        if isinstance(event, RequestAccepted):
            reported.add(event.plan.id)
        elif isinstance(event, RequestJoined):
            assert event.joined in reported
    assert any(isinstance(event, RequestJoined) and event.id == "last" for event in desk.events)
    desk.finish()
    await desk.engine.drain(1)
    finished = {event.id for event in desk.events if isinstance(event, RequestFinished)}
    assert finished == {*map(str, range(20)), "last"}
