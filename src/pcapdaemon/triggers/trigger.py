"""One trigger at work: from the bytes of a message to requests, alert by alert."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pcapdaemon.core.admission import Rates
from pcapdaemon.core.answers import Answer, AnswerKind, Verdict
from pcapdaemon.core.events import Publish
from pcapdaemon.core.node_events import AlertJudged, AlertOutcome
from pcapdaemon.dedupe import Dedupe
from pcapdaemon.sources.base import Message
from pcapdaemon.triggers.alert import Alert, NotAnAlert
from pcapdaemon.triggers.message import Malformed, alerts_of, cancel, id_of, make, read_alerts
from pcapdaemon.triggers.settings import TriggerSettings

Submit = Callable[[bytes], Awaitable[Answer]]
"""Passes a message to this node or to a bus, and returns its answer."""

FOR_NOW = (AnswerKind.BUSY, AnswerKind.UNAVAILABLE)


class Trigger:
    """Judges alerts, one after the other, and starts captures.

    `memory` remembers which alerts started one. `submit` passes the message on.
    """

    def __init__(
        self, settings: TriggerSettings, memory: Dedupe, submit: Submit, publish: Publish
    ) -> None:
        self.settings = settings
        self._memory, self._submit, self._publish = memory, submit, publish
        self._rates = Rates()
        self._turn = asyncio.Lock()

    def concerns(self, body: bytes) -> bool:
        """Return whether a message has an alert that matches, or can't be read.

        Other threads may call it: it has no effect.
        """
        try:
            return any(self._matches(alert) for alert in alerts_of(body, self.settings))
        except NotAnAlert:
            return True

    async def take(self, message: Message) -> None:
        """Judge the alerts in a message of a source, and settle it."""
        verdict = Verdict.BAD
        try:
            judged = await self.handle(message.body)
            verdict = Verdict.BUSY if turned_away(judged) else Verdict.DONE
        except NotAnAlert:
            pass  # it is reported
        if message.settle:
            message.settle(verdict)

    async def handle(self, body: bytes) -> list[AlertJudged]:
        """Judge the alerts in a message, and return what became of each. Raises NotAnAlert."""
        return await self._all(lambda: alerts_of(body, self.settings))

    async def handle_value(self, value: Any) -> list[AlertJudged]:
        """Judge the alerts in a decoded message. Raises NotAnAlert."""
        return await self._all(lambda: read_alerts(value, self.settings))

    async def _all(self, read: Callable[[], list[Alert]]) -> list[AlertJudged]:
        name, most = self.settings.name, self.settings.most
        try:
            found = read()
        except NotAnAlert as error:
            self._publish(AlertJudged(name, AlertOutcome.MALFORMED, reason=str(error)))
            raise
        async with self._turn:  # so that no rate and no cooldown is exceeded
            matching = [alert for alert in found if self._matches(alert)]
            judged = [await self._one(alert) for alert in matching[:most]]
        if (left := len(matching) - most) > 0:
            words = f"{left} more in this message ([[trigger]] most = {most})"
            judged.append(AlertJudged(name, AlertOutcome.TOO_MANY, reason=words))
        if not judged and found:
            judged = [AlertJudged(name, AlertOutcome.NO_MATCH)]
        for one in judged:
            self._publish(one)
        return judged

    def _matches(self, alert: Alert) -> bool:
        return all(matcher(alert.fields) for matcher in self.settings.matchers)

    async def _one(self, alert: Alert) -> AlertJudged:
        if alert.resolved:
            return await self._resolved(alert)
        settings, key = self.settings, f"alert {self.settings.name} {alert.key}"
        before = await self._memory.claim(key, settings.cooldown)
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
        if self._rates.refusal(None, settings.rate, 0, time.monotonic()):
            words = f"more than {settings.rate} captures a minute ([[trigger]] rate)"
            return self._judged(alert, AlertOutcome.RATE, words), None
        try:
            made = make(alert, settings, now)
        except Malformed as error:
            return self._judged(alert, AlertOutcome.MALFORMED, str(error)), None
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


def outcome_of(kind: AnswerKind) -> AlertOutcome:
    """Return what an answer to its message means for an alert."""
    if kind in (AnswerKind.ACCEPTED, AnswerKind.DRYRUN):
        return AlertOutcome.SENT
    if kind in FOR_NOW:
        return AlertOutcome.BUSY
    return AlertOutcome.ELSEWHERE if kind is AnswerKind.ELSEWHERE else AlertOutcome.REFUSED


def turned_away(judged: Sequence[AlertJudged]) -> bool:
    """Return whether every alert was turned away for now, so that it should be sent again."""
    return bool(judged) and all(one.outcome is AlertOutcome.BUSY for one in judged)


Triggers = Mapping[str, Trigger]
"""The triggers of this node, by name."""
