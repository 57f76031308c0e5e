"""Writes the audit log: it listens to events, and the engine waits for it before a capture."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from pcapdaemon import __version__
from pcapdaemon.audit.file import AuditFile
from pcapdaemon.audit.lines import accepted, line_of
from pcapdaemon.audit.settings import AuditSettings
from pcapdaemon.core.errors import NotConnected
from pcapdaemon.core.events import Event, Publish
from pcapdaemon.core.node_events import MessageUntrusted, ResultsDelayed, ResultsLost, TokenRefused
from pcapdaemon.core.plan import CapturePlan
from pcapdaemon.core.wire import to_wire
from pcapdaemon.results.outbox import Outbox
from pcapdaemon.sources.base import Bus, Message
from pcapdaemon.threads import run_in_thread

MOST_WAITING = 10_000
"""Most lines that wait for the disk. Further ones are counted, and the count is a line."""

GATHER = 10.0
"""Seconds in which failures of one kind become one line: strangers may cause any number."""

MOST_KINDS = 1000
"""Most kinds of failures that are counted apart."""

HEAD_EVERY = 3600.0
"""Seconds after which the log, and with it another machine, gets the hash of the last line."""

WRITE_WITHIN = 5.0
"""Most seconds that a request waits for its line."""

RETRY_AFTER = 1.0
"""Seconds after which lines that could not be written are tried again."""

KEPT_FOR_BUS = 3600.0
"""Seconds for which lines wait for the bus."""

log = structlog.get_logger()


@dataclass(slots=True, eq=False)
class _Waiting:
    """A line that waits for the disk, and for whom."""

    facts: dict[str, Any]
    written: "asyncio.Future[str] | None" = None


class Audit:
    """The audit log. `bus_of` returns the bus of a section, for the place of every line."""

    def __init__(self, node: str, publish: Publish, bus_of: Callable[[str], Bus | None]) -> None:
        self._node, self._bus_of = node, bus_of
        self._settings = AuditSettings()
        self._file: AuditFile | None = None
        self._waiting: deque[_Waiting] = deque()
        self._there = asyncio.Event()
        self._failures: Counter[tuple[str, str, str]] = Counter()
        self._failures_at = -GATHER
        self._left_out = 0
        self._box = Outbox(
            self._send,
            lambda number, reason: publish(ResultsLost(self._place, number, reason)),
            KEPT_FOR_BUS,
            lambda reason, attempt: publish(ResultsDelayed(self._place, reason, attempt)),
        )
        self.problem = ""
        """Why it can't be written now, or empty."""

    @property
    def _place(self) -> str:
        return f"{self._settings.bus} {self._settings.place}"

    def configure(self, node: str, settings: AuditSettings) -> None:
        """Use these settings from the next line on."""
        self._node, self._settings = node, settings
        if settings.file is None:
            self._file = None
        elif self._file is None or str(self._file.path) != settings.file:
            self._file = AuditFile(Path(settings.file), settings)
        else:
            self._file.settings = settings

    async def keep(self) -> None:
        """Write what waits, until this is cancelled."""
        said_at = time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(GATHER):
                    await self._there.wait()
            self._there.clear()
            self._report_failures(time.monotonic())
            if not await self._flush():
                await asyncio.sleep(RETRY_AFTER)
                self._there.set()
            if time.monotonic() - said_at > HEAD_EVERY:
                said_at = time.monotonic()
                self._report_head()

    async def close(self, seconds: float) -> None:
        """Write what waits, and send it for at most this many seconds."""
        self._report_failures(time.monotonic() + GATHER)
        self._add("stopped", {})
        await self._flush()
        self._report_head()
        await self._box.flush(seconds)

    async def permit(self, plan: CapturePlan, message: Message) -> str:
        """Write that a request is accepted. Returns why it must be refused, or "".

        Without `[audit] required`, it never refuses, and does not wait.
        """
        if self._file is None:
            return ""
        facts = accepted(plan, message.source, message.signed_by)
        if not self._settings.required:
            self._add("accepted", facts)
            return ""
        written: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._add("accepted", facts, written)
        try:
            async with asyncio.timeout(WRITE_WITHIN):
                problem = await asyncio.shield(written)
        except TimeoutError:
            problem = "the disk takes too long"
        return f"the audit log can't be written: {problem} ([audit] required)" if problem else ""

    def started(self, facts: Mapping[str, Any]) -> None:
        """Write that the daemon starts, with these facts of its configuration."""
        self._add("started", {"version": __version__, **facts})

    def on_event(self, event: Event) -> None:
        """Write what happened, if it belongs into the log."""
        if self._file is None:
            return
        match event:
            case MessageUntrusted(source, reason):
                self._count(("untrusted", source, reason))
            case TokenRefused(client):
                self._count(("login-failed", client, ""))
            case _ if line := line_of(event):
                self._add(*line)

    def _count(self, failure: tuple[str, str, str]) -> None:
        known = failure in self._failures or len(self._failures) < MOST_KINDS
        self._failures[failure if known else (failure[0], "others", "")] += 1
        self._there.set()

    def _report_failures(self, now: float) -> None:
        if not self._failures or now - self._failures_at < GATHER:
            return
        self._failures_at = now
        for (event, origin, reason), number in self._failures.items():
            self._add(event, {"origin": origin, "reason": reason, "count": number})
        self._failures.clear()

    def _add(
        self,
        event: str,
        facts: Mapping[str, Any],
        written: "asyncio.Future[str] | None" = None,
    ) -> None:
        if self._file is None:
            return
        if len(self._waiting) >= MOST_WAITING:
            self._left_out += 1
            if written:
                written.set_result("too many lines wait")
            return
        if self._left_out:
            facts = {**facts, "left_out": self._left_out}
            self._left_out = 0
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = {"at": at, "node": self._node, "event": event, **to_wire(dict(facts))}
        self._waiting.append(_Waiting(line, written))
        self._there.set()

    async def _flush(self) -> bool:
        """Write what waits. Returns False if that failed, and it waits again."""
        batch = list(self._waiting)
        if not batch or self._file is None:
            return True
        try:
            lines = await run_in_thread(self._file.append, [one.facts for one in batch])
        except OSError as error:
            self._failed(batch, str(error.strerror or error))
            return False
        if self.problem:
            log.info("the audit log is written again", file=self._settings.file)
        self.problem = ""
        for one in batch:
            self._waiting.popleft()
            if one.written and not one.written.done():
                one.written.set_result("")
        if self._settings.bus:
            for line in lines:
                self._box.put(line)
        return True

    def _failed(self, batch: list[_Waiting], problem: str) -> None:
        if problem != self.problem:
            log.error("the audit log can't be written", file=self._settings.file, reason=problem)
        self.problem = problem
        for one in batch:
            if one.written:
                # the request is refused, so its line must not be written later
                self._waiting.remove(one)
                if not one.written.done():
                    one.written.set_result(problem)

    def _report_head(self) -> None:
        if self._file and self._file.chain.number:
            chain = self._file.chain
            log.info("audit log", file=self._settings.file, seq=chain.number, hash=chain.head)

    async def _send(self, line: bytes) -> None:
        if (bus := self._bus_of(self._settings.bus)) is None:
            raise NotConnected(f"{self._settings.bus} is not turned on")
        await bus.tell(self._settings.place, line)
