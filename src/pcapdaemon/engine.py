"""From messages to finished requests: reads, decides, captures, delivers, and says of each what became of it."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import structlog

from pcapdaemon.capture import MemoryBudget, Record, Savefile, list_interfaces
from pcapdaemon.config import Settings
from pcapdaemon.delivery import Delivery
from pcapdaemon.destinations.base import Facts
from pcapdaemon.errors import Busy, CaptureRefused
from pcapdaemon.events import (
    CaptureFailed,
    CaptureStarted,
    CaptureStopped,
    Counts,
    PacketsLogged,
    Publish,
    RequestAccepted,
    RequestFinished,
    RequestLogged,
    RequestRejected,
)
from pcapdaemon.plan import CapturePlan, Interface, InterfacePlan, Rejection, Surroundings, make_plan
from pcapdaemon.request import (
    ON_THE_WIRE,
    Problem,
    UnreadableMessage,
    addressed_to,
    new_id,
    read,
    unknown_fields,
    validate,
)
from pcapdaemon.session import Armed, Session, Stopped
from pcapdaemon.sources.base import Answer, Message

ANSWER_WITHIN = 2.0
"""Seconds after which a sender is told "accepted" though a capture has not begun: names in its filter may take long in DNS."""

TRIM_AFTER = 30.0
"""Seconds without a capture after which warm memory goes back to the system."""

ENDED = "the daemon ended before the capture did"

PACKETS_AT_ONCE = 500
"""Packets whose metadata is logged before others have their turn in the event loop."""

MOST_PROBLEMS = 20
"""Problems of a request that are told one by one: what strangers send must not fill logs and memory."""

LONGEST_LOGGED = 4096
"""Bytes of a message that are logged where that is asked for."""

FAILURES = {"filter": "invalid", "interface": "invalid", "permission": "unavailable", "busy": "busy"}
"""Kinds of CaptureFailed -> kinds of an Answer."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """A request in progress: its sessions by interface."""

    plan: CapturePlan
    sessions: Mapping[str, Session]


class Engine:
    """Takes messages from all sources. `settings` and `delivery` may be replaced at any time; what runs keeps its own."""

    def __init__(
        self,
        node: str,
        settings: Settings,
        budget: MemoryBudget,
        delivery: Delivery,
        publish: Publish,
        interfaces: Callable[[], dict[str, Interface]] = list_interfaces,
    ) -> None:
        self.node, self.settings, self.delivery = node, settings, delivery
        self.budget = budget
        self.set_aside = 0
        self._draining = False
        self._publish, self._interfaces = publish, interfaces
        self._running: dict[str, Running] = {}
        self._active: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._trim: asyncio.TimerHandle | None = None

    def take(self, message: Message) -> None:
        """Begin with a message; returns at once. What is for another node is set aside here, and costs microseconds."""
        if self._draining:
            _answer(message, Answer("", "unavailable", (Problem("", "the daemon is shutting down"),)))
            return
        try:
            fields = read(message.body)
        except UnreadableMessage as error:
            self._spawn(self._reject_unread(message, str(error)))
            return
        if addressed_to(fields, self.node):
            self._spawn(self._handle_or_say_why_not(message, fields))
            return
        self.set_aside += 1
        _answer(message, Answer(str(fields.get("id") or ""), "elsewhere"))
        if message.nack:
            self._spawn(message.nack())

    def counts(self, request_id: str) -> dict[str, Counts]:
        """Live counters of a request's captures, by interface."""
        running = self._running.get(request_id)
        return {name: session.counts() for name, session in running.sessions.items()} if running else {}

    def stop(self, request_id: str) -> bool:
        """End all captures of a request, which are then delivered; false where none runs."""
        running = self._running.get(request_id)
        for session in running.sessions.values() if running else ():
            session.stop()
        return running is not None

    def stop_all(self) -> None:
        """End all captures, begun or not."""
        for session in self._active:
            session.stop()

    async def drain(self, seconds: float) -> None:
        """End all captures and wait until they are delivered; what is not by then is given up, and named in an event."""
        self._draining = True
        self.stop_all()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._trim:
            self._trim.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle_or_say_why_not(self, message: Message, fields: dict[str, Any]) -> None:
        try:
            await self._handle(message, fields)
        except Exception as error:  # a defect of ours: whoever waits is told all the same
            log.exception("a request failed in an unforeseen way", source=message.source)
            _answer(message, Answer("", "unavailable", (Problem("", f"internal error: {type(error).__name__}"),)))
        except asyncio.CancelledError:
            _answer(message, Answer("", "unavailable", (Problem("", ENDED),)))
            raise

    async def _handle(self, message: Message, fields: dict[str, Any]) -> None:
        request, problems = validate(fields)
        request_id = request.id or new_id()
        general = self.settings.general
        self._log_message(message, request_id, asked=request.log_request)
        around = Surroundings(self.node, time.time(), self._interfaces(), self.settings.aliases)
        plan = self._if_room(make_plan(request_id, request, problems, general, around))
        warnings = tuple(f"unknown field {name!r} is ignored" for name in unknown_fields(fields))
        if isinstance(plan, Rejection):
            await self._reject(message, plan, warnings)
            return
        if request.packet_debug and not plan.packet_debug:
            warnings += ("packetdebug is ignored: [general] allow_packetdebug is not set",)
        await self._begin(message, plan, warnings)

    def _if_room(self, plan: CapturePlan | Rejection) -> CapturePlan | Rejection:
        if isinstance(plan, Rejection):
            return plan
        if plan.id in self._running:
            problem = Problem("id", "a request of this id is running; stop it, or choose another")
            return Rejection(plan.id, (problem,), "conflict")
        most = self.settings.general.maxcaptures
        if len(self._active) + len(plan.captures) > most:
            words = f"{len(self._active)} captures run, {len(plan.captures)} more would be over [general] maxcaptures = {most}"
            return Rejection(plan.id, (Problem("", words),), "busy")
        return plan

    async def _reject_unread(self, message: Message, reason: str) -> None:
        rejection = Rejection(new_id(), (Problem("", reason),))
        self._log_message(message, rejection.id)
        await self._reject(message, rejection)

    async def _reject(self, message: Message, rejection: Rejection, warnings: tuple[str, ...] = (), hint: str = "") -> None:
        problems = rejection.problems
        if len(problems) > MOST_PROBLEMS:
            more = Problem("", f"and {len(problems) - MOST_PROBLEMS} more problems")
            problems = (*problems[:MOST_PROBLEMS], more)
        self._publish(RequestRejected(rejection.id, message.source, problems, rejection.kind, warnings))
        _answer(message, Answer(rejection.id, rejection.kind, problems, hint=hint, warnings=warnings))
        if message.ack:
            await message.ack()

    async def _begin(self, message: Message, plan: CapturePlan, warnings: tuple[str, ...]) -> None:
        """Start the sessions, and accept the request as soon as one captures: if none can, it is rejected."""
        sessions = {part.interface.name: self._session(plan, part) for part in plan.captures}
        runs = {session: asyncio.create_task(self._run(session)) for session in sessions.values()}
        self._running[plan.id] = Running(plan, sessions)
        self._active.update(runs)
        try:
            await asyncio.wait([session.armed for session in runs], timeout=ANSWER_WITHIN)
            if all(session.armed.cancelled() for session in runs):
                failures = [failure for failure in await asyncio.gather(*runs.values()) if isinstance(failure, CaptureFailed)]
                await self._reject(message, _rejection(plan, failures), warnings, next((f.hint for f in failures if f.hint), ""))
            else:
                await self._accept(message, plan, warnings)
                await asyncio.gather(*(self._follow(session, run) for session, run in runs.items()))
                self._publish(RequestFinished(plan.id))
        finally:
            for run in runs.values():
                run.cancel()
            del self._running[plan.id]

    def _session(self, plan: CapturePlan, part: InterfacePlan) -> Session:
        return Session(plan, part, self.budget, self.settings.capture)

    async def _accept(self, message: Message, plan: CapturePlan, warnings: tuple[str, ...]) -> None:
        self._publish(RequestAccepted(message.source, plan, time.time(), warnings))
        for name, reason in plan.missing:
            self._publish(CaptureFailed(plan.id, name, reason, kind="interface"))
        interfaces = tuple(part.interface.name for part in plan.captures)
        _answer(message, Answer(plan.id, "accepted", interfaces=interfaces, warnings=warnings))
        if message.ack:
            await message.ack()

    async def _run(self, session: Session) -> Stopped | CaptureFailed:
        """One capture from beginning to end; what went wrong is a result too."""
        request_id, interface = session.plan.id, session.part.interface.name
        try:
            return await session.run()
        except (CaptureRefused, Busy) as error:
            kind = error.kind if isinstance(error, CaptureRefused) else "busy"
            return CaptureFailed(request_id, interface, str(error), error.hint, kind)
        except Exception as error:
            log.exception("a capture failed in an unforeseen way", id=request_id, interface=interface)
            return CaptureFailed(request_id, interface, f"internal error: {type(error).__name__}: {error}")
        finally:
            self._active.discard(session)
            self._trim_later()

    async def _follow(self, session: Session, run: asyncio.Task[Stopped | CaptureFailed]) -> None:
        """Tell of one capture of an accepted request, and deliver what it has."""
        delivery = self.delivery
        await asyncio.wait([session.armed])
        self._started(session.plan.id, session.part.interface.name, session.armed)
        try:
            result = await run
        except asyncio.CancelledError:
            self._publish(CaptureFailed(session.plan.id, session.part.interface.name, ENDED))
            raise
        if isinstance(result, CaptureFailed):
            self._publish(result)
        else:
            await self._stopped(session, result, delivery)

    def _started(self, request_id: str, interface: str, armed: "asyncio.Future[Armed]") -> None:
        if not armed.cancelled():
            at = armed.result()
            self._publish(CaptureStarted(request_id, interface, at.linktype, at.snaplen, at.at))

    async def _stopped(self, session: Session, stopped: Stopped, delivery: Delivery) -> None:
        plan, part = session.plan, session.part
        interface, name = part.interface.name, part.file_name
        self._publish(
            CaptureStopped(
                plan.id, interface, name, stopped.reason, stopped.counts, stopped.times, stopped.seconds, stopped.error
            )
        )
        if stopped.savefile is None:
            return
        with stopped.savefile as savefile:  # closed even where an error still refers to it: memory must not wait for that
            facts = Facts(plan.id, interface, name, part.tags, plan.request)
            await delivery.deliver(savefile, facts, stopped.counts.packets)
            if plan.packet_debug:
                await self._log_packets(plan.id, interface, savefile)

    def _log_message(self, message: Message, request_id: str, asked: bool = False) -> None:
        if asked or self.settings.general.logrequests:
            body = message.body[:LONGEST_LOGGED].decode("utf-8", "replace")
            more = len(message.body) - LONGEST_LOGGED
            self._publish(RequestLogged(request_id, message.source, body + (f"... and {more} bytes" if more > 0 else "")))

    async def _log_packets(self, request_id: str, interface: str, savefile: Savefile) -> None:
        records = savefile.records()
        while lines := tuple(_packet_line(record) for record in islice(records, PACKETS_AT_ONCE)):
            self._publish(PacketsLogged(request_id, interface, lines))
            await asyncio.sleep(0.01)  # for others, and for the log to be written

    def _trim_later(self) -> None:
        if self._trim:
            self._trim.cancel()
        self._trim = asyncio.get_running_loop().call_later(TRIM_AFTER, self._trim_if_idle)

    def _trim_if_idle(self) -> None:
        if not self._active:
            self.budget.trim()


def _answer(message: Message, answer: Answer) -> None:
    if message.answer:
        with suppress(asyncio.InvalidStateError):  # it was answered before
            message.answer(answer)


def _rejection(plan: CapturePlan, failures: list[CaptureFailed]) -> Rejection:
    problems = [Problem(_blamed(failure), f"{failure.interface}: {failure.reason}") for failure in failures]
    problems += [Problem(ON_THE_WIRE["interfaces"], f"{name}: {reason}") for name, reason in plan.missing]
    kinds = {FAILURES.get(failure.kind, "unavailable") for failure in failures}
    return Rejection(plan.id, tuple(problems), kinds.pop() if len(kinds) == 1 else "unavailable")


def _blamed(failure: CaptureFailed) -> str:
    field = {"filter": "capture_filter", "interface": "interfaces"}.get(failure.kind)
    return ON_THE_WIRE[field] if field else ""


def _packet_line(record: Record) -> str:
    return f"{record.seconds}.{record.microseconds:06} captured {record.captured} length {record.length}"
