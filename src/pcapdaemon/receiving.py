"""The sources of the daemon, while they run."""

import asyncio
from collections.abc import Callable, Collection

from pcapdaemon import sources
from pcapdaemon.core.events import Publish
from pcapdaemon.core.node_events import SourceSwitchedOff, SourceSwitchedOn
from pcapdaemon.core.section import Section
from pcapdaemon.results.router import Results
from pcapdaemon.sources.base import Bus, Message, Source
from pcapdaemon.sources.pump import close, end, pump


class Receiving:
    """Runs sources. Their messages go to `take`, and results can be sent over the buses."""

    def __init__(self, take: Callable[[Message], None], results: Results, publish: Publish) -> None:
        self._take, self._results, self._publish = take, results, publish
        self._pumps: dict[str, asyncio.Task[None]] = {}
        self.sources: dict[str, Source] = {}

    def start(self, name: str, source: Source) -> None:
        """Start to receive from a source."""
        self.sources[name] = source
        self._publish(SourceSwitchedOn(name))
        if isinstance(source, Bus):
            self._results.attach(source)
        self._pumps[name] = asyncio.create_task(pump(source, self._take, self._publish))

    async def reconnect(self, name: str, section: Section) -> None:
        """Exchange the credentials of a source, which goes on where it was."""
        source = self.sources[name]
        source.settings = section
        if isinstance(source, Bus):
            await end(self._pumps[name])
            await close(source)
            self._pumps[name] = asyncio.create_task(pump(source, self._take, self._publish))

    async def stop(self, names: Collection[str], for_good: bool = False) -> list[Source]:
        """Stop receiving from these sources, and return them; the caller must close them.

        With `for_good`, results can still be sent over them until then.
        """
        # remove them from the tables before the first await: the daemon may end during a reload
        pumps, stopped = (
            [self._pumps.pop(name) for name in names],
            [self.sources.pop(name) for name in names],
        )
        for name in names:
            self._publish(SourceSwitchedOff(name))
        await asyncio.gather(*(end(task) for task in pumps))
        if not for_good:
            await asyncio.gather(*(self._results.detach(source.name) for source in stopped))
        return stopped

    def bus_of(self, section: str) -> Bus | None:
        """Return the bus of a section that is turned on."""
        of_section = (n for n in self.sources if sources.TABLE[n].section == section)
        found = (self.sources[name] for name in of_section)
        return next((one for one in found if isinstance(one, Bus)), None)
