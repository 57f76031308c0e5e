"""Which savefiles are in the spool, and for how long.

Stores parcels, resumes those of an earlier process, watches over all of them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from pcapdaemon.core.errors import SpoolError
from pcapdaemon.core.events import (
    Publish,
    SavefileNotSpooled,
    SavefileSpooled,
    SpoolFileQuarantined,
)
from pcapdaemon.delivery.parcel import Parcel
from pcapdaemon.delivery.spool import Spool, digest
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.threads import run_in_thread

LOOK_EVERY = 0.5
"""Seconds between two looks at what was ordered of the spool.

How often savefiles that are too old are looked for.
"""

STORE_WITHIN = 10.0
"""Seconds that the end of a capture waits for the spool's disk."""

Drop = Callable[[str, str], Awaitable[None]]
"""Drops the savefile with this name from the spool, for a reason."""


class Spooling:
    """The policy of one spool."""

    def __init__(self, spool: Spool, publish: Publish) -> None:
        self.spool, self._publish = spool, publish

    @property
    def eager(self) -> bool:
        """Whether each savefile is stored as soon as its capture has ended."""
        return self.spool.settings.eager

    async def resume(
        self, left: Iterable[tuple[str, dict[str, Any] | str]]
    ) -> AsyncIterator[Parcel]:
        """The parcels that an earlier process left, as `Spool.load` has them.

        What can't be used is quarantined.
        """
        for name, manifest in left:
            if isinstance(manifest, str):
                await self._quarantine(name, manifest)
            elif (parcel := await self._unpacked(name, manifest)) is None:
                await self._quarantine(
                    name, "its manifest is not understood, or its bytes have changed"
                )
            elif parcel.pending:
                yield parcel
            else:  # the last moment of the earlier process
                await run_in_thread(self.spool.remove, name)

    async def watch(self, retry: Callable[[str], None], drop: Drop) -> None:
        """Carry out orders of the command line, and drop savefiles that are too old.

        Runs until it is cancelled.
        """
        spool = self.spool
        while True:
            for verb, name in await run_in_thread(spool.orders):
                retry(name) if verb == "retry" else await drop(name, "dropped by hand")
            for name in spool.overdue(time.time()):
                await drop(
                    name,
                    f"it was in the spool for more than {spool.settings.maxage} s ([spool] maxage)",
                )
            await asyncio.sleep(LOOK_EVERY)

    async def store(self, parcel: Parcel, drop: Drop | None = None) -> bool:
        """Write a parcel to the spool, where it is dropped what is in the way.

        False, and published, where that fails.

        Without `drop` nothing is dropped for it.
        """
        try:
            await self._make_room(parcel.size, drop)
            parcel.spool_name = await self._put(parcel)
            return True
        except SpoolError as error:
            self.not_spooled(parcel, str(error))
            return False

    async def note(self, parcel: Parcel) -> None:
        """Record the progress of its delivery, if it is in the spool."""
        if parcel.spool_name:
            await run_in_thread(self.spool.note, parcel.spool_name, parcel.as_json())

    async def remove(self, parcel: Parcel) -> None:
        """Remove a savefile that is delivered or lost."""
        if parcel.spool_name:
            await run_in_thread(self.spool.remove, parcel.spool_name)

    def release(self, parcel: Parcel) -> bool:
        """Have the spool's copy be the only one; false where somebody took it away."""
        if parcel.savefile.in_memory:
            try:
                parcel.savefile.move_to(self.spool.path(parcel.spool_name))
            except OSError:
                parcel.spool_name = ""
                return False
        return True

    def spooled(self, parcel: Parcel, reason: str) -> None:
        """Publish that a parcel waits there."""
        info = parcel.info
        self._publish(
            SavefileSpooled(info.id, info.interface, info.file_name, tuple(parcel.pending), reason)
        )

    def not_spooled(self, parcel: Parcel, reason: str) -> None:
        """Publish that the end of the process would lose a parcel."""
        info = parcel.info
        self._publish(SavefileNotSpooled(info.id, info.interface, info.file_name, reason))

    async def _make_room(self, size: int, drop: Drop | None) -> None:
        for name in self.spool.in_the_way_of(size):
            if drop is None:
                raise SpoolError("there is no room ([spool] maxbytes, maxfiles)")
            await drop(
                name, "the spool is full ([spool] maxbytes, maxfiles), and it was the oldest"
            )

    async def _put(self, parcel: Parcel) -> str:
        reader = parcel.savefile.reader()
        writing = asyncio.ensure_future(
            run_in_thread(self.spool.put, reader, parcel.as_json(), parcel.since)
        )
        try:
            async with asyncio.timeout(STORE_WITHIN):
                return await asyncio.shield(writing)
        except TimeoutError:
            writing.add_done_callback(partial(_take_back, self.spool))
            reader.close()  # the thread writes no more, and its memory is not held
            raise SpoolError(
                f"{self.spool.directory}: the disk did not answer within {STORE_WITHIN:.0f} s"
            ) from None

    async def _unpacked(self, name: str, manifest: Mapping[str, Any]) -> Parcel | None:
        """Return the parcel with this name, if it is whole."""
        try:
            savefile = Savefile.on_disk(self.spool.path(name))
            parcel = Parcel.of_json(manifest, savefile)
            parcel.spool_name = name
            return (
                parcel if await run_in_thread(digest, savefile) == parcel.stopped.sha256 else None
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
            return None

    async def _quarantine(self, name: str, reason: str) -> None:
        await run_in_thread(self.spool.quarantine, name)
        self._publish(SpoolFileQuarantined(str(self.spool.directory / name), reason))


def _take_back(spool: Spool, written: "asyncio.Future[str]") -> None:
    if not written.cancelled() and written.exception() is None:
        spool.remove(written.result())
