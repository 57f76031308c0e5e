"""Writes the audit log: it listens to events, and the engine waits for it before a capture."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from pcapdaemon import __version__
from pcapdaemon.audit.file import AuditFile
from pcapdaemon.audit.lines import granted, line_of
from pcapdaemon.audit.settings import AuditSettings
from pcapdaemon.core.admission import Tally
from pcapdaemon.core.errors import NotConnected
from pcapdaemon.core.events import Event, Publish, RequestRejected
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

STRANGERS_A_MINUTE = 60
"""Most lines a minute about refused messages of nobody who is known. Further ones are counted."""

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
        self._strangers = Tally(STRANGERS_A_MINUTE)
        self._task: asyncio.Task[None] | None = None
        self._ending = False
        self._writing = asyncio.Lock()
        self._flushing: asyncio.Task[bool] | None = None
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

    async def configure(self, node: str, settings: AuditSettings, facts: Mapping[str, Any]) -> None:
        """Use these settings from the next line on. `facts` of the configuration become a line."""
        moved = self._file is not None and str(self._file.path) != str(settings.file)
        if moved:  # the old file says where the log goes on, or that it ends
            self._add("moved", {"file": settings.file or "", **facts})
            await self._flush()
            self._report_head()
            if self._file:
                self._file.close()
            self._file = None
        self._node, self._settings = node, settings
        if self._file:
            self._file.settings = settings
            self._add("configured", {**facts, "required": settings.required})
        elif settings.file:
            self._file = AuditFile(Path(settings.file), settings)
            self._add("started", {"version": __version__, **facts, "required": settings.required})
        if self._task is None:
            self._task = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        """Write what waits, until the log is closed."""
        said_at = time.monotonic()
        while not (self._ending and not self._waiting):
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
        """Write what waits, and send it, each for at most this many seconds."""
        self._report_failures(time.monotonic() + GATHER)
        self._add("stopped", {})
        self._ending = True
        self._there.set()
        if self._task:
            # not cancelled: an append that was begun must end, or the chain breaks
            await asyncio.wait([self._task], timeout=max(seconds, WRITE_WITHIN))
        self._report_head()
        await self._box.flush(seconds)

    async def permit(self, plan: CapturePlan, message: Message) -> str:
        """Write that a capture may begin. Returns why it must not, or "".

        Without `[audit] required`, it writes nothing here: that the request was accepted is a line.
        """
        if self._file is None or not self._settings.required:
            return ""
        written: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._add("granted", granted(plan, message.source, message.signed_by), written)
        try:
            async with asyncio.timeout(WRITE_WITHIN):
                problem = await asyncio.shield(written)
        except TimeoutError:
            problem = "the disk takes too long"
            self._note(problem)
        return f"the audit log can't be written: {problem} ([audit] required)" if problem else ""

    def last(self, limit: int) -> list[dict[str, Any]] | None:
        """Return the last lines that are on the disk, or None without a log. Blocks."""
        return self._file.last(limit) if self._file else None

    def on_event(self, event: Event) -> None:
        """Write what happened, if it belongs into the log."""
        if self._file is None:
            return
        match event:
            case MessageUntrusted(source, reason):
                self._count(("untrusted", source, reason))
            case TokenRefused(client):
                self._count(("login-failed", client, ""))
            case RequestRejected() if not event.requester and self._is_flood():
                self._count(("refused", event.source, event.kind))
            case _ if line := line_of(event):
                self._add(*line)

    def _is_flood(self) -> bool:
        return self._strangers.passes("", time.monotonic()) is None

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
        """Write what waits. Returns False if that failed, and it waits again.

        Cancelling it does not end what was begun, because half of it would break the chain.
        """
        self._flushing = asyncio.ensure_future(self._write_waiting())
        return await asyncio.shield(self._flushing)

    async def _write_waiting(self) -> bool:
        async with self._writing:
            return await self._write_now()

    async def _write_now(self) -> bool:
        batch = list(self._waiting)
        if not batch or self._file is None:
            return True
        try:
            lines = await run_in_thread(self._file.append, [one.facts for one in batch])
        except Exception as error:  # whatever it is: the log must go on
            self._failed(batch, getattr(error, "strerror", None) or str(error))
            return False
        if self.problem:
            log.info("the audit log is written again", file=self._settings.file)
        self.problem = ""
        for one in batch:
            self._waiting.popleft()
            if one.written and not one.written.done():
                one.written.set_result("")
        self._ship(lines)
        return True

    def _failed(self, batch: list[_Waiting], problem: str) -> None:
        self._note(problem)
        for one in batch:
            if one.written:
                # nothing begins, so its line must not be written later
                self._waiting.remove(one)
                if not one.written.done():
                    one.written.set_result(problem)

    def _ship(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            if self._settings.bus:
                self._box.put(line)
            if self._settings.log:
                log.info("audit line", line=line.decode().rstrip())

    def _note(self, problem: str) -> None:
        if problem != self.problem:
            log.error("the audit log can't be written", file=self._settings.file, reason=problem)
        self.problem = problem

    def _report_head(self) -> None:
        if self._file and self._file.chain.number:
            chain = self._file.chain
            log.info(
                "hash of the last audit line",
                file=self._settings.file,
                seq=chain.number,
                hash=chain.head,
            )

    async def _send(self, line: bytes) -> None:
        if (bus := self._bus_of(self._settings.bus)) is None:
            raise NotConnected(f"{self._settings.bus} is not turned on")
        await bus.tell(self._settings.place, line)
