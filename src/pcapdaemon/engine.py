"""From a message to a decision: is it for this node, new, in time and possible? Every one is answered and settled.

What was accepted is handed to `runs.py`, which captures and delivers.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import structlog

from pcapdaemon.capture.session import RecorderOf
from pcapdaemon.config import Settings
from pcapdaemon.core.admission import Rates, age_of
from pcapdaemon.core.answers import Answer, Verdict
from pcapdaemon.core.events import (
    CaptureFailed,
    ClocksDiffer,
    Publish,
    RequestAccepted,
    RequestCancelled,
    RequestJoined,
    RequestLogged,
    RequestRejected,
    RequestReturned,
    RequestSeenBefore,
)
from pcapdaemon.core.interface import Interface
from pcapdaemon.core.orders import Order, find_order
from pcapdaemon.core.outcome import Counts
from pcapdaemon.core.plan import CapturePlan, Rejection, Surroundings, make_plan
from pcapdaemon.core.request import (
    CaptureRequest,
    Problem,
    UnreadableMessage,
    addressed_to,
    new_id,
    read,
    unknown_fields,
    validate,
)
from pcapdaemon.dedupe import Dedupe
from pcapdaemon.delivery.delivery import Delivery
from pcapdaemon.native.interfaces import list_interfaces
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.runs import ENDED, Runs
from pcapdaemon.sources.base import Message

MOST_PROBLEMS = 20
"""Problems of a request that are told one by one: what strangers send must not fill logs and memory."""

LONGEST_LOGGED = 4096
"""Bytes of a message that are logged where that is asked for."""

VERDICTS = {"invalid": Verdict.BAD}
"""Kinds of a rejection -> what the source does; the others are DONE."""

log = structlog.get_logger()


class Engine:
    """Takes messages from all sources. `settings` and `node` may be replaced at any time.

    `places` are those that a request's `reply_to` may name.
    """

    def __init__(
        self,
        node: str,
        settings: Settings,
        budget: MemoryBudget,
        delivery: Delivery,
        publish: Publish,
        interfaces: Callable[[], dict[str, Interface]] = list_interfaces,
        statedir: Path | None = None,
        places: Callable[[], frozenset[str]] = frozenset,
        recorder_of: RecorderOf = lambda _: None,
    ) -> None:
        self.node, self._settings = node, settings
        self.skipped = 0
        self.runs = Runs(settings, budget, delivery, publish, recorder_of)
        self._draining = False
        self._publish, self._interfaces, self._places = publish, interfaces, places
        self._dedupe, self._rates = Dedupe(statedir), Rates()
        self._reported_clocks: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def settings(self) -> Settings:
        """The configuration that the next message is judged by."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = self.runs.settings = settings

    def take(self, message: Message) -> None:
        """Begin with a message; returns at once. What is for another node is set aside here, and costs microseconds."""
        if self._draining:
            self._unavailable(message, "the daemon is shutting down")
            _settle(message, Verdict.BUSY)
            return
        try:
            fields = read(message.body)
        except UnreadableMessage as error:
            rejection = Rejection(new_id(), (Problem("", str(error)),))
            self._log_message(message, rejection.id)
            self._reject(message, rejection)
            return
        if addressed_to(fields, self.node, self._settings.general.labels):
            self._spawn(self._handle_or_say_why_not(message, fields))
            return
        self.skipped += 1
        if message.answer:
            _answer(message, Answer(str(fields.get("id") or ""), "elsewhere"))
        self._skip(message)

    def counts(self, request_id: str) -> dict[str, Counts]:
        """Live counters of a request's captures, by interface."""
        return self.runs.counts(request_id)

    def cancel(self, request_id: str, source: str) -> bool:
        """End all captures of a request, which are then delivered, unless others joined it; false where none runs."""
        found = self.runs.cancel(request_id)
        if found:
            self._publish(RequestCancelled(request_id, source))
        return found

    async def drain(self, seconds: float) -> None:
        """End all captures and wait until they are delivered; what is not by then goes to the spool, or is lost and named."""
        self._draining = True
        self.runs.stop_all(shutdown=True)
        self.runs.delivery.end_soon()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        await self.runs.delivery.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.runs.close()

    def _skip(self, message: Message) -> None:
        if message.settle:
            _settle(message, Verdict.DONE if self._too_old(message.sent_at, None) else Verdict.ELSEWHERE)

    def _too_old(self, sent_at: float | None, issued_at: float | None) -> float:
        """The age in seconds where it is too much, else 0."""
        age = age_of(sent_at, issued_at, time.time()).seconds
        return age if 0 < self._settings.general.maxage < age else 0

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle_or_say_why_not(self, message: Message, fields: dict[str, Any]) -> None:
        try:
            await self._handle(message, fields)
        except Exception as error:  # a defect of ours: whoever waits is told, and the message does not come again and again
            log.exception("a request failed in an unforeseen way", source=message.source)
            self._unavailable(message, f"internal error: {type(error).__name__}")
            _settle(message, Verdict.DONE)
        except asyncio.CancelledError:
            _answer(message, Answer("", "unavailable", (Problem("", ENDED),)))
            raise

    def _unavailable(self, message: Message, reason: str) -> None:
        request_id, problem = new_id(), Problem("", reason)
        self._publish(RequestRejected(request_id, message.source, (problem,), "unavailable"))
        _answer(message, Answer(request_id, "unavailable", (problem,)))

    async def _handle(self, message: Message, fields: dict[str, Any]) -> None:
        match find_order(fields):
            case Order() as order:
                self._obey(message, order)
                return
            case [*problems] if problems:
                self._reject(message, Rejection(new_id(), tuple(problems)))
                return
        request, problems = validate(fields)
        request_id = request.id or new_id()
        self._log_message(message, request_id, asked=request.log_request)
        warnings = tuple(f"unknown field {name!r} is ignored" for name in unknown_fields(fields))
        key, seconds = _key(message, request), self._settings.general.dedupe
        if not request.dryrun and (before := self._dedupe.answer_to(key, seconds)):  # also where it is too old by now
            self._seen_before(message, request, before, warnings)
            return
        plan = self._plan(message, request_id, request, problems)
        if isinstance(plan, Rejection):
            self._reject(message, plan, warnings, request)
            return
        if request.packet_debug and not plan.packet_debug:
            warnings += ("packetdebug is ignored: [general] allow_packetdebug is not set",)
        if request.dryrun:
            await self._try_out(message, plan, warnings)
        else:
            await self._take_once(message, plan, warnings)

    def _obey(self, message: Message, order: Order) -> None:
        if not order.cancel:
            _answer(message, Answer(order.id, "list", details={"running": self.runs.listed()}))
            _settle(message, Verdict.DONE)
        elif self.cancel(order.cancel, message.source):
            _answer(message, Answer(order.id or order.cancel, "cancelled"))
            _settle(message, Verdict.DONE)
        else:
            problem = Problem("cancel", f"no request {order.cancel!r} runs on this node")
            _answer(message, Answer(order.id or order.cancel, "unknown", (problem,)))
            self._skip(message)  # it may run on another

    def _plan(
        self, message: Message, request_id: str, request: CaptureRequest, problems: list[Problem]
    ) -> CapturePlan | Rejection:
        issued_at = request.issued_at.timestamp() if request.issued_at else None
        self._compare_clocks(message, issued_at)
        if age := self._too_old(message.sent_at, issued_at):
            words = f"{age:.0f} s old; this node takes requests up to {self._settings.general.maxage} s ([general] maxage)"
            return Rejection(request_id, (Problem("issued_at" if issued_at else "", words),), "expired")
        problems = problems + self.runs.delivery.objections(request)
        around = Surroundings(self.node, time.time(), self._interfaces(), self._settings.aliases, self._places())
        return make_plan(request_id, request, problems, self._settings.general, around)

    def _compare_clocks(self, message: Message, issued_at: float | None) -> None:
        off = age_of(message.sent_at, issued_at, time.time()).clock_off
        if off and message.source not in self._reported_clocks:
            self._reported_clocks.add(message.source)
            self._publish(ClocksDiffer(message.source, off))

    async def _try_out(self, message: Message, plan: CapturePlan, warnings: tuple[str, ...]) -> None:
        if words := self.runs.no_room_for(plan):
            self._reject(message, Rejection(plan.id, (Problem("", words),), "busy"), warnings, plan.request)
        elif rejection := await self.runs.try_out(plan):
            self._reject(message, rejection, warnings, plan.request)
        else:
            interfaces = tuple(part.interface.name for part in plan.captures)
            details = {
                "limits": asdict(plan.limits),
                "snaplen": plan.snaplen,
                "lookback": plan.lookback,
                "unavailable": dict(plan.unavailable),
            }
            to = plan.request.reply_to
            _answer(message, Answer(plan.id, "dryrun", interfaces=interfaces, warnings=warnings, details=details, reply_to=to))
            _settle(message, Verdict.DONE)

    async def _take_once(self, message: Message, plan: CapturePlan, warnings: tuple[str, ...]) -> None:
        """Accept the request, unless it was before."""
        key, seconds = _key(message, plan.request), self._settings.general.dedupe
        if key and seconds and (before := await self._dedupe.claim(key, seconds)) is not None:
            self._seen_before(message, plan.request, before, warnings)
            return
        accepted = None
        try:
            accepted = await self._accept(message, plan, warnings)
        finally:
            if key and seconds:  # what a crash in between makes come again is found in the file
                await self._dedupe.decide(key, accepted, keep=not message.until_done)
        if accepted is None:
            return
        _answer(message, accepted)
        _settle(message, Verdict.TAKEN)
        await self.runs.follow(plan.id)
        if key and seconds and message.until_done:
            await self._dedupe.keep(key)
        _settle(message, Verdict.DONE)

    def _seen_before(self, message: Message, request: CaptureRequest, before: Answer, warnings: tuple[str, ...]) -> None:
        self._publish(RequestSeenBefore(before.id, message.source, request))
        words = "it was accepted before, and is not captured again"
        _answer(message, replace(before, warnings=(*warnings, words)))
        # where the message itself is what survives a crash, its copy must not be lost before the capture is delivered
        _settle(message, Verdict.BUSY if message.until_done and before.id in self.runs else Verdict.DONE)

    async def _accept(self, message: Message, plan: CapturePlan, warnings: tuple[str, ...]) -> Answer | None:
        """The answer, where a capture has begun or was joined; None where the message was settled in another way."""
        general = self._settings.general
        interfaces = tuple(part.interface.name for part in plan.captures)
        if plan.id in self.runs:
            problem = Problem("id", "a request of this id is running; stop it, or choose another")
            self._reject(message, Rejection(plan.id, (problem,), "conflict"), warnings, plan.request)
            return None
        if general.coalesce and (run := self.runs.join(plan)):
            joined = RequestJoined(plan.id, message.source, run.plan.id, message.arrived_at, plan.request, warnings)
            self._publish(joined)
            return Answer(plan.id, "accepted", interfaces=interfaces, warnings=warnings, joined=run.plan.id)
        no_room = self.runs.no_room_for(plan)
        if busy := no_room or self._rates.refusal(plan.request.customer, general.rate, general.customer_rate, time.monotonic()):
            self._refuse_for_now(message, Rejection(plan.id, (Problem("", busy),), "busy"), warnings, plan.request)
            return None
        run_or_not = await self.runs.begin(plan, message.source, message.arrived_at)
        if isinstance(run_or_not, Rejection):
            refuse = self._refuse_for_now if run_or_not.kind == "busy" else self._reject
            refuse(message, run_or_not, warnings, plan.request)
            return None
        run_or_not.accepted = True
        self._publish(RequestAccepted(message.source, plan, message.arrived_at, warnings))
        for name, reason in plan.unavailable:
            self._publish(CaptureFailed(plan.id, name, reason, kind="interface"))
        return Answer(plan.id, "accepted", interfaces=interfaces, warnings=warnings)

    def _refuse_for_now(self, message: Message, rejection: Rejection, warnings: tuple[str, ...], request: CaptureRequest) -> None:
        if message.returnable:
            self._publish(RequestReturned(rejection.id, message.source, str(rejection.problems[0])))
            _settle(message, Verdict.BUSY)
        else:
            self._reject(message, rejection, warnings, request)

    def _reject(
        self,
        message: Message,
        rejection: Rejection,
        warnings: tuple[str, ...] = (),
        request: CaptureRequest | None = None,
    ) -> None:
        problems = rejection.problems
        if len(problems) > MOST_PROBLEMS:
            more = Problem("", f"and {len(problems) - MOST_PROBLEMS} more problems")
            problems = (*problems[:MOST_PROBLEMS], more)
        told = RequestRejected(rejection.id, message.source, problems, rejection.kind, warnings, rejection.hint, request)
        self._publish(told)
        _answer(message, Answer(rejection.id, rejection.kind, problems, hint=rejection.hint, warnings=warnings))
        _settle(message, VERDICTS.get(rejection.kind, Verdict.DONE))

    def _log_message(self, message: Message, request_id: str, asked: bool = False) -> None:
        if asked or self._settings.general.logrequests:
            body = message.body[:LONGEST_LOGGED].decode("utf-8", "replace")
            more = len(message.body) - LONGEST_LOGGED
            self._publish(RequestLogged(request_id, message.source, body + (f"... and {more} bytes" if more > 0 else "")))


def _key(message: Message, request: CaptureRequest) -> str:
    """What tells a request from all others: its id, or its place on the bus; empty where there is neither."""
    return f"id {request.id}" if request.id else f"message {message.key}" if message.key else ""


def _answer(message: Message, answer: Answer) -> None:
    if message.answer:
        with suppress(asyncio.InvalidStateError):  # it was answered before
            message.answer(answer)


def _settle(message: Message, verdict: Verdict) -> None:
    if message.settle:
        message.settle(verdict)
