"""One savefile to all its destinations, side by side; a destination that fails is tried again until a deadline."""

import asyncio
import time
from collections.abc import Mapping

import stamina
import structlog

from pcapdaemon.capture import Savefile
from pcapdaemon.destinations.base import Destination, Facts
from pcapdaemon.errors import DeliveryFailed, DeliveryRefused
from pcapdaemon.events import DeliveryDelayed, Publish, SavefileDelivered, SavefileLost

log = structlog.get_logger()

LONGEST_WAIT = 15.0
"""Seconds between two tries at most."""


class Delivery:
    """Delivers savefiles to the destinations that are switched on; `deadline` is seconds from the first try."""

    def __init__(self, destinations: Mapping[str, Destination], publish: Publish, deadline: float) -> None:
        self.destinations = dict(destinations)
        self._publish, self._deadline = publish, deadline

    async def deliver(self, savefile: Savefile, facts: Facts, packets: int) -> None:
        """Return when every destination has the savefile or was given up; each outcome is published.

        Cancelled, what is not delivered yet is published as lost.
        """
        await asyncio.gather(*(self._to(d, savefile, facts, packets) for d in self.destinations.values()))

    async def _to(self, destination: Destination, savefile: Savefile, facts: Facts, packets: int) -> None:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._deadline):
                where = await self._try(destination, savefile, facts)
        except (DeliveryFailed, DeliveryRefused) as error:
            self._lost(destination, facts, packets, str(error))
        except TimeoutError:
            self._lost(destination, facts, packets, f"not delivered within {self._deadline:g} s, the last try hangs")
        except Exception as error:  # a defect of one destination: the loss must be told all the same
            log.exception("a destination failed in an unforeseen way", destination=destination.name)
            self._lost(destination, facts, packets, f"internal error: {type(error).__name__}")
        except asyncio.CancelledError:
            self._lost(destination, facts, packets, "the daemon ended before it could be delivered")
            raise
        else:
            seconds = time.monotonic() - begun
            self._publish(SavefileDelivered(facts.id, facts.interface, destination.name, where, seconds))

    async def _try(self, destination: Destination, savefile: Savefile, facts: Facts) -> str:
        async for attempt in stamina.retry_context(
            on=DeliveryFailed, attempts=None, timeout=self._deadline, wait_initial=0.5, wait_max=LONGEST_WAIT
        ):
            with attempt:
                try:
                    return await destination.deliver(savefile.reader(), facts)
                except DeliveryFailed as error:
                    name = destination.name
                    self._publish(DeliveryDelayed(facts.id, facts.interface, name, str(error), attempt.num))
                    raise
        raise AssertionError("a retry ends with a result or an error")

    def _lost(self, destination: Destination, facts: Facts, packets: int, reason: str) -> None:
        self._publish(SavefileLost(facts.id, facts.interface, destination.name, reason, facts.file_name, packets))
