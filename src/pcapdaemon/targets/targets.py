"""Finds the targets of requests, outside the event loop."""

import asyncio
import time

from pcapdaemon.core.target import Asked, Found
from pcapdaemon.targets.lookup import look_up
from pcapdaemon.targets.settings import TargetSettings
from pcapdaemon.threads import run_in_thread

WAIT_FOR_START = 2.0
"""Seconds in which a pod that starts must have a process."""

LOOK_EVERY = 0.1


class Targets:
    """Finds the targets of requests. One look at a time, however many messages come."""

    def __init__(self, settings: TargetSettings) -> None:
        self._settings = settings
        self._turn = asyncio.Lock()

    def configure(self, settings: TargetSettings) -> None:
        """Use these settings from the next message on."""
        self._settings = settings

    async def find(self, asked: Asked) -> Found:
        """Return the interfaces of targets as they are now; nothing is remembered.

        The kernel uses the numbers of namespaces again, and a pod that restarts has another one.
        Raises OSError, for example if no descriptor is free.
        """
        until = time.monotonic() + WAIT_FOR_START
        while True:
            found = await self._look(asked)
            if not found.starting or time.monotonic() > until:
                return found
            await asyncio.sleep(LOOK_EVERY)

    async def _look(self, asked: Asked) -> Found:
        async with self._turn:
            return await run_in_thread(look_up, asked, self._settings)
