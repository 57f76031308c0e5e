"""The spool's policy: which savefiles are stored, resumed and dropped, and when."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from pcapdaemon.core.errors import SpoolError
from pcapdaemon.core.events import Publish, SavefileNotSpooled, SavefileSpooled
from pcapdaemon.core.node_events import SpoolFileRefused
from pcapdaemon.core.wire import MALFORMED
from pcapdaemon.delivery.parcel import Parcel
from pcapdaemon.delivery.spool import Spool, digest
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.threads import look_at, run_in_thread

LOOK_EVERY = 0.5
"""Seconds between two checks for new orders from the command line and for overdue savefiles."""

NOT_OURS = "not a file of the spool; it is left there"

STORE_WITHIN = 10.0
"""Most seconds that the end of a capture waits for the spool's disk."""

Drop = Callable[[str, str], Awaitable[None]]
"""Drops a savefile from the spool, by its name and with a reason."""


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
        """Yield the parcels that an earlier process left; `left` is the result of `Spool.load`.

        What can't be used is quarantined.
        """
        for name in await run_in_thread(self.spool.strangers):
            path = str(self.spool.directory / name)
            self._publish(SpoolFileRefused(path, NOT_OURS, False))
        for name, manifest in left:
            if isinstance(manifest, str):
                await self._quarantine(name, manifest)
            elif (parcel := await self._unpacked(name, manifest)) is None:
                await self._quarantine(name, "its manifest is not valid, or its bytes have changed")
            elif parcel.pending:
                yield parcel
            else:  # the earlier process delivered it, but ended before it removed it
                await run_in_thread(self.spool.remove, name)

    async def watch(self, retry: Callable[[str], None], drop: Drop) -> None:
        """Carry out orders from the command line and drop overdue savefiles, until cancelled."""
        spool = self.spool
        while True:
            for verb, name in await run_in_thread(spool.orders):
                words = "dropped by 'pcapdaemon spool drop'"
                retry(name) if verb == "retry" else await drop(name, words)
            for name in spool.overdue():
                await drop(
                    name,
                    f"it was in the spool for more than {spool.settings.maxage} s ([spool] maxage)",
                )
            await asyncio.sleep(LOOK_EVERY)

    async def store(self, parcel: Parcel, drop: Drop | None = None) -> bool:
        """Write a parcel to the spool, and drop the oldest savefiles if there is no room.

        Returns False, and publishes that, if it can't be stored. Without `drop`, nothing is
        dropped.
        """
        try:
            if not parcel.stopped.sha256:  # damage is found by it
                parcel.seal(await run_in_thread(digest, parcel.savefile))
            await self._make_room(parcel.size, drop)
            parcel.spool_name = await self._put(parcel)
            return True
        except SpoolError as error:
            self.not_spooled(parcel, str(error))
            return False

    async def note(self, parcel: Parcel) -> None:
        """Record the progress of a parcel's delivery, if it is in the spool."""
        if parcel.spool_name:
            await run_in_thread(self.spool.note, parcel.spool_name, parcel.as_json())

    async def remove(self, parcel: Parcel) -> None:
        """Remove a savefile that is delivered or lost."""
        if parcel.spool_name:
            await run_in_thread(self.spool.remove, parcel.spool_name)

    def release(self, parcel: Parcel) -> bool:
        """Make the spool's copy the only one; return False if that copy is gone."""
        if parcel.savefile.in_memory:
            try:
                parcel.savefile.move_to(self.spool.path(parcel.spool_name))
            except OSError:
                parcel.spool_name = ""
                return False
        return True

    def spooled(self, parcel: Parcel, reason: str) -> None:
        """Publish that a parcel waits in the spool."""
        info = parcel.info
        self._publish(
            SavefileSpooled(info.id, info.interface, info.file_name, tuple(parcel.pending), reason)
        )

    def not_spooled(self, parcel: Parcel, reason: str) -> None:
        """Publish that a parcel is not in the spool, once for each reason.

        It is lost if the process ends.
        """
        if reason == parcel.not_spooled:
            return
        parcel.not_spooled = reason
        info = parcel.info
        self._publish(SavefileNotSpooled(info.id, info.interface, info.file_name, reason))

    async def _make_room(self, size: int, drop: Drop | None) -> None:
        for name in self.spool.in_the_way_of(size):
            if drop is None:
                raise SpoolError("the spool is full ([spool] maxbytes, maxfiles)")
            await drop(
                name, "the spool is full ([spool] maxbytes, maxfiles), and it was the oldest"
            )

    async def _put(self, parcel: Parcel) -> str:
        reader = parcel.savefile.reader()
        writing = asyncio.ensure_future(
            run_in_thread(self.spool.put, reader, parcel.as_json(), parcel.began)
        )
        try:
            async with asyncio.timeout(STORE_WITHIN):
                return await asyncio.shield(writing)
        except (TimeoutError, asyncio.CancelledError) as error:
            writing.add_done_callback(partial(_take_back, self.spool))
            reader.close()  # stops the thread, and frees its memory
            if isinstance(error, asyncio.CancelledError):
                raise
            raise SpoolError(
                f"{self.spool.directory}: the disk did not respond within {STORE_WITHIN:.0f} s"
            ) from None

    async def _unpacked(self, name: str, manifest: Mapping[str, Any]) -> Parcel | None:
        """Return the parcel with this name, or None if its manifest or bytes are damaged."""
        try:
            savefile = Savefile.on_disk(self.spool.path(name))
            parcel = Parcel.of_json(manifest, savefile)
            parcel.spool_name = name
            return (
                parcel if await run_in_thread(digest, savefile) == parcel.stopped.sha256 else None
            )
        except (OSError, *MALFORMED):
            return None

    async def _quarantine(self, name: str, reason: str) -> None:
        await run_in_thread(self.spool.quarantine, name)
        self._publish(SpoolFileRefused(str(self.spool.directory / name), reason, True))


def _take_back(spool: Spool, written: "asyncio.Future[str]") -> None:
    if not written.cancelled() and written.exception() is None:
        removing = asyncio.ensure_future(run_in_thread(spool.remove, written.result()))
        removing.add_done_callback(look_at)
