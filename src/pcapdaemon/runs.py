"""Requests in progress.

It begins their captures, follows them until the last delivery, and publishes each outcome.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from pcapdaemon.capture.merged import AnySession, sessions_of, try_out
from pcapdaemon.capture.session import Armed, Origins
from pcapdaemon.core.errors import Busy, CaptureRefused, NotASavefile
from pcapdaemon.core.events import (
    CaptureFailed,
    CaptureProgressed,
    CaptureStarted,
    CaptureStopped,
    PacketsLogged,
    Publish,
    RequestFinished,
)
from pcapdaemon.core.failure import busy, failed, rejection
from pcapdaemon.core.outcome import Counts
from pcapdaemon.core.plan import CapturePlan, InterfacePlan, Rejection
from pcapdaemon.core.request import ON_THE_WIRE
from pcapdaemon.core.wire import to_wire
from pcapdaemon.delivery.delivery import Delivery
from pcapdaemon.delivery.parcel import Parcel
from pcapdaemon.destinations.base import SavefileInfo
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.savefile.packing import Captured
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.settings import Settings
from pcapdaemon.threads import run_in_thread
from pcapdaemon.uptime import uptime

ANSWER_WITHIN = 2.0
"""Seconds after which a request is accepted even if no capture has begun yet.

DNS may be slow to resolve names in the capture filter.
"""

OFFER_AFTER = 30.0
TRIM_AFTER = 600.0
"""Seconds without a capture after which the system may take unused memory, and gets it."""

ENDED = "the daemon stopped before the capture ended"

PROGRESS_EVERY = 1.0
"""Seconds between two CaptureProgressed events of a capture."""

MOST_JOINED = 32
"""Most requests that one capture serves besides its own. Further ones begin another."""

log = structlog.get_logger()


@dataclass(slots=True)
class Run:
    """A request in progress.

    `tasks` are its captures. `wanted_by` has the ids of all requests that need them: its own and
    those that joined. Times are seconds since the epoch.

    Other requests can join once it is `followed`, because all listeners know it then.
    """

    plan: CapturePlan
    tasks: "dict[AnySession, asyncio.Task[Captured | CaptureFailed]]"
    source: str
    received_at: float
    wanted_by: set[str]
    begun_at: float = field(default_factory=time.time)
    began: float = field(default_factory=uptime)
    joined: list[str] = field(default_factory=list)
    followed: bool = False
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def sessions(self) -> dict[str, AnySession]:
        """Its captures by interface."""
        return {session.name: session for session in self.tasks}


class Runs:
    """All requests in progress. Its length is the number of captures."""

    def __init__(
        self,
        settings: Settings,
        budget: MemoryBudget,
        delivery: Delivery,
        publish: Publish,
        origins: Origins,
    ) -> None:
        self._settings, self.delivery, self._budget = settings, delivery, budget
        self._origins = origins
        self._publish = publish
        self._runs: dict[str, Run] = {}
        self._active: set[AnySession] = set()
        self._rest: asyncio.Task[None] | None = None

    def configure(self, settings: Settings) -> None:
        """Use these settings for the next captures; running captures keep theirs."""
        self._settings = settings

    def __contains__(self, request_id: str) -> bool:
        return self.run_of(request_id) is not None

    def run_of(self, request_id: str) -> Run | None:
        """Return the run that serves a request, its own or one that it joined."""
        return next(
            (run for run in self._runs.values() if request_id in (run.plan.id, *run.joined)), None
        )

    def counts(self, request_id: str) -> dict[str, Counts]:
        """Return the current counts of a request's captures, by interface."""
        run = self.run_of(request_id)
        return {name: session.counts() for name, session in run.sessions.items()} if run else {}

    def __len__(self) -> int:
        return len(self._active)

    def owner_of(self, request_id: str) -> str | None:
        """Return the requester of a request that runs, or None."""
        run = self.run_of(request_id)
        return run.plan.requester if run else None

    def listed(self, requester: str | None = None) -> list[dict[str, Any]]:
        """Return the running requests as JSON values, oldest first, or those of one requester."""
        return [
            {
                "id": run.plan.id,
                "joined": run.joined,
                "since": run.begun_at,
                ON_THE_WIRE["capture_filter"]: run.plan.capture_filter,
                "captures": {
                    name: to_wire(counts) for name, counts in self.counts(run.plan.id).items()
                },
            }
            for run in self._runs.values()
            if requester in (None, run.plan.requester)
        ]

    def cancel(self, request_id: str) -> bool:
        """End and deliver all captures of a request, unless other requests joined it.

        Returns False if none runs.
        """
        run = self.run_of(request_id)
        if run is None:
            return False
        run.wanted_by.discard(request_id)
        for session in run.tasks if not run.wanted_by else ():
            session.stop()
        return True

    def stop_all(self, shutdown: bool) -> None:
        """End all captures, begun or not; `shutdown` says that the daemon is stopping."""
        for session in self._active:
            session.stop(shutdown)

    def close(self) -> None:
        """Cancel the captures that still run, and publish that they failed."""
        for run in list(self._runs.values()):
            for name in run.sessions:
                self._publish(CaptureFailed(run.plan.id, name, ENDED))
            self._end(run)
        if self._rest:
            self._rest.cancel()

    def no_room_for(self, plan: CapturePlan, own: int | None = None) -> str:
        """Return why a plan can't begin now, in words, or "" if it can.

        `own` is how many captures its requester may have at the same time.
        """
        of_all = self._settings.general.maxcaptures, "[general]", None
        bounds = [of_all, (own, "[[requester]]", plan.requester)] if own else [of_all]
        for most, section, requester in bounds:
            running = self._running(requester)
            if running + len(plan.captures) > most:
                return (
                    f"{running} captures are running, and {len(plan.captures)} more would exceed"
                    f" {section} maxcaptures = {most}"
                )
        return ""

    def _running(self, requester: str | None) -> int:
        plans = [one.plan for one in self._active if requester in (None, one.plan.requester)]
        return sum(len(plan.captures) if plan.merge else 1 for plan in plans)

    def beginning(self, requester: str) -> int:
        """Return how many captures of a requester begin now, and are not reported as accepted."""
        plans = [one.plan for one in self._runs.values() if not one.followed]
        return sum(len(plan.outcomes) for plan in plans if plan.requester == requester)

    def join(self, plan: CapturePlan) -> Run | None:
        """Let an equal request that began recently serve this one too, and return its run.

        The longest limits of both apply. Returns None without such a request.
        """
        youngest = uptime() - self._settings.general.coalesce
        for run in self._runs.values():
            recent = run.followed and run.began > youngest and run.wanted_by
            # each waits for its end, which takes memory
            if len(run.joined) >= MOST_JOINED or run.plan.stream:
                continue
            if recent and plan.equals(run.plan) and _extended(run.tasks, plan):
                run.joined.append(plan.id)
                run.wanted_by.add(plan.id)
                return run
        return None

    async def try_out(self, plan: CapturePlan) -> Rejection | None:
        """Begin the captures of a plan and end them at once; return why they fail, or None."""
        try:
            sessions = self._sessions(plan)
        except Busy as error:
            return busy(plan, error)
        self._active.update(sessions)
        try:
            errors = await asyncio.gather(*(try_out(session) for session in sessions))
        finally:
            self._active.difference_update(sessions)
        failures = [failed(plan.id, s.name, e) for s, e in zip(sessions, errors, strict=True) if e]
        return rejection(plan, failures) if failures else None

    async def begin(
        self, plan: CapturePlan, source: str = "", received_at: float = 0.0
    ) -> Rejection | None:
        """Start the captures, and wait at most ANSWER_WITHIN seconds until all are armed or failed.

        Returns why, if all captures failed. Otherwise returns None, and the caller must call
        `follow`.
        """
        try:
            sessions = self._sessions(replace(plan, arrived_at=received_at or None))
        except Busy as error:
            return busy(plan, error)
        tasks = {session: asyncio.create_task(self._run(session)) for session in sessions}
        run = Run(plan, tasks, source, received_at, {plan.id})
        self._runs[plan.id] = run
        self._active.update(run.tasks)
        try:
            await asyncio.wait([session.armed for session in sessions], timeout=ANSWER_WITHIN)
            if not all(session.armed.cancelled() for session in sessions):
                return None
            found = await asyncio.gather(*run.tasks.values())
        except BaseException:
            self._end(run)
            raise
        self._end(run)
        return rejection(plan, [one for one in found if isinstance(one, CaptureFailed)])

    async def follow(self, request_id: str) -> None:
        """Publish the outcomes of an accepted request until its last savefile is delivered.

        For a request that joined another, only wait until that one is finished.
        """
        run = self.run_of(request_id)
        if run is None:
            return
        if run.plan.id != request_id:
            await run.finished.wait()
            return
        run.followed = True
        try:
            await asyncio.gather(*(self._follow(run, session) for session in run.tasks))
            for name in (run.plan.id, *run.joined):
                self._publish(RequestFinished(name))
            run.finished.set()
        finally:
            self._end(run)

    def _end(self, run: Run) -> None:
        for task in run.tasks.values():
            task.cancel()
        del self._runs[run.plan.id]

    def _sessions(self, plan: CapturePlan) -> list[AnySession]:
        return sessions_of(plan, self._budget, self._settings.capture, self._origins)

    async def _run(self, session: AnySession) -> Captured | CaptureFailed:
        """Run one capture from beginning to end, and return its savefile or its failure."""
        try:
            return await session.run()
        except (CaptureRefused, Busy) as error:
            return failed(session.plan.id, session.name, error)
        except Exception as error:
            return _unforeseen(session, error)
        finally:
            self._active.discard(session)
            self._rest_later()

    async def _follow(self, run: Run, session: AnySession) -> None:
        """Publish the outcomes of one capture of an accepted request, and deliver its savefile."""
        await asyncio.wait([session.armed])
        self._started(session.plan.id, session.name, session.armed)
        try:
            result = await self._ended(run.tasks[session], session)
        except asyncio.CancelledError:
            self._publish(CaptureFailed(session.plan.id, session.name, ENDED))
            raise
        if isinstance(result, CaptureFailed):
            self._publish(result)
            return
        try:
            await self._stopped(run, session, result)
        except Exception as error:  # a bug; the other captures of the request go on
            self._publish(_unforeseen(session, error))

    def _started(self, request_id: str, interface: str, armed: "asyncio.Future[Armed]") -> None:
        if not armed.cancelled():
            at = armed.result()
            self._publish(CaptureStarted(request_id, interface, at.linktype, at.snaplen, at.at))

    async def _ended(
        self, task: "asyncio.Task[Captured | CaptureFailed]", session: AnySession
    ) -> Captured | CaptureFailed:
        """Wait until a capture ends; meanwhile publish its counts once a second."""
        while not (await asyncio.wait([task], timeout=PROGRESS_EVERY))[0]:
            session.end_if_gone()
            if session.armed.done() and not session.armed.cancelled():
                self._publish(CaptureProgressed(session.plan.id, session.name, session.counts()))
        return await task

    async def _stopped(self, run: Run, session: AnySession, captured: Captured) -> None:
        plan, part = session.plan, session.part
        interface, name = part.interface.name, _named(plan, part, captured)
        event = CaptureStopped(plan.id, interface, name, captured.outcome)
        if (savefile := captured.savefile) is None or plan.stream:
            self._publish(replace(event, file_name="") if plan.stream else event)
            return
        info, ids = (
            SavefileInfo(plan.id, interface, name, part.tags, plan.request),
            (plan.id, *run.joined),
        )
        origin = (plan.limits, ids, run.source, run.received_at)
        parcel = Parcel(info, event, *origin, savefile, requester=plan.requester)
        packets = savefile.reader() if plan.packet_debug and not plan.encrypt_to else None
        await self.delivery.take(parcel, plan.sha256)
        await self.delivery.deliver(parcel)
        if packets:
            with packets:
                await self._log_packets(plan.id, interface, packets)

    async def _log_packets(self, request_id: str, interface: str, savefile: Savefile) -> None:
        from pcapdaemon.decode.lines import lines_of  # noqa: PLC0415  # few nodes log packets

        found = lines_of(savefile)
        try:
            while lines := await run_in_thread(next, found, ()):
                self._publish(PacketsLogged(request_id, interface, lines))
                await asyncio.sleep(0.01)  # let the log catch up
        except (OSError, NotASavefile) as error:  # it was delivered, and left the spool
            log.warning("packets are not logged", id=request_id, reason=str(error))

    def _rest_later(self) -> None:
        if self._rest:
            self._rest.cancel()
        self._rest = asyncio.create_task(self._release_memory())

    async def _release_memory(self) -> None:
        for seconds, release in (
            (OFFER_AFTER, self._budget.offer),
            (TRIM_AFTER - OFFER_AFTER, self._budget.trim),
        ):
            await asyncio.sleep(seconds)
            if self._active:
                return  # its end starts this again
            await run_in_thread(release)


def _extended(sessions: Iterable[AnySession], plan: CapturePlan) -> bool:
    return all(session.extend(plan.limits) for session in sessions)


def _unforeseen(session: AnySession, error: Exception) -> CaptureFailed:
    """Log an error that is a bug, and return the failure of its capture."""
    log.error(
        "a capture failed in an unforeseen way",
        id=session.plan.id,
        interface=session.name,
        exc_info=error,
    )
    words = f"internal error: {type(error).__name__}: {error}"
    return CaptureFailed(session.plan.id, session.name, words)


def _named(plan: CapturePlan, part: InterfacePlan, captured: Captured) -> str:
    """Return the savefile's name, without the suffix of compression if it is not compressed.

    Compression is skipped if there is no memory for it.
    """
    compressed = captured.outcome.content or plan.compress == "none"
    return part.file_name if compressed else part.file_name.rpartition(".")[0]
