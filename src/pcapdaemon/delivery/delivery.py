"""Savefiles on their way to all destinations, each on its own, until they have them: from memory first, then from the spool."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import stamina
import structlog
from pydantic import Field

from pcapdaemon.core.errors import DeliveryFailed, DeliveryRefused, SpoolError
from pcapdaemon.core.events import (
    CaptureStopped,
    DeliveryDelayed,
    Publish,
    SavefileDelivered,
    SavefileLeftSpool,
    SavefileLost,
    SavefileNotSpooled,
    SavefileSpooled,
    SpoolFileQuarantined,
)
from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.policy import Seconds
from pcapdaemon.core.request import CaptureRequest, Problem
from pcapdaemon.core.section import Section
from pcapdaemon.delivery.parcel import Parcel
from pcapdaemon.delivery.spool import Spool, digest
from pcapdaemon.destinations.base import Destination
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.threads import run_in_thread

LONGEST_WAIT, LONGEST_WAIT_IN_MEMORY = 300.0, 15.0
"""Seconds between two tries at most, with a spool and without."""

LONGEST_TRY = 3600.0
"""Seconds for one try: a disk may hang for ever."""

LOOK_EVERY = 0.5
"""Seconds after which it is looked anew whether a savefile must leave memory, and what was ordered of the spool."""

STORE_WITHIN = 10.0
"""Seconds that the end of a capture waits for the spool's disk."""

log = structlog.get_logger()


class DeliverySettings(Section):
    """How savefiles are delivered."""

    deadline: Seconds = Field(
        600, description="Without a spool: how long a failing destination is tried before the savefile is given up, seconds."
    )
    concurrent: int = Field(4, ge=1, le=64, description="Savefiles that are sent to one destination at the same time.")
    memory_grace: Seconds = Field(
        30, description="With a spool: how long a savefile is held in memory though a destination fails, seconds."
    )


@dataclass(eq=False)
class _Journey:
    """A parcel under way: a task for each destination that is tried, and why the others are not."""

    parcel: Parcel
    begun: float = field(default_factory=time.monotonic)
    tasks: "dict[str, asyncio.Task[None]]" = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    spooled: bool = False
    at_rest: asyncio.Event = field(default_factory=asyncio.Event)


