"""The engine with captures that behave like no real ones: they hang, or fail unexpectedly."""

import asyncio
import errno
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from pcapdaemon import config, runs
from pcapdaemon.around import Around
from pcapdaemon.capture.session import Armed, Origins, Session
from pcapdaemon.core.answers import Answer, Verdict
from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.core.events import (
    CaptureFailed,
    CaptureStopped,
    Event,
    RequestAccepted,
    RequestFinished,
    RequestRejected,
)
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.core.limits import StopReason
from pcapdaemon.core.outcome import Outcome
from pcapdaemon.core.plan import CapturePlan, InterfacePlan
from pcapdaemon.delivery.delivery import Delivery
from pcapdaemon.delivery.settings import DeliverySettings
from pcapdaemon.engine import Engine
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.runs import Runs
from pcapdaemon.savefile.packing import Captured
from pcapdaemon.sources.base import Message

SETTINGS = config.validate(
    {"http": {"listen": True}, "general": {"writelocal": True, "localdir": "/tmp"}}
)
OUTCOME = Outcome(stop_reason=StopReason.PACKETS, seconds=1.0, trigger=1.0)


class Run:
    """An engine whose sessions run `behaviour`, and the events and answers that result."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        behaviour: Callable[[Session], Any],
        interfaces: int = 1,
    ) -> None:
        monkeypatch.setattr(runs, "ANSWER_WITHIN", 0.05)
        monkeypatch.setattr(Session, "run", behaviour)
        self.events: list[Event] = []
        self.answers: list[Answer] = []
        names = {f"e{n}": Interface(f"e{n}", InterfaceKind.NETWORK) for n in range(interfaces)}
        delivery = Delivery({}, self.events.append, DeliverySettings())
        made = Runs(SETTINGS, MemoryBudget(64 << 20), delivery, self.events.append, Origins())
        self.engine = Engine("here", SETTINGS, made, self.events.append, Around(lambda: names))
        body = json.dumps({"node": "any", "interface": list(names), "id": "ID"}).encode()
        self.engine.take(Message(body, "test", answer=self.answers.append))

    def reported(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


async def hang(session: Session) -> None:
    session.armed.set_result(Armed("EN10MB", 96, 1.0))
    await asyncio.Event().wait()


async def hang_before_it_is_armed(session: Session) -> None:
    await asyncio.Event().wait()


async def refuse(session: Session) -> None:
    session.armed.cancel()
    raise CaptureRefused("no", kind="filter")


async def break_down(session: Session) -> None:
    session.armed.cancel()
    raise RuntimeError("unforeseen")


async def test_a_capture_that_hangs_at_the_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, hang)
    while not run.answers:
        await asyncio.sleep(0)
    await run.engine.drain(0.01)
    assert [failure.reason for failure in run.reported(CaptureFailed)] == [runs.ENDED]


async def test_names_that_take_long_are_accepted_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(monkeypatch, hang_before_it_is_armed)
    while not run.answers:
        await asyncio.sleep(0.01)
    assert run.answers[0].kind == "accepted"
    await run.engine.drain(0.01)


@pytest.mark.parametrize(("behaviour", "kind"), [(refuse, "invalid"), (break_down, "unavailable")])
async def test_where_no_capture_can_begin_the_request_is_rejected_once(
    monkeypatch: pytest.MonkeyPatch, behaviour: Callable[[Session], Any], kind: str
) -> None:
    run = Run(monkeypatch, behaviour, interfaces=2)
    while not run.answers:
        await asyncio.sleep(0)
    await run.engine.drain(1)
    assert [answer.kind for answer in run.answers] == [kind]
    assert len(run.answers[0].problems) == 2
    assert [event.kind for event in run.reported(RequestRejected)] == [kind]
    assert not run.reported(RequestAccepted)
    assert not run.reported(RequestFinished)


async def test_a_fault_at_the_end_of_one_capture_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = asyncio.Event()

    async def end(session: Session) -> Captured:
        session.armed.set_result(Armed("EN10MB", 96, 1.0))
        if session.name == "e1":
            await gate.wait()
        return Captured(OUTCOME, None)

    def broken(plan: CapturePlan, part: InterfacePlan, captured: Captured) -> str:
        if part.interface.name == "e0":
            raise RuntimeError("unforeseen")
        return part.file_name

    monkeypatch.setattr(runs, "_named", broken)
    run = Run(monkeypatch, end, interfaces=2)
    while not run.reported(CaptureFailed):
        await asyncio.sleep(0)
    gate.set()
    while not run.reported(RequestFinished):
        await asyncio.sleep(0)
    assert [event.interface for event in run.reported(CaptureFailed)] == ["e0"]
    assert [event.interface for event in run.reported(CaptureStopped)] == ["e1"]
    await run.engine.drain(1)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
@pytest.mark.parametrize("returnable", [False, True])
async def test_a_system_short_of_something_is_busy(
    monkeypatch: pytest.MonkeyPatch, error: int, returnable: bool
) -> None:
    def short(_: Session) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(Session, "_choose_source", short)
    run = Run(monkeypatch, hang)
    verdicts: list[Verdict] = []
    body = b'{"node":"any","interface":["e0"],"id":"other"}'
    run.engine.take(Message(body, "test", returnable=returnable, settle=verdicts.append))
    while not run.answers or not verdicts:
        await asyncio.sleep(0)
    assert run.answers[0].kind == "busy"
    assert os.strerror(error) in str(run.answers[0].problems)
    assert verdicts == [Verdict.BUSY if returnable else Verdict.DONE]
    await run.engine.drain(1)


async def test_nothing_is_begun_while_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, hang)
    await run.engine.drain(0.01)
    run.engine.take(
        Message(b'{"node":"any","interface":["e0"]}', "test", answer=run.answers.append)
    )
    assert run.answers[-1].kind == "unavailable"
