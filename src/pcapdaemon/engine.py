"""Answers and settles every message exactly once.

`core/intake.py` decides about a message. `runs.py` captures and delivers for accepted requests.
"""

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from pcapdaemon.around import Addressee, Around
from pcapdaemon.core import intake
from pcapdaemon.core.admission import Obeyed, Rates, Refusal, Tally, age_of
from pcapdaemon.core.answers import Answer, AnswerKind, Verdict
from pcapdaemon.core.cloudevents import is_result
from pcapdaemon.core.events import Publish, RequestCancelled, logged, sent_by
from pcapdaemon.core.intake import Conclusion, Envelope, Judged
from pcapdaemon.core.message import UnreadableMessage, read
from pcapdaemon.core.node_events import ClocksDiffer
from pcapdaemon.core.orders import Order
from pcapdaemon.core.outcome import Counts
from pcapdaemon.core.plan import CapturePlan, Rejection
from pcapdaemon.core.request import Problem, new_id
from pcapdaemon.core.requester import HTTP, Rights, Standing, may
from pcapdaemon.core.target import NOTHING_FOUND, Asked
from pcapdaemon.dedupe import Dedupe
from pcapdaemon.orders import obey
from pcapdaemon.runs import ENDED, Runs
from pcapdaemon.settings import Settings
from pcapdaemon.sources.base import Message

UNTRUSTED_A_MINUTE = 60
"""Most messages on a bus a minute whose refusal is reported because nobody vouches for them.

A stranger can send any number of them to all nodes, and each would be answered.
"""

log = structlog.get_logger()


