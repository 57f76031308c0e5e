"""Captures on several interfaces that become one savefile, with limits over all of them.

They are used like one session.
"""

import asyncio
from dataclasses import replace

import structlog

from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.session import Armed, Origins, Session
from pcapdaemon.core.errors import Busy, CaptureRefused, refused_by_system
from pcapdaemon.core.limits import CaptureLimits, StopReason
from pcapdaemon.core.outcome import Counts, Outcome
from pcapdaemon.core.plan import CapturePlan
from pcapdaemon.native.blocks import Blocks
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.native.merge import SharedLimits
from pcapdaemon.savefile import annotation
from pcapdaemon.savefile.packing import Captured, Taken, pack
from pcapdaemon.threads import run_in_thread

log = structlog.get_logger()

ENDS_ALL = {StopReason.PACKETS, StopReason.BYTES, StopReason.MEMORY, StopReason.IDLE}
"""Limits that all captures reach together. A duration ends each capture by itself."""


class MergedSession:
    """One capture per interface of a plan, and one savefile.

    An interface that can't be captured on is skipped and reported.
    """

    def __init__(
        self,
        plan: CapturePlan,
        budget: MemoryBudget,
        settings: CaptureSettings,
        origins: Origins,
    ) -> None:
        self.plan, self.part = plan, plan.whole
        self._budget = budget
        shared = SharedLimits(annotation.overhead(plan, plan.captures))
        self._sessions = [
            Session(plan, part, budget, settings, origins, shared, number)
            for number, part in enumerate(plan.captures)
        ]
        self.armed: asyncio.Future[Armed] = asyncio.get_running_loop().create_future()

    @property
    def name(self) -> str:
        """The names of its interfaces."""
        return self.part.interface.name

    async def run(self) -> Captured:
        """Capture until all captures together reach a limit.

        Raises CaptureRefused or Busy if no capture can begin.
        """
        arming = asyncio.create_task(self._arm())
        try:
            found = await asyncio.gather(
                *(self._take(session) for session in self._sessions), return_exceptions=True
            )
        finally:
            arming.cancel()
            self.armed.cancel()
        taken = [one for one in found if isinstance(one, Taken)]
        failures = [one for one in found if isinstance(one, BaseException)]
        for one in failures:
            if not isinstance(one, (CaptureRefused, Busy)):
                log.error("a capture failed in an unforeseen way", id=self.plan.id, exc_info=one)
        if not taken:
            raise failures[0]
        return await run_in_thread(pack, self.plan, self._in_their_places(found), self._budget.pool)

    def stop(self, shutdown: bool = False, trying: bool = False) -> None:
        """End all captures soon."""
        for session in self._sessions:
            session.stop(shutdown, trying)

    def end_if_gone(self) -> None:
        """End each capture whose target has ended."""
        for session in self._sessions:
            session.end_if_gone()

    def extend(self, limits: CaptureLimits) -> bool:
        """Raise the limits to at least these; False if one capture is over or about to be."""
        return all(s.is_running for s in self._sessions) and all(
            s.extend(limits) for s in self._sessions
        )

    def counts(self) -> Counts:
        """Return what all captures have so far."""
        return sum((session.counts() for session in self._sessions), Counts())

    async def _arm(self) -> None:
        await asyncio.wait([session.armed for session in self._sessions])
        armed = [
            session.armed.result() for session in self._sessions if not session.armed.cancelled()
        ]
        if armed and not self.armed.done():
            linktypes = "+".join(dict.fromkeys(one.linktype for one in armed))
            self.armed.set_result(
                Armed(linktypes, max(one.snaplen for one in armed), max(one.at for one in armed))
            )

    async def _take(self, session: Session) -> Taken:
        taken = await session.take()
        if taken.outcome.stop_reason in ENDS_ALL:
            for other in self._sessions:
                other.stop()
        return taken

    def _in_their_places(self, found: list[Taken | BaseException]) -> list[Taken]:
        """Return one result per interface, because packets refer to interfaces by number.

        The result of an interface that failed is empty.
        """
        some = next(one for one in found if isinstance(one, Taken))
        nothing = Outcome(
            stop_reason=some.outcome.stop_reason,
            seconds=some.outcome.seconds,
            trigger=some.outcome.trigger,
        )
        return [
            one
            if isinstance(one, Taken)
            else Taken(part, replace(nothing, error=_words(one)), some.header, Blocks())
            for part, one in zip(self.plan.captures, found, strict=True)
        ]


def _words(error: BaseException) -> str:
    if isinstance(error, (CaptureRefused, Busy)):
        return str(error)
    return f"internal error: {type(error).__name__}: {error}"


AnySession = Session | MergedSession


def sessions_of(
    plan: CapturePlan, budget: MemoryBudget, settings: CaptureSettings, origins: Origins
) -> list[AnySession]:
    """Return what runs a plan: one session for each interface, or one for all. Raises Busy."""
    try:
        if plan.merge:
            return [MergedSession(plan, budget, settings, origins)]
        return [Session(plan, part, budget, settings, origins) for part in plan.captures]
    except OSError as error:
        raise Busy(str(refused_by_system(error))) from error


async def try_out(session: AnySession) -> CaptureRefused | Busy | None:
    """Begin a capture, end it at once, and return what it was refused for.

    Only a live handle knows whether the filter fits the interface.
    """
    session.stop(trying=True)
    try:
        await session.run()
    except (CaptureRefused, Busy) as error:
        return error
    return None