class Delivery:
    """Delivers to `destinations`, which may be replaced at any time, as may `settings`: what is under way heeds the new ones.

    `pressed` says whether memory is short. Without a spool what can't be delivered is given up at `settings.deadline`.
    """

    def __init__(
        self,
        destinations: Mapping[str, Destination],
        publish: Publish,
        settings: DeliverySettings,
        spool: Spool | None = None,
        pressed: Callable[[], bool] = lambda: False,
    ) -> None:
        self.destinations, self.settings, self.spool = dict(destinations), settings, spool
        self._publish, self._pressed = publish, pressed
        self._journeys: dict[Parcel, _Journey] = {}
        self._slots: dict[str, tuple[int, asyncio.Semaphore]] = {}
        self._ending = False
        self._resumed = asyncio.Event()
        if spool is None:
            self._resumed.set()

    def objections(self, request: CaptureRequest) -> list[Problem]:
        """What a request asks of a destination in vain."""
        return [problem for destination in self.destinations.values() for problem in destination.objections(request)]

    async def take(self, parcel: Parcel) -> CaptureStopped:
        """Take a savefile whose capture has just ended; the event that tells of it. In the spool first, so that none is lost.

        The caller publishes the event and calls `deliver`.
        """
        parcel.pending = list(self.destinations)
        stopped = parcel.sealed(await run_in_thread(digest, parcel.savefile))
        if self.spool and self.spool.settings.eager:
            await self._store(parcel, make_room=False)
        return stopped

    async def deliver(self, parcel: Parcel) -> None:
        """Return when every destination has the savefile or was given up, or it waits in the spool; each outcome is published."""
        journey = self._begin(parcel)
        try:
            while not journey.at_rest.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(LOOK_EVERY, self.settings.deadline)):
                        await journey.at_rest.wait()
                        return
                await self._see_to(journey)
        except asyncio.CancelledError:  # after `close`, by a capture that ended too late for it
            self._abandon(journey)
            raise

    async def resume(self, left: Iterable[tuple[str, dict[str, Any] | str]]) -> None:
        """Go on with what an earlier process left in the spool, as `Spool.load` has it."""
        try:
            for name, manifest in left:
                if self.spool:
                    await self._resume_one(self.spool, name, manifest)
        finally:
            self._resumed.set()

    async def _resume_one(self, spool: Spool, name: str, manifest: dict[str, Any] | str) -> None:
        if isinstance(manifest, str):
            await self._quarantine(spool, name, manifest)
        elif (parcel := await self._unpacked(spool, name, manifest)) is None:
            await self._quarantine(spool, name, "its manifest is not understood, or its bytes have changed")
        elif parcel.pending:
            self._publish(parcel.resumed())
            self._begin(parcel).spooled = True
        else:  # the last moment of the earlier process
            await run_in_thread(spool.remove, name)

    async def keep_watch(self) -> None:
        """Obey orders, and give up what stands in the spool for too long; runs until it is cancelled."""
        await self._resumed.wait()
        while (spool := self.spool) is not None:
            for verb, name in await run_in_thread(spool.orders):
                self.retry(name) if verb == "retry" else await self.drop(name, "dropped by hand")
            for name in spool.overdue(time.time()):
                await self.drop(name, f"it stood in the spool for more than {spool.settings.maxage} s ([spool] maxage)")
            await asyncio.sleep(LOOK_EVERY)

    def retry(self, name: str = "") -> None:
        """Try what waits in the spool at once, all of it or one; also what was refused."""
        for journey in list(self._journeys.values()):
            if journey.spooled and name in ("", journey.parcel.spool_name):
                for task in journey.tasks.values():
                    task.cancel()
                self._try_all(journey)

    async def drop(self, name: str, reason: str) -> None:
        """Give up what stands in the spool under a name."""
        await self._resumed.wait()  # until then nobody knows what would be lost
        journey = next((j for j in self._journeys.values() if j.parcel.spool_name == name), None)
        if journey and not journey.parcel.savefile.in_memory:
            await self._give_up(journey, reason)
            return
        if self.spool:
            await run_in_thread(self.spool.remove, name)
        if journey:
            journey.parcel.spool_name = ""
            self._not_spooled(journey.parcel, reason)

    def end_soon(self) -> None:
        """From now on hold nothing in memory that could stand in the spool: the daemon ends."""
        self._ending = True

    async def close(self) -> None:
        """Stop trying. What is in the spool stays there; what is not, and can't be put there now, is lost and told."""
        for journey in list(self._journeys.values()):
            if await self._hand_over(journey, "the daemon ended"):
                await self._cancel(journey)
            else:
                await self._give_up(journey, "the daemon ended before it could be delivered")
        self._journeys.clear()

    def _begin(self, parcel: Parcel) -> _Journey:
        journey = self._journeys[parcel] = _Journey(parcel)
        self._try_all(journey)
        return journey

    def _try_all(self, journey: _Journey) -> None:
        journey.refused.clear()
        journey.tasks = {name: asyncio.create_task(self._to(name, journey)) for name in journey.parcel.pending}

    async def _to(self, name: str, journey: _Journey) -> None:
        """Deliver to one destination, however often it takes."""
        begun = time.monotonic()
        try:
            receipt = await self._try(name, journey)
        except DeliveryRefused as error:
            journey.refused[name] = f"{error}{f' ({error.hint})' if error.hint else ''}"
            await self._refused(name, journey)
        except Exception as error:  # a defect of one destination: the loss must be told all the same
            log.exception("a destination failed in an unforeseen way", destination=name)
            journey.refused[name] = f"internal error: {type(error).__name__}"
            await self._refused(name, journey)
        else:
            await self._delivered(name, journey, receipt, time.monotonic() - begun)

    async def _try(self, name: str, journey: _Journey) -> Receipt:
        longest = LONGEST_WAIT if self.spool else LONGEST_WAIT_IN_MEMORY
        async for attempt in stamina.retry_context(
            on=_when_again, attempts=None, timeout=None, wait_initial=0.5, wait_jitter=0.5, wait_max=longest
        ):
            with attempt:
                try:
                    async with self._slot(name):
                        return await self._once(name, journey.parcel, again=journey.spooled or name in journey.failed)
                except DeliveryFailed as error:
                    journey.failed[name] = str(error)
                    info = journey.parcel.info
                    self._publish(DeliveryDelayed(info.id, info.interface, name, str(error), attempt.num))
                    raise
        raise AssertionError("a retry ends with a result or an error")

    async def _once(self, name: str, parcel: Parcel, again: bool) -> Receipt:
        if (destination := self.destinations.get(name)) is None:
            raise DeliveryFailed(f"{name} is not switched on any more")
        reader = parcel.savefile.reader()
        try:
            async with asyncio.timeout(LONGEST_TRY):
                return await destination.deliver(reader, replace(parcel.info, again=again))
        except TimeoutError:
            raise DeliveryFailed(f"no end of it after {LONGEST_TRY:.0f} s") from None
        finally:
            reader.close()  # a thread that goes on without us can't read, nor hold memory, any longer

    def _slot(self, name: str) -> asyncio.Semaphore:
        number = self.settings.concurrent
        if self._slots.get(name, (0,))[0] != number:
            self._slots[name] = (number, asyncio.Semaphore(number))
        return self._slots[name][1]

    async def _delivered(self, name: str, journey: _Journey, receipt: Receipt, seconds: float) -> None:
        parcel = journey.parcel
        parcel.pending.remove(name)
        parcel.delivered[name] = receipt
        since_last = max(0.0, time.time() - parcel.stopped.times[1])
        self._publish(SavefileDelivered(parcel.info.id, parcel.info.interface, name, receipt, seconds, since_last))
        await self._settle(journey)

    async def _refused(self, name: str, journey: _Journey) -> None:
        """It is not tried again by itself; in the spool it is kept for those who mend what is wrong."""
        reason = f"{name}: {journey.refused[name]}"
        if not await self._hand_over(journey, f"{reason}; kept for 'pcapdaemon spool retry'", tell=True):
            self._lose(journey, name, journey.refused[name])
            await self._settle(journey)

    def _lose(self, journey: _Journey, name: str, reason: str) -> None:
        parcel = journey.parcel
        parcel.pending.remove(name)
        info, packets = parcel.info, parcel.stopped.counts.packets
        self._publish(SavefileLost(info.id, info.interface, name, reason, info.file_name, packets))

    async def _settle(self, journey: _Journey) -> None:
        """A destination is done with: note it, and end the journey with the last one."""
        parcel = journey.parcel
        if parcel.pending:
            if parcel.spool_name and self.spool:
                await run_in_thread(self.spool.note, parcel.spool_name, parcel.as_json())
            return
        if self._journeys.pop(parcel, None) is None:  # somebody else saw the last one go
            return
        parcel.savefile.close()
        if parcel.spool_name and self.spool:
            await run_in_thread(self.spool.remove, parcel.spool_name)
        if journey.spooled:
            self._publish(SavefileLeftSpool(parcel.ids, parcel.info.interface))
        journey.at_rest.set()

    async def _see_to(self, journey: _Journey) -> None:
        """Move a savefile out of memory where it is time, or give it up."""
        waited = time.monotonic() - journey.begun
        failing = bool(journey.failed.keys() & set(journey.parcel.pending))
        too_long = waited > self.settings.deadline
        grace_is_over = failing and (self._ending or waited > self.settings.memory_grace)
        if self.spool and (too_long or grace_is_over or self._pressed()):
            why = "; ".join(f"{name}: {words}" for name, words in journey.failed.items()) or "the memory for captures is short"
            if await self._hand_over(journey, why):
                return
        if too_long:
            await self._give_up(journey, f"not delivered within {self.settings.deadline} s ([delivery] deadline)")

    async def _hand_over(self, journey: _Journey, reason: str, tell: bool = False) -> bool:
        """Have the spool's copy be the only one, and say so the first time; false where there is none."""
        parcel = journey.parcel
        if not self.spool or not (parcel.spool_name or await self._store(parcel, make_room=True)):
            return False
        if parcel not in self._journeys:  # it was delivered while it was written
            await run_in_thread(self.spool.remove, parcel.spool_name)
            return True
        if parcel.savefile.in_memory:
            try:
                parcel.savefile.move_to(self.spool.path(parcel.spool_name))
            except OSError:  # somebody took it away
                parcel.spool_name = ""
                return False
        if tell or not journey.spooled:
            self._tell_spooled(parcel, reason)
        journey.spooled = True
        journey.at_rest.set()
        return True

    async def _give_up(self, journey: _Journey, reason: str) -> None:
        await self._cancel(journey)
        for name in list(journey.parcel.pending):
            words = journey.refused.get(name) or journey.failed.get(name)
            self._lose(journey, name, f"{reason}: {words}" if words else reason)
        await self._settle(journey)

    def _abandon(self, journey: _Journey) -> None:
        """Say what becomes of a savefile that nobody has time for any more."""
        if self._journeys.pop(journey.parcel, None) is None or journey.at_rest.is_set():
            return
        for task in journey.tasks.values():
            task.cancel()
        if journey.parcel.spool_name:
            self._tell_spooled(journey.parcel, "the daemon ended")
            return
        for name in list(journey.parcel.pending):
            self._lose(journey, name, "the daemon ended before it could be delivered")

    def _tell_spooled(self, parcel: Parcel, reason: str) -> None:
        info = parcel.info
        self._publish(SavefileSpooled(info.id, info.interface, info.file_name, tuple(parcel.pending), reason))

    async def _cancel(self, journey: _Journey) -> None:
        tasks = [task for task in journey.tasks.values() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _store(self, parcel: Parcel, make_room: bool) -> bool:
        """Write it to the spool; where that fails it is told, and false."""
        if (spool := self.spool) is None:
            return False
        try:
            if oldest := spool.in_the_way_of(parcel.size):
                if not make_room:
                    raise SpoolError("there is no room ([spool] maxbytes, maxfiles)")
                for name in oldest:
                    await self.drop(name, "the spool is full ([spool] maxbytes, maxfiles), and it was the oldest")
            parcel.spool_name = await self._put(spool, parcel)
            return True
        except SpoolError as error:
            self._not_spooled(parcel, str(error))
            return False

    def _not_spooled(self, parcel: Parcel, reason: str) -> None:
        info = parcel.info
        self._publish(SavefileNotSpooled(info.id, info.interface, info.file_name, reason))

    async def _put(self, spool: Spool, parcel: Parcel) -> str:
        reader = parcel.savefile.reader()
        writing = asyncio.ensure_future(run_in_thread(spool.put, reader, parcel.as_json(), parcel.since))
        try:
            async with asyncio.timeout(STORE_WITHIN):
                return await asyncio.shield(writing)
        except TimeoutError:
            writing.add_done_callback(partial(_take_back, spool))
            reader.close()  # the thread writes no more, and its memory is not held
            raise SpoolError(f"{spool.directory}: the disk did not answer within {STORE_WITHIN:.0f} s") from None

    async def _unpacked(self, spool: Spool, name: str, manifest: Mapping[str, Any]) -> Parcel | None:
        """The parcel that stands in the spool under a name, if it is whole."""
        try:
            savefile = Savefile.on_disk(spool.path(name))
            parcel = Parcel.of_json(manifest, savefile)
            parcel.spool_name = name
            return parcel if await run_in_thread(digest, savefile) == parcel.stopped.sha256 else None
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None

    async def _quarantine(self, spool: Spool, name: str, reason: str) -> None:
        await run_in_thread(spool.quarantine, name)
        self._publish(SpoolFileQuarantined(str(spool.directory / name), reason))


def _when_again(error: Exception) -> bool | float:
    if not isinstance(error, DeliveryFailed):
        return False
    return min(error.retry_after, LONGEST_WAIT) if error.retry_after is not None else True


def _take_back(spool: Spool, written: "asyncio.Future[str]") -> None:
    if not written.cancelled() and written.exception() is None:
        spool.remove(written.result())
