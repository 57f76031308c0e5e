"""Listens to the results of all nodes, and asks them now and then what they are."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import structlog

from pcapdaemon.core.answers import Verdict
from pcapdaemon.core.errors import NotConnected
from pcapdaemon.core.events import Event
from pcapdaemon.core.fields import ResultKind
from pcapdaemon.core.node_events import SourceConnected, SourceDisconnected
from pcapdaemon.core.request import new_id
from pcapdaemon.fleet.state import FleetState
from pcapdaemon.sources.base import Bus, Message, Source
from pcapdaemon.sources.pump import close, end, pump
from pcapdaemon.trust.trust import opening

ASK_EVERY = 30.0
"""Seconds between two questions to all nodes."""

LOOK_EVERY = 5.0
"""Seconds between two checks for nodes that went silent."""

log = structlog.get_logger()


class FleetWatch:
    """The fleet, as the results on buses show it.

    `buses` are why each bus is not heard now, or "". It only runs while it is configured to. `sign`
    signs what it sends.
    """

    def __init__(self, sign: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        self._sign = sign
        self.state = FleetState()
        self.buses: dict[str, str] = {}
        self._senders: dict[str, Bus] = {}
        self._watched: dict[str, tuple[Bus, Any]] = {}
        self._listeners: dict[str, tuple[Bus, asyncio.Task[None]]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._questions: set[asyncio.Task[None]] = set()
        self._open = opening(())

    @property
    def is_on(self) -> bool:
        """Whether it watches."""
        return self._asking is not None

    async def configure(self, sources: Mapping[str, Source], keys: Sequence[str] = ()) -> None:
        """Watch the results on the buses among these, or nothing. Called at each reload, too.

        With `keys`, only results that the nodes signed count.
        """
        self._open = opening(keys)
        wanted = {
            name: (bus, bus.settings)
            for name, bus in sources.items()
            if isinstance(bus, Bus) and bus.places and bus.hears_all
        }
        if bool(sources) == self.is_on and wanted == self._watched:
            return
        await self.close()
        if not sources:
            return
        self._watched = wanted
        for name, (bus, _) in wanted.items():
            listener = bus.of_answers(bus.settings, bus.node, bus.places[0])
            task = asyncio.create_task(pump(listener, self._take, self._note_state(name)))
            self._senders[name], self._listeners[name] = bus, (listener, task)
            self.buses[name] = "not connected yet"
        self._asking = asyncio.create_task(self._keep_asking())

    async def close(self) -> None:
        """Stop to watch. What is known stays."""
        asking, self._asking = self._asking, None
        for task in (*self._questions, *([asking] if asking else [])):
            await end(task)
        listeners = list(self._listeners.values())
        self._listeners.clear()
        self._senders.clear()
        self.buses.clear()
        for listener, task in listeners:
            await end(task)
            await close(listener)

    async def request(self, message: Mapping[str, Any], bus: str = "") -> dict[str, Any]:
        """Send a request to the fleet, with results of all kinds to where this listens.

        Returns its id, the bus, and the number of receivers if the bus knows it. Raises
        NotConnected, and KeyError if there is no such bus.
        """
        name = bus or next(iter(self._senders))
        sender = self._senders[name]
        whole = {"id": new_id(), **message, "reply_to": sender.places[0]}
        whole.setdefault("reply_events", list(get_args(ResultKind)))
        receivers = await sender.send(self._message(whole))
        self.state.expect(str(whole["id"]), time.time())
        return {"id": whole["id"], "bus": name, "receivers": receivers}

    async def cancel(self, request_id: str) -> None:
        """End a request on all nodes. Raises NotConnected if no bus could be reached."""
        failed: list[NotConnected] = []
        senders = list(self._senders.values())
        for sender in senders:
            try:
                await sender.send(self._message({"cancel": request_id}))
            except NotConnected as error:
                failed.append(error)
        if failed and len(failed) == len(senders):
            raise failed[0]

    def _message(self, fields: Mapping[str, Any]) -> bytes:
        signed = fields if "jws" in fields else self._sign(fields)  # its sender may sign itself
        return json.dumps(signed).encode()

    def _take(self, message: Message) -> None:
        if message.settle:
            message.settle(Verdict.DONE)
        body = self._open(message.body) if self._open else message.body
        if body is None:
            self.state.ignored += 1
            return
        self.state.on_result(body, time.time(), time.monotonic())

    def _note_state(self, name: str) -> Any:
        def publish(event: Event) -> None:
            match event:
                case SourceConnected():
                    self.buses[name] = ""
                    task = asyncio.ensure_future(self._ask(self._senders[name]))
                    self._questions.add(task)
                    task.add_done_callback(self._questions.discard)
                case SourceDisconnected(_, reason):
                    self.buses[name] = reason

        return publish

    async def _keep_asking(self) -> None:
        asked = 0.0
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.state.look(time.monotonic())
            if time.monotonic() - asked >= ASK_EVERY:
                asked = time.monotonic()
                for sender in list(self._senders.values()):
                    await self._ask(sender)

    async def _ask(self, sender: Bus) -> None:
        try:
            await sender.send(self._message({"list": True}))
        except NotConnected as error:
            log.debug("the fleet was not asked", bus=sender.name, reason=str(error))
