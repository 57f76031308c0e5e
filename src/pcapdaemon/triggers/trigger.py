"""One trigger at work: from the bytes of a message to requests, alert by alert."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from pcapdaemon.core.admission import Rates
from pcapdaemon.core.answers import Answer, AnswerKind, Verdict
from pcapdaemon.core.events import Publish
from pcapdaemon.core.node_events import AlertJudged, AlertOutcome
from pcapdaemon.dedupe import Dedupe
from pcapdaemon.sources.base import Message
from pcapdaemon.triggers.alert import Alert, NotAnAlert
from pcapdaemon.triggers.message import (
    Malformed,
    alerts_of,
    cancel,
    id_of,
    make,
    may_have_alerts,
    read_alerts,
)
from pcapdaemon.triggers.settings import TriggerSettings

Submit = Callable[[bytes], Awaitable[Answer]]
"""Passes a message to this node or to a bus, and returns its answer."""

FOR_NOW = (AnswerKind.BUSY, AnswerKind.UNAVAILABLE)

WAITING = 64
"""Most messages that wait while the alerts of another one are judged."""

ATTEMPTS, AGAIN_AFTER = 10, 1.0
"""How often an alert is judged if there is no room, and after how many seconds again."""

log = structlog.get_logger()


class Trigger:
    """Judges alerts, one after the other, and starts captures.

    `memory` remembers which alerts started one. `submit` passes the message on. `before` is the
    trigger that this one replaces; its captures count.
    """

    def __init__(
        self,
        settings: TriggerSettings,
        memory: Dedupe,
        submit: Submit,
        publish: Publish,
        before: "Trigger | None" = None,
    ) -> None:
        self.settings = settings
        self._memory, self._submit, self._publish = memory, submit, publish
        self._rates: Rates = before._rates if before else Rates()
        self._turn: asyncio.Lock = before._turn if before else asyncio.Lock()
        self._waiting = 0

    def concerns(self, body: bytes) -> bool:
        """Return whether a line has an alert that matches, or can't be read.

        Other threads may call it: it has no effect.
        """
        if not may_have_alerts(body, self.settings):
            return False
        try:
            return any(self._matches(alert) for alert in alerts_of(body, self.settings))
        except Exception:  # whatever is wrong with it, it is reported when it is judged
            return True

    async def take(self, message: Message) -> None:
        """Judge the alerts in a message of a source, and settle it.

        If the source can't redeliver it and there is no room now, they are judged again.
        """
        verdict = Verdict.BAD
        for attempt in range(1 if message.settle else ATTEMPTS):
            await asyncio.sleep(AGAIN_AFTER if attempt else 0)
            try:
                judged = await self.handle(message.body)
            except NotAnAlert:
                break  # it is reported
            verdict = Verdict.BUSY if turned_away(judged) else Verdict.DONE
            if verdict is Verdict.DONE:
                break
        if message.settle:
            message.settle(verdict)

    async def handle(self, body: bytes) -> list[AlertJudged]:
        """Judge the alerts in a message, and return what became of each. Raises NotAnAlert."""
        return await self._all(lambda: alerts_of(body, self.settings))

    async def handle_value(self, value: Any) -> list[AlertJudged]:
        """Judge the alerts in a decoded message. Raises NotAnAlert."""
        return await self._all(lambda: read_alerts(value, self.settings))

    async def _all(self, read: Callable[[], list[Alert]]) -> list[AlertJudged]:
        name = self.settings.name
        try:
            found = read()
        except NotAnAlert as error:
            self._publish(AlertJudged(name, AlertOutcome.MALFORMED, reason=str(error)))
            raise
        except Exception as error:  # a bug must not be met again and again by the same message
            words = _internal(name, error)
            self._publish(AlertJudged(name, AlertOutcome.MALFORMED, reason=words))
            raise NotAnAlert(words) from None
        matching = [alert for alert in found if self._matches(alert)]
        judged = await self._in_turn(matching) if matching else []
        if not judged and found:
            judged = [AlertJudged(name, AlertOutcome.NO_MATCH)]
        for one in judged:
            self._publish(one)
        return judged

    async def _in_turn(self, matching: Sequence[Alert]) -> list[AlertJudged]:
        """Judge alerts after those that came before, so that no rate is exceeded."""
        if self._waiting >= WAITING:
            words = f"{WAITING} messages are waiting"
            return [AlertJudged(self.settings.name, AlertOutcome.BUSY, reason=words)]
        self._waiting += 1
        try:
            async with self._turn:
                return await self._each(matching)
        finally:
            self._waiting -= 1

    async def _each(self, matching: Sequence[Alert]) -> list[AlertJudged]:
        """Judge alerts, of which at most `most` may start something."""
        judged: list[AlertJudged] = []
        left = started = 0
        for alert in matching:
            known = alert.resolved or self._memory.answer_to(self._key(alert), self._cooldown)
            if not known and started >= self.settings.most:
                left += 1
                continue
            started += not known
            judged.append(await self._one_or_why_not(alert))
        if left:
            words = f"{left} more in this message ([[trigger]] most = {self.settings.most})"
            judged.append(AlertJudged(self.settings.name, AlertOutcome.TOO_MANY, reason=words))
        return judged

    async def _one_or_why_not(self, alert: Alert) -> AlertJudged:
        try:
            return await self._one(alert)
        except Exception as error:  # a bug must not end the source, or come back with the alert
            return self._judged(alert, AlertOutcome.MALFORMED, _internal(self.settings.name, error))

    @property
    def _cooldown(self) -> float:
        return self.settings.cooldown

    def _key(self, alert: Alert) -> str:
        # not its own key, which may be as long as the message
        return f"alert {id_of(alert, self.settings.name)}"

    def _matches(self, alert: Alert) -> bool:
        return all(matcher(alert.fields) for matcher in self.settings.matchers)

    async def _one(self, alert: Alert) -> AlertJudged:
        if alert.resolved:
            return await self._resolved(alert)
        key = self._key(alert)
        before = await self._memory.claim(key, self._cooldown)
        if before is not None:
            return self._judged(alert, AlertOutcome.COOLDOWN, "it started a capture before")
        answer: Answer | None = None
        try:
            judged, answer = await self._sent(alert)
            return judged
        finally:
            await self._memory.decide(key, answer)

    async def _sent(self, alert: Alert) -> tuple[AlertJudged, Answer | None]:
        settings, now = self.settings, time.time()
        try:
            made = make(alert, settings, now)
        except Malformed as error:
            return self._judged(alert, AlertOutcome.MALFORMED, str(error)), None
        if self._rates.refusal(None, settings.rate, 0, time.monotonic()):
            words = f"more than {settings.rate} captures a minute ([[trigger]] rate)"
            return self._judged(alert, AlertOutcome.RATE, words), None
        answer = await self._submit(json.dumps(made.fields).encode())
        outcome = outcome_of(answer.kind)
        reason = "; ".join(map(str, answer.problems))
        judged = self._judged(alert, outcome, reason, (*made.notes, *answer.warnings), now)
        return judged, answer if outcome is AlertOutcome.SENT else None

    async def _resolved(self, alert: Alert) -> AlertJudged:
        reason = ""
        if self.settings.on_resolved == "stop":
            answer = await self._submit(json.dumps(cancel(alert, self.settings)).encode())
            reason = "; ".join(map(str, answer.problems)) or "its captures are ended"
            if answer.kind in FOR_NOW:
                return self._judged(alert, AlertOutcome.BUSY, reason)
        return self._judged(alert, AlertOutcome.RESOLVED, reason)

    def _judged(
        self,
        alert: Alert,
        outcome: AlertOutcome,
        reason: str = "",
        notes: Sequence[str] = (),
        now: float | None = None,
    ) -> AlertJudged:
        age = now - alert.at if now and alert.at else None
        request_id = id_of(alert, self.settings.name)
        return AlertJudged(self.settings.name, outcome, request_id, reason, tuple(notes), age)


def _internal(name: str, error: Exception) -> str:
    log.exception("an alert failed in an unforeseen way", trigger=name)
    return f"internal error: {type(error).__name__}"


def outcome_of(kind: AnswerKind) -> AlertOutcome:
    """Return what an answer to its message means for an alert."""
    if kind in (AnswerKind.ACCEPTED, AnswerKind.DRYRUN):
        return AlertOutcome.SENT
    if kind in FOR_NOW:
        return AlertOutcome.BUSY
    return AlertOutcome.ELSEWHERE if kind is AnswerKind.ELSEWHERE else AlertOutcome.REFUSED


def turned_away(judged: Sequence[AlertJudged]) -> bool:
    """Return whether an alert was turned away for now, so that the message should be sent again.

    The others are known then, and start nothing.
    """
    return any(one.outcome is AlertOutcome.BUSY for one in judged)


Triggers = Mapping[str, Trigger]
"""The triggers of this node, by name."""
