"""Delivers savefiles to all destinations independently, from memory first, then from the spool."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import stamina
import structlog

from pcapdaemon.core.errors import DeliveryFailed, DeliveryRefused
from pcapdaemon.core.events import DeliveryDelayed, Publish, SavefileDelivered, SavefileLost
from pcapdaemon.core.node_events import SavefileLeftSpool
from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.request import CaptureRequest, Problem
from pcapdaemon.delivery.journey import Journey
from pcapdaemon.delivery.parcel import Parcel
from pcapdaemon.delivery.settings import DeliverySettings
from pcapdaemon.delivery.spool import digest
from pcapdaemon.delivery.spooling import Spooling
from pcapdaemon.destinations.base import Destination
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.threads import run_in_thread

LONGEST_WAIT, LONGEST_WAIT_IN_MEMORY = 300.0, 15.0
"""Most seconds between two attempts, with and without a spool."""

LONGEST_TRY = 3600.0
"""Most seconds for one attempt, because a disk may hang forever."""

LOOK_EVERY = 0.5
"""Seconds between two checks whether a savefile must leave memory."""

STORE_AGAIN = 5.0
"""Seconds after which the spool is tried again for a savefile that it could not keep."""

ENDED = "the daemon stopped before it was delivered"

log = structlog.get_logger()


class Delivery:
    """Delivers savefiles to destinations. A new configuration also applies to those in progress.

    `pressed` returns whether memory is running low. Without a spool, what can't be delivered is
    lost after `settings.deadline`.
    """

    def __init__(
        self,
        destinations: Mapping[str, Destination],
        publish: Publish,
        settings: DeliverySettings,
        spooling: Spooling | None = None,
        pressed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._destinations, self._settings, self._spooling = dict(destinations), settings, spooling
        self._publish, self._pressed = publish, pressed
        self._journeys: dict[Parcel, Journey] = {}
        self._slots: dict[str, tuple[int, asyncio.Semaphore]] = {}
        self._ending = False
        self._resumed = asyncio.Event()
        if spooling is None:
            self._resumed.set()

    def configure(
        self, destinations: Mapping[str, Destination], settings: DeliverySettings
    ) -> None:
        """Use these settings from now on, and retry what waits, because its cause may be fixed."""
        self._destinations, self._settings = dict(destinations), settings
        self.retry()

    @property
    def destination_fields(self) -> tuple[str, ...]:
        """The fields of a request that a destination uses."""
        heeded = (destination.HEEDED for destination in self._destinations.values())
        return ("destinations", *(name for names in heeded for name in names))

    def objections(self, request: CaptureRequest) -> list[Problem]:
        """Return what a request asks of destinations that they don't allow."""
        known = ", ".join(self._destinations)
        unknown = (name for name in request.destinations if name not in self._destinations)
        found = [Problem("destinations", f"unknown {n!r}; this node has: {known}") for n in unknown]
        for destination in self._destinations.values():
            found += destination.objections(request)
        return found

    async def take(self, parcel: Parcel, with_digest: bool = False) -> None:
        """Take the savefile of a capture that just ended, and publish that it ended.

        With an eager spool, it is written there first, so that a crash does not lose it. The caller
        must call `deliver` next.
        """
        chosen = parcel.info.request.destinations
        there = [name for name in self._destinations if not chosen or name in chosen]
        # all of them, if a reload has turned off those that were chosen; not if a policy chose them
        parcel.pending = there or ([] if parcel.requester else list(self._destinations))
        parcel.stopped = replace(parcel.stopped, pending=tuple(parcel.pending))
        try:
            if with_digest:
                parcel.seal(await run_in_thread(digest, parcel.savefile))
            if self._spooling and self._spooling.eager:
                await self._spooling.store(parcel)
        except asyncio.CancelledError:  # the capture ended too late for `close` to see it
            self._publish(parcel.stopped)
            self._report_fate(parcel)
            raise
        self._publish(parcel.stopped)

    async def deliver(self, parcel: Parcel) -> None:
        """Deliver to all destinations, and publish each outcome.

        Returns when every destination has the savefile or will not get it, or when it waits in the
        spool.
        """
        journey = self._begin(parcel)
        try:
            while not journey.at_rest.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(LOOK_EVERY, self._settings.deadline)):
                        await journey.at_rest.wait()
                        return
                await self._see_to(journey)
        except asyncio.CancelledError:  # the capture ended too late for `close` to see it
            self._abandon(journey)
            raise

    async def savefile_of(
        self, request_id: str, name: str, places: Mapping[str, str]
    ) -> Savefile | None:
        """Return a savefile from where this node still has it, or None; the caller closes it.

        `places` says where each destination has it.
        """
        for destination, where in places.items():
            if destination in self._destinations:
                found = await self._destinations[destination].fetch(where)
                if found:
                    return found
        for parcel in self._journeys:
            if request_id in parcel.ids and parcel.info.file_name == name:
                with suppress(ValueError):  # it was closed in this moment
                    return parcel.savefile.reader()
        return None

    async def resume(self, left: Iterable[tuple[str, dict[str, Any] | str]]) -> None:
        """Resume the deliveries that an earlier process left in the spool.

        `left` is the result of `Spool.load`.
        """
        try:
            if self._spooling:
                async for parcel in self._spooling.resume(left):
                    self._publish(parcel.resumed())
                    self._begin(parcel).spooled = True
        finally:
            self._resumed.set()

    async def keep_watch(self) -> None:
        """Watch over the spool until cancelled."""
        await self._resumed.wait()
        if self._spooling:
            await self._spooling.watch(self.retry, self.drop)

    def retry(self, name: str = "") -> None:
        """Retry now what waits in the spool, all or one by name, also after a refusal."""
        for journey in list(self._journeys.values()):
            if journey.spooled and name in ("", journey.parcel.spool_name):
                for task in journey.tasks.values():
                    task.cancel()
                self._try_all(journey)

    async def drop(self, name: str, reason: str) -> None:
        """Drop the savefile with this name from the spool."""
        await self._resumed.wait()  # until then it is not known what would be lost
        journey = next((j for j in self._journeys.values() if j.parcel.spool_name == name), None)
        if journey and not journey.parcel.savefile.in_memory:
            await self._lose_all(journey, reason)
            return
        if self._spooling:
            await run_in_thread(self._spooling.spool.remove, name)
            if journey:
                journey.parcel.spool_name = ""
                self._spooling.not_spooled(journey.parcel, reason)

    def end_soon(self) -> None:
        """From now on, move failing deliveries to the spool at once: the daemon is stopping."""
        self._ending = True

    async def close(self) -> None:
        """Stop all deliveries.

        What is in the spool stays there. What is not is written there now or, if that fails, lost
        and reported.
        """
        for journey in list(self._journeys.values()):
            if await self._hand_over(journey, "the daemon stopped"):
                await self._cancel(journey)
            else:
                await self._lose_all(journey, ENDED)
        self._journeys.clear()

    def _begin(self, parcel: Parcel) -> Journey:
        journey = self._journeys[parcel] = Journey(parcel)
        self._try_all(journey)
        return journey

    def _try_all(self, journey: Journey) -> None:
        journey.refused.clear()
        journey.tasks = {
            name: asyncio.create_task(self._to(name, journey)) for name in journey.parcel.pending
        }

    async def _to(self, name: str, journey: Journey) -> None:
        """Deliver to one destination, and retry until it has the savefile or refuses it."""
        begun = time.monotonic()
        try:
            receipt = await self._try(name, journey)
        except DeliveryRefused as error:
            journey.refused[name] = f"{error}{f' ({error.hint})' if error.hint else ''}"
            await self._refused(name, journey)
        except Exception as error:  # a bug in one destination: the loss must still be reported
            log.exception("a destination failed in an unforeseen way", destination=name)
            journey.refused[name] = f"internal error: {type(error).__name__}"
            await self._refused(name, journey)
        else:
            await self._delivered(name, journey, receipt, time.monotonic() - begun)

    async def _try(self, name: str, journey: Journey) -> Receipt:
        longest = LONGEST_WAIT if self._spooling else LONGEST_WAIT_IN_MEMORY
        async for attempt in stamina.retry_context(
            on=_retry_after,
            attempts=None,
            timeout=None,
            wait_initial=0.5,
            wait_jitter=0.5,
            wait_max=longest,
        ):
            with attempt:
                try:
                    async with self._slot(name):
                        return await self._once(
                            name, journey.parcel, again=journey.spooled or name in journey.failed
                        )
                except DeliveryFailed as error:
                    journey.failed[name] = str(error)
                    info = journey.parcel.info
                    self._publish(
                        DeliveryDelayed(info.id, info.interface, name, str(error), attempt.num)
                    )
                    raise
        raise AssertionError("a retry ends with a result or an error")

    async def _once(self, name: str, parcel: Parcel, again: bool) -> Receipt:
        if (destination := self._destinations.get(name)) is None:
            raise DeliveryFailed(f"{name} is no longer turned on")
        reader = parcel.savefile.reader()
        try:
            async with asyncio.timeout(LONGEST_TRY):
                return await destination.deliver(reader, replace(parcel.info, again=again))
        except TimeoutError:
            raise DeliveryFailed(f"not finished after {LONGEST_TRY:.0f} s") from None
        finally:
            # an abandoned thread can then no longer read or hold memory
            reader.close()

    def _slot(self, name: str) -> asyncio.Semaphore:
        number = self._settings.concurrent
        if self._slots.get(name, (0,))[0] != number:
            self._slots[name] = (number, asyncio.Semaphore(number))
        return self._slots[name][1]

    async def _delivered(
        self, name: str, journey: Journey, receipt: Receipt, seconds: float
    ) -> None:
        parcel = journey.parcel
        parcel.pending.remove(name)
        parcel.delivered[name] = receipt
        since_last = max(0.0, time.time() - (parcel.stopped.outcome.last_packet_at or 0.0))
        self._publish(
            SavefileDelivered(
                parcel.info.id, parcel.info.interface, name, receipt, seconds, since_last
            )
        )
        await self._settle(journey)

    async def _refused(self, name: str, journey: Journey) -> None:
        """Keep what a destination refused in the spool, without automatic retries.

        Without a spool, it is lost.
        """
        reason = f"{name}: {journey.refused[name]}"
        if not await self._hand_over(
            journey, f"{reason}; kept for 'pcapdaemon spool retry'", publish=True
        ):
            self._lose(journey.parcel, name, journey.refused[name])
            await self._settle(journey)

    def _lose(self, parcel: Parcel, name: str, reason: str) -> None:
        parcel.pending.remove(name)
        info, packets = parcel.info, parcel.stopped.outcome.packets
        self._publish(SavefileLost(info.id, info.interface, name, reason, info.file_name, packets))

    async def _settle(self, journey: Journey) -> None:
        """Record that a destination is done; after the last one, end the delivery."""
        parcel, spooling = journey.parcel, self._spooling
        if parcel.pending:
            if spooling:
                await spooling.note(parcel)
            return
        if self._journeys.pop(parcel, None) is None:  # another task has ended it
            return
        parcel.savefile.close()
        if spooling:
            await spooling.remove(parcel)
        if journey.spooled:
            self._publish(SavefileLeftSpool(parcel.ids, parcel.info.interface))
        journey.at_rest.set()

    async def _see_to(self, journey: Journey) -> None:
        """Move a savefile from memory to the spool if it is time, or lose it at the deadline."""
        waited = time.monotonic() - journey.begun
        failing = bool(journey.failed.keys() & set(journey.parcel.pending))
        too_long = waited > self._settings.deadline
        grace_is_over = failing and (self._ending or waited > self._settings.memory_grace)
        must_leave = too_long or grace_is_over or self._pressed()
        if must_leave and time.monotonic() >= journey.store_after:
            why = (
                "; ".join(f"{name}: {words}" for name, words in journey.failed.items())
                or "the memory for captures is running low"
            )
            if await self._hand_over(journey, why):
                return
            journey.store_after = time.monotonic() + STORE_AGAIN
        if too_long:
            await self._lose_all(
                journey, f"not delivered within {self._settings.deadline} s ([delivery] deadline)"
            )

    async def _hand_over(self, journey: Journey, reason: str, publish: bool = False) -> bool:
        """Make the spool's copy the only one, and publish that the first time.

        Returns False if there is none.
        """
        parcel, spooling = journey.parcel, self._spooling
        if not spooling:
            return False
        async with journey.storing:
            if not parcel.spool_name and not await spooling.store(parcel, self.drop):
                return False
        if parcel not in self._journeys:  # it was delivered in the meantime
            await spooling.remove(parcel)
            return True
        if not spooling.release(parcel):
            return False
        if publish or not journey.spooled:
            spooling.spooled(parcel, reason)
        journey.spooled = True
        journey.at_rest.set()
        return True

    async def _lose_all(self, journey: Journey, reason: str) -> None:
        await self._cancel(journey)
        for name in list(journey.parcel.pending):
            words = journey.refused.get(name) or journey.failed.get(name)
            self._lose(journey.parcel, name, f"{reason}: {words}" if words else reason)
        await self._settle(journey)

    def _abandon(self, journey: Journey) -> None:
        """Publish the fate of a savefile whose delivery was cancelled: in the spool, or lost."""
        if self._journeys.pop(journey.parcel, None) is None or journey.at_rest.is_set():
            return
        for task in journey.tasks.values():
            task.cancel()
        self._report_fate(journey.parcel)

    def _report_fate(self, parcel: Parcel) -> None:
        if parcel.spool_name and self._spooling:
            self._spooling.spooled(parcel, "the daemon stopped")
            return
        for name in list(parcel.pending):
            self._lose(parcel, name, ENDED)

    async def _cancel(self, journey: Journey) -> None:
        tasks = [task for task in journey.tasks.values() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _retry_after(error: Exception) -> bool | float:
    if not isinstance(error, DeliveryFailed):
        return False
    return min(error.retry_after, LONGEST_WAIT) if error.retry_after is not None else True