class Engine:
    """Takes messages from all sources. `statedir` keeps which requests were accepted."""

    def __init__(
        self,
        node: str,
        settings: Settings,
        runs: Runs,
        publish: Publish,
        around: Around,
        statedir: Path | None = None,
    ) -> None:
        self.runs, self.skipped = runs, 0
        self._publish, self._around, self._draining = publish, around, False
        self._dedupe, self._rates = Dedupe(statedir), Rates()
        self._obeyed = Obeyed(time.time())
        self._reported_clocks: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._untrusted = Tally(UNTRUSTED_A_MINUTE)
        self._addressee = Addressee(around.addresses)
        self.configure(node, settings)

    def configure(self, node: str, settings: Settings) -> None:
        """Use these settings from the next message on."""
        self.node, self._settings = node, settings
        self._addressee.node, self._addressee.labels = node, settings.general.labels
        self.runs.configure(settings)

    def take(self, message: Message) -> None:
        """Start to process a message, and return at once.

        A message for another node is skipped here, which takes microseconds.
        """
        if self._draining:
            self._conclude(message, _shutting_down(message))
            return
        try:
            fields = read(message.body)
        except UnreadableMessage as error:
            rejection = Rejection(new_id(), (Problem("", str(error)),))
            self._log_message(message, rejection.id)
            self._conclude(message, intake.rejected(message.source, rejection))
            return
        if is_result(fields):  # a place for results that requests come from too
            why = (Problem("", "it is a result, not a request"),)
            answer = Answer("", AnswerKind.ELSEWHERE, why)
            self._conclude(message, Conclusion(Verdict.DONE, answer))
            return
        if self._addressee.means(fields):
            self._spawn(self._handle_or_say_why_not(message, fields))
            return
        self._skip(message, fields)

    def _skip(self, message: Message, fields: dict[str, Any], *why: Problem) -> None:
        self.skipped += 1
        if message.answer or message.settle:
            why = why or (Problem("", f"the request is for another node than {self.node}"),)
            answer = Answer(str(fields.get("id") or ""), AnswerKind.ELSEWHERE, why)
            self._conclude(message, Conclusion(self._elsewhere(message), answer))

    def counts(self, request_id: str) -> dict[str, Counts]:
        """Return the current counts of a request's captures, by interface."""
        return self.runs.counts(request_id)

    def cancel(self, request_id: str, source: str, requester: str = "") -> bool:
        """End and deliver all captures of a request, unless other requests joined it.

        Returns False if none runs.
        """
        found = self.runs.cancel(request_id)
        if found:
            self._publish(RequestCancelled(request_id, source, requester))
        return found

    def owner_of(self, request_id: str) -> str | None:
        """Return whose request an id is, or None."""
        running = self.runs.owner_of(request_id)
        return self._around.owner_of(request_id) if running is None else running

    async def drain(self, seconds: float) -> None:
        """End all captures, and wait at most `seconds` until they are delivered.

        What is not delivered by then goes to the spool, or is lost and reported.
        """
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

    def _conclude(self, message: Message, conclusion: Conclusion) -> None:
        """The one place where a message is answered and settled."""
        for event in conclusion.events:
            self._publish(sent_by(event, message.requester, message.signed_by))
        if message.answer and conclusion.answer:
            with suppress(asyncio.InvalidStateError):  # its sender no longer waits
                message.answer(conclusion.answer)
        if message.settle and conclusion.verdict:
            message.settle(conclusion.verdict)

    def _elsewhere(self, message: Message) -> Verdict:
        """Return the verdict on a message for another node; an expired one is done with."""
        age = age_of(message.sent_at, None, time.time()).seconds
        return Verdict.DONE if intake.too_old(age, self._settings.general) else Verdict.ELSEWHERE

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle_or_say_why_not(self, message: Message, fields: dict[str, Any]) -> None:
        try:
            await self._handle(message, fields)
        except Exception as error:
            # a bug: inform the requester, and don't have the message redelivered forever
            log.exception("a request failed in an unforeseen way", source=message.source)
            words = f"internal error: {type(error).__name__}"
            self._conclude(
                message, intake.unavailable(message.source, new_id(), words, Verdict.DONE)
            )
        except asyncio.CancelledError:
            self._conclude(
                message, Conclusion(None, Answer("", AnswerKind.UNAVAILABLE, (Problem("", ENDED),)))
            )
            raise

    async def _handle(self, message: Message, received: dict[str, Any]) -> None:
        standing = self._around.identify(message, received)
        if isinstance(standing, Rejection):
            if standing.kind is AnswerKind.ELSEWHERE:
                self._skip(message, received)
            else:
                self._conclude(message, self._not_identified(message, standing))
            return
        if standing.is_signed and not self._addressee.means(standing.fields):
            self._skip(message, standing.fields)
            return
        message = replace(message, requester=standing.requester, signed_by=standing.key)
        await self._identified(message, standing)

    async def _identified(self, message: Message, standing: Standing) -> None:
        fields, requester = standing.fields, standing.requester
        envelope = Envelope(
            message.source, message.arrived_at, new_id(), message.sent_at, message.key, requester
        )
        asked = self._targets_to_find(fields, envelope, standing.rights)
        try:
            found = await self._around.find_targets(asked) if asked else NOTHING_FOUND
        except OSError as error:
            words = f"its targets can't be looked up now: {error.strerror or error}"
            self._conclude(
                message, intake.unavailable(message.source, new_id(), words, Verdict.BUSY)
            )
            return
        if asked and asked.select_node and (found.elsewhere or found.starting):
            self._skip(message, fields, Problem(*asked.not_here))
            return
        if self._draining:  # it was being looked up
            self._conclude(message, _shutting_down(message))
            return
        parts = (self._settings, self.runs.delivery, found, standing, self.owner_of)
        judged = intake.judge(fields, envelope, self._around.view(self.node, *parts))
        if isinstance(judged, Judged) and message.stream:
            judged = intake.streamed(judged, message.stream, message.exclude)
        if isinstance(judged, Order):
            self._conclude(message, self._obey(message, judged, standing))
        else:
            await self._judged(message, envelope, judged, standing)

    def _obey(self, message: Message, order: Order, standing: Standing) -> Conclusion:
        if self.owner_of(order.id) not in (None, standing.requester):
            order = replace(order, id="")  # it must not look like a word about that one
        if refusal := self._not_obeyed(standing):
            return intake.not_obeyed(message.source, order.id, refusal)
        presence, elsewhere = self._around.presence(standing.rights), self._elsewhere(message)
        return obey(order, message.source, standing, self.runs, presence, elsewhere)

    async def _judged(
        self, message: Message, envelope: Envelope, judged: Judged, standing: Standing
    ) -> None:
        if standing.warnings:
            judged = replace(judged, warnings=(*judged.warnings, *standing.warnings))
        self._log_message(
            message, judged.id, asked=judged.request is not None and judged.request.log_request
        )
        self._report_clocks(message.source, judged.clock_off)
        dry = judged.request is not None and judged.request.dryrun
        within = self._settings.general.dedupe
        if not dry and (before := self._dedupe.answer_to(judged.key, within)):
            # also if it has expired since
            self._conclude(message, self._seen_before(message, judged, before))
        elif isinstance(judged.plan, Rejection):
            plan, request = judged.plan, judged.request
            self._conclude(message, intake.rejected(message.source, plan, judged.warnings, request))
        elif dry and (refusal := self._not_obeyed(standing)):
            self._conclude(message, intake.not_obeyed(message.source, judged.id, refusal))
        elif dry:
            self._conclude(
                message,
                await self._try_out(message.source, judged.plan, judged.warnings, standing.rights),
            )
        else:
            await self._take_once(message, envelope, judged, judged.plan, standing.rights)

    def _not_obeyed(self, standing: Standing) -> Refusal | None:
        """Return why a message that starts no capture must not be obeyed, or None."""
        within = self._settings.general.maxage + self._settings.trust.skew
        return self._obeyed.refusal(standing, time.monotonic(), within)

    def _not_identified(self, message: Message, refused: Rejection) -> Conclusion:
        if message.returnable and refused.kind is AnswerKind.BUSY:
            return intake.returned(message.source, refused)
        if self.owner_of(refused.id) is not None:  # it must not look like a word about that one
            refused = replace(refused, id=new_id())
        conclusion = intake.rejected(message.source, refused)
        silent = self._untrusted.passes(message.source, time.monotonic()) is None
        return replace(conclusion, events=()) if silent and message.source != HTTP else conclusion

    def _targets_to_find(
        self, fields: dict[str, Any], envelope: Envelope, rights: Rights | None
    ) -> Asked | None:
        """Return what must be looked up, unless the message has its answer without it."""
        if "cancel" in fields or "list" in fields or not may(rights, "capture"):
            return None
        asked, general = intake.targets_of(fields, self._settings.profiles), self._settings.general
        if asked is None:
            return None
        age = age_of(envelope.sent_at, None, time.time()).seconds
        if intake.too_old(age, general) and not asked.select_node:
            return None
        key = intake.key_of(envelope, fields.get("id"))
        answered = self._dedupe.answer_to(key, general.dedupe) is not None
        return None if answered and fields.get("dryrun") is not True else asked

    def _report_clocks(self, source: str, off: float) -> None:
        if off and source not in self._reported_clocks:
            self._reported_clocks.add(source)
            self._publish(ClocksDiffer(source, off))

    async def _try_out(
        self, source: str, plan: CapturePlan, warnings: tuple[str, ...], rights: Rights | None
    ) -> Conclusion:
        if words := self._rate_exceeded(plan, rights):
            busy = Rejection(plan.id, (Problem("", words),), AnswerKind.BUSY)
            return intake.rejected(source, busy, warnings, plan.request)
        if rejection := await self.runs.try_out(plan):
            return intake.rejected(source, rejection, warnings, plan.request)
        return intake.dry_run(source, plan, warnings, time.time())

    async def _take_once(
        self,
        message: Message,
        envelope: Envelope,
        judged: Judged,
        plan: CapturePlan,
        rights: Rights | None,
    ) -> None:
        """Accept the request, unless it was accepted before."""
        key, seconds = judged.key, self._settings.general.dedupe
        remember = bool(key and seconds)
        if remember and (before := await self._dedupe.claim(key, seconds)) is not None:
            self._conclude(message, self._seen_before(message, judged, before))
            return
        accepted: Answer | None = None
        try:
            conclusion = await self._accept(message, envelope, judged, plan, rights)
            accepted = conclusion.answer if conclusion.verdict is Verdict.TAKEN else None
        finally:
            if remember:  # before it is settled: a crash in between must not capture it twice
                await self._dedupe.decide(key, accepted, keep=not message.until_done)
        self._conclude(message, conclusion)
        if accepted:
            await self.runs.follow(plan.id)
            if remember and message.until_done:
                await self._dedupe.keep(key)
            self._conclude(message, Conclusion(Verdict.DONE))

    def _seen_before(self, message: Message, judged: Judged, before: Answer) -> Conclusion:
        if message.stream:
            wrong = Problem("id", "a request with this id was accepted before; choose another id")
            refused = Rejection(judged.id, (wrong,), AnswerKind.CONFLICT)
            return intake.rejected(message.source, refused, judged.warnings, judged.request)
        # if only the message survives a crash, the bus must keep it until the capture is delivered
        verdict = Verdict.BUSY if message.until_done and before.id in self.runs else Verdict.DONE
        return intake.seen_before(message.source, judged, before, verdict)

    async def _accept(
        self,
        message: Message,
        envelope: Envelope,
        judged: Judged,
        plan: CapturePlan,
        rights: Rights | None,
    ) -> Conclusion:
        """Begin its captures, or let it join a running request."""
        general, warnings = self._settings.general, judged.warnings
        if busy := self._rate_exceeded(plan, rights):
            return self._busy(message, busy, judged)
        if words := await self._around.permit(plan, message):
            return intake.unavailable(message.source, plan.id, words, Verdict.BUSY)
        # from here to the beginning nothing waits, so that no other request comes in between
        if plan.id in self.runs:
            words = "a request with this id is running; stop it, or choose another id"
            taken = Rejection(plan.id, (Problem("id", words),), AnswerKind.CONFLICT)
            return intake.rejected(message.source, taken, warnings, plan.request)
        if general.coalesce and not plan.stream and (run := self.runs.join(plan)):
            return intake.joined(envelope, plan, run.plan.id, warnings)
        own = rights.maxcaptures if rights else None
        if busy := self.runs.no_room_for(plan, own) or self._over_quota(plan, rights):
            return self._busy(message, busy, judged)
        rejection = await self.runs.begin(plan, message.source, message.arrived_at)
        return (
            self._refused(message, rejection, judged)
            if rejection
            else intake.accepted(envelope, plan, warnings)
        )

    def _rate_exceeded(self, plan: CapturePlan, rights: Rights | None) -> str:
        """Count a request that this node would do something for; return which rate it exceeds."""
        general, rate = self._settings.general, rights.rate if rights else 0
        at, who = time.monotonic(), plan.requester
        return self._over_quota(plan, rights) or self._rates.refusal(
            plan.request.customer, general.rate, general.customer_rate, at, who, rate
        )

    def _over_quota(self, plan: CapturePlan, rights: Rights | None) -> str:
        captures = len(plan.outcomes) + self.runs.beginning(plan.requester)
        return self._around.quota(plan.requester, rights, captures)

    def _busy(self, message: Message, words: str, judged: Judged) -> Conclusion:
        rejection = Rejection(judged.id, (Problem("", words),), AnswerKind.BUSY)
        return self._refused(message, rejection, judged)

    def _refused(self, message: Message, rejection: Rejection, judged: Judged) -> Conclusion:
        if message.returnable and rejection.kind is AnswerKind.BUSY:
            return intake.returned(message.source, rejection)
        return intake.rejected(message.source, rejection, judged.warnings, judged.request)

    def _log_message(self, message: Message, request_id: str, asked: bool = False) -> None:
        if asked or self._settings.general.logrequests:
            self._publish(logged(request_id, message.source, message.body))


def _shutting_down(message: Message) -> Conclusion:
    words = "the daemon is shutting down"
    return intake.unavailable(message.source, new_id(), words, Verdict.BUSY)
