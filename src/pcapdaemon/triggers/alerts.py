"""All triggers of this node, and where their alerts come from."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pcapdaemon import sources
from pcapdaemon.core.answers import Answer, AnswerKind
from pcapdaemon.core.errors import NotConnected, ResultRefused
from pcapdaemon.core.events import Publish
from pcapdaemon.core.node_events import SourceSwitchedOff, SourceSwitchedOn
from pcapdaemon.core.request import Problem
from pcapdaemon.core.section import Section
from pcapdaemon.dedupe import ALERTS, Dedupe
from pcapdaemon.sources.base import Bus, Message, Source
from pcapdaemon.sources.pump import close, end, pump
from pcapdaemon.triggers.follow import FileSource, Wanted
from pcapdaemon.triggers.listen import SocketSource, SyslogSource
from pcapdaemon.triggers.settings import BUSES, TriggerSettings
from pcapdaemon.triggers.trigger import Submit, Trigger

Sign = Callable[[str, Mapping[str, Any]], dict[str, Any] | None]
"""Signs a message of a requester with the node's key, if it has one.

Returns None if the requester may do nothing.
"""

BusOf = Callable[[str], Bus | None]
"""Returns the bus of a section that is turned on."""


class Alerts:
    """The triggers.

    `take` is the engine's, and `statedir` keeps what must survive a restart. `sign` signs what is
    sent on a bus.
    """

    def __init__(
        self,
        take: Callable[[Message], None],
        bus_of: BusOf,
        publish: Publish,
        statedir: Path | None,
        sign: Sign,
    ) -> None:
        self._sign = sign
        self._take, self._bus_of, self._publish = take, bus_of, publish
        self._statedir, self._memory = statedir, Dedupe(statedir, name=ALERTS)
        self.triggers: dict[str, Trigger] = {}
        self._running: dict[str, tuple[object, Source, asyncio.Task[None]]] = {}

    async def configure(
        self, triggers: Sequence[TriggerSettings], sections: Mapping[str, Section], node: str
    ) -> None:
        """Use these triggers from now on. Where alerts come from is kept if it did not change."""
        before = self.triggers
        self.triggers = {one.name: self._trigger(one, before.get(one.name)) for one in triggers}
        wanted = {one.name: (one, section_of(one, sections)) for one in triggers}
        for name in [one for one in self._running if self._running[one][0] != wanted.get(one)]:
            await self._stop(name)
        for name, what in wanted.items():
            if name not in self._running and what[0].way:
                self._start(name, what, node)

    async def close(self) -> None:
        """Take no more alerts."""
        await asyncio.gather(*(self._stop(name) for name in list(self._running)))

    def _trigger(self, settings: TriggerSettings, before: Trigger | None) -> Trigger:
        send: Submit = partial(self._here, f"trigger:{settings.name}")
        if settings.send != "self":
            send = partial(self._out, f"trigger:{settings.name}", settings.send)
        return Trigger(settings, self._memory, send, self._publish, before)

    def _start(self, name: str, what: tuple[TriggerSettings, Section | None], node: str) -> None:
        settings, section = what

        def concerns(body: bytes) -> bool:
            trigger = self.triggers.get(name)
            return trigger is not None and trigger.concerns(body)

        source = source_of(settings, section, node, concerns, self._statedir)
        self._publish(SourceSwitchedOn(source.name))
        pumping = pump(source, partial(self._judge, name), self._publish)
        self._running[name] = (what, source, asyncio.create_task(pumping))

    async def _judge(self, name: str, message: Message) -> None:
        if (trigger := self.triggers.get(name)) is not None:
            await trigger.take(message)

    async def _stop(self, name: str) -> None:
        _, source, task = self._running.pop(name)
        await end(task)
        await close(source)
        self._publish(SourceSwitchedOff(source.name))

    async def _here(self, source: str, body: bytes) -> Answer:
        """Pass a message to the engine, and return its answer."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        message = Message(body, source, answer=answered.set_result, requester=source)
        self._take(message)
        return await answered

    async def _out(self, name: str, section: str, body: bytes) -> Answer:
        """Send a message on a bus. Whoever it is for answers there."""
        bus = self._bus_of(section)
        if bus is None:
            return _unavailable(f"[{section}] is not turned on")
        try:
            message = self._sign(name, json.loads(body))
            if message is None:
                words = f"{name} may do nothing here: no [[requester]] has this name"
                return Answer("", AnswerKind.FORBIDDEN, (Problem("", words),))
            await bus.send(json.dumps(message).encode())
        except NotConnected as error:
            return _unavailable(str(error))
        except ResultRefused as error:
            return Answer("", AnswerKind.INVALID, (Problem("", str(error)),))
        return Answer("", AnswerKind.ACCEPTED)


def section_of(settings: TriggerSettings, sections: Mapping[str, Section]) -> Section | None:
    """Return the section of the bus that a trigger reads, or None if it reads none."""
    needed = BUSES.get(settings.way, ("", ""))[1]
    found = (one for name, one in sections.items() if sources.TABLE[name].section == needed)
    return next(found, None)


def source_of(
    settings: TriggerSettings,
    section: Section | None,
    node: str,
    concerns: Wanted,
    statedir: Path | None,
) -> Source:
    """Return where the alerts of a trigger come from, if it reads something."""
    if settings.way == "file":
        return FileSource(settings, node, concerns, statedir)
    if settings.way == "socket":
        return SocketSource(settings, node, concerns)
    if settings.way == "syslog":
        return SyslogSource(settings, node, concerns)
    source = sources.load(BUSES[settings.way][0])(_moved(settings, section), node)
    source.name, source.whole = f"trigger:{settings.name}", True
    return source


def _unavailable(words: str) -> Answer:
    return Answer("", AnswerKind.UNAVAILABLE, (Problem("", words),))


def _moved(settings: TriggerSettings, section: Section | None) -> Section:
    """Return the section of a bus with the trigger's own channel, stream, topic or queue."""
    if section is None:
        raise ValueError(f"{settings.name}: the bus of {settings.way} is not turned on")
    place = getattr(settings, settings.way)
    names = {"queue": "url"}
    changes = {names.get(settings.way, settings.way): place, "results": None}
    return section.model_copy(update=changes)
