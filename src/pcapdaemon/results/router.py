"""Tells requesters what becomes of their requests: on the bus that they used, by a webhook, as server-sent events. A listener."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pcapdaemon.core.answers import Answer
from pcapdaemon.core.cloudevents import encode
from pcapdaemon.core.events import (
    CaptureFailed,
    CaptureProgressed,
    CaptureStarted,
    CaptureStopped,
    Event,
    Publish,
    RequestAccepted,
    RequestFinished,
    RequestJoined,
    RequestRejected,
    RequestSeenBefore,
    ResultsLost,
    SavefileDelivered,
    SavefileLeftSpool,
    SavefileLost,
    SavefileResumed,
    SavefileSpooled,
)
from pcapdaemon.core.request import CaptureRequest
from pcapdaemon.results.outbox import Outbox
from pcapdaemon.results.settings import ResultsSettings
from pcapdaemon.results.subscriber import Subscriber
from pcapdaemon.sources.base import Bus

if TYPE_CHECKING:
    from pcapdaemon.results.webhook import Webhook

_Place = tuple[str, str]
WEBHOOK: _Place = ("", "webhook")
"""A bus and the name of one of its places; the webhook has no bus. `reply_to` gives the name."""

DIRECT = ("dryrun", "list", "cancelled")
"""Answers that are no result of a request: they are always sent. What events tell is not told twice."""

LOOK_EVERY = 0.5
"""Seconds after which a reader that hears nothing looks whether it must end."""

RecordOf = Callable[[str], dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class _Route:
    """Where the results of a request go, and which."""

    source: str
    to: str | None
    kinds: tuple[str, ...] | None


class Results:
    """Turns events into CloudEvents, and sends those that are wanted to the places where they are wanted.

    `record` is all that is known of a request: what `finished` tells. Nothing here waits, or is waited for.
    """

    def __init__(self, node: str, settings: ResultsSettings, record: RecordOf, publish: Publish) -> None:
        self.node, self.settings = node, settings
        self._record_of, self._publish = record, publish
        self._webhook: Webhook | None = None
        self._boxes: dict[_Place, Outbox] = {}
        self._places: dict[str, tuple[str, ...]] = {}
        self._routes: dict[str, _Route] = {}
        self._joined: dict[str, list[str]] = {}
        self._waiting: set[str] = set()
        self._subscribers: set[Subscriber] = set()

    @property
    def places(self) -> frozenset[str]:
        """What a request's `reply_to` may name."""
        return frozenset(name for _, name in self._boxes)

    async def configure(self, node: str, settings: ResultsSettings) -> None:
        """Begin, or change to other settings."""
        self.node, self.settings = node, settings
        old, self._webhook = self._webhook, None
        if settings.webhook:
            from pcapdaemon.results.webhook import Webhook  # noqa: PLC0415  # its HTTP client is large

            self._webhook = Webhook(settings, settings.webhook)
            self._open(WEBHOOK, self._webhook.send)
        elif WEBHOOK in self._boxes:
            await self._boxes.pop(WEBHOOK).flush(0)
        if old:
            await old.close()
        for box in self._boxes.values():
            box.keep = settings.maxage

    def attach(self, bus: Bus) -> None:
        """A bus is there: results of its requests go to the first of its places."""
        self._places[bus.name] = bus.places
        for name in bus.places:
            self._open((bus.name, name), partial(bus.tell, name))
        bus.answer = partial(self._answer, bus.name) if bus.places else None

    async def detach(self, name: str) -> None:
        """A bus is gone; what can't be sent to its places at once is lost."""
        for place in self._places.pop(name, ()):
            if box := self._boxes.pop((name, place), None):
                await box.flush(1)

    async def close(self, seconds: float) -> None:
        """Send what waits, for so long."""
        await asyncio.gather(*(box.flush(seconds) for box in self._boxes.values()))
        if self._webhook:
            await self._webhook.close()

    async def subscribe(self, request_id: str | None, closing: asyncio.Event) -> AsyncIterator[tuple[str, bytes]]:
        """All results from now on, or those of one request, until `closing` is set: what happened, and the CloudEvent."""
        subscriber = Subscriber(request_id)
        self._subscribers.add(subscriber)
        try:
            while not closing.is_set():
                if result := await subscriber.next(LOOK_EVERY):
                    yield result
        finally:
            self._subscribers.discard(subscriber)

    def on_event(self, event: Event) -> None:
        """Tell of one event, if it is one of a request's life."""
        match event:
            case RequestRejected(request_id, source, problems, kind, warnings, hint, request):
                told = {"kind": kind, "problems": [asdict(one) for one in problems], "hint": hint, "warnings": warnings}
                self._send("rejected", request_id, told, _route(source, request))
            case RequestAccepted(source, plan, _, warnings):
                self._routes[plan.id] = _route(source, plan.request)
                names = [part.interface.name for part in plan.outcomes]
                limits = {"limits": asdict(plan.limits), "snaplen": plan.snaplen, "filter": plan.capture_filter}
                self._tell("accepted", plan.id, {"interfaces": names, **limits, "warnings": warnings})
            case RequestJoined(request_id, source, joined, _, request, warnings):
                self._routes[request_id] = _route(source, request)
                self._joined.setdefault(joined, []).append(request_id)
                self._send("accepted", request_id, {"joined": joined, "warnings": warnings}, self._routes[request_id])
            case RequestSeenBefore(request_id, source, request):
                words = ("it was accepted before, and is not captured again",)
                self._send("accepted", request_id, {"again": True, "warnings": words}, _route(source, request))
            case SavefileResumed(ids, source, _, request, _, _):
                self._routes.update({request_id: _route(source, request) for request_id in ids})
                self._joined[ids[0]] = list(ids[1:])
            case RequestFinished(request_id):
                self._finished(request_id)
            case SavefileLeftSpool(ids):
                for request_id in ids:
                    self._finished(request_id)
            case _:
                self._on_capture_event(event)

    def _on_capture_event(self, event: Event) -> None:
        match event:
            case CaptureStarted(request_id, interface, linktype, snaplen, at):
                self._tell("started", request_id, {"interface": interface, "linktype": linktype, "snaplen": snaplen, "at": at})
            case CaptureProgressed(request_id, interface, counts):
                self._tell("progress", request_id, {"interface": interface, **asdict(counts)})
            case CaptureStopped():
                self._tell("captured", event.id, _captured(event))
            case CaptureFailed(request_id, interface, reason, hint, _):
                self._tell("failed", request_id, {"interface": interface, "reason": reason, "hint": hint})
            case SavefileDelivered(request_id, interface, destination, receipt):
                told = {"interface": interface, "destination": destination, "receipt": asdict(receipt)}
                self._tell("delivered", request_id, told)
            case SavefileSpooled(request_id, interface, name, pending, reason):
                told = {"interface": interface, "file_name": name, "pending": pending, "reason": reason}
                self._tell("spooled", request_id, told)
            case SavefileLost(request_id, interface, destination, reason, name, packets):
                told = {"interface": interface, "destination": destination, "reason": reason, "file_name": name}
                self._tell("failed", request_id, {**told, "packets": packets})

    def _finished(self, request_id: str) -> None:
        route, record = self._routes.get(request_id), self._record_of(request_id)
        if route is None or record is None or record["state"] == "running":  # another of its captures is not over
            return
        final = not any(capture["pending"] for capture in record["captures"])
        if final or request_id not in self._waiting:
            self._send("finished", request_id, {**record, "final": final}, route)
        if final:
            self._routes.pop(request_id)
            self._joined.pop(request_id, None)
            self._waiting.discard(request_id)
        else:
            self._waiting.add(request_id)

    def _tell(self, kind: str, request_id: str, data: dict[str, Any]) -> None:
        """Tell a request's requester, and those who joined it."""
        for name in (request_id, *self._joined.get(request_id, ())):
            if route := self._routes.get(name):
                self._send(kind, name, data, route)

    def _send(self, kind: str, request_id: str, data: dict[str, Any], route: _Route) -> None:
        wanted = kind in (self.settings.events if route.kinds is None else route.kinds)
        readers = [one for one in self._subscribers if one.request_id in (None, request_id)]
        places = self._where(route) if wanted else []
        if not readers and not places:
            return
        body = encode(kind, request_id, data, self.node, time.time())
        for reader in readers:
            reader.put(kind, body)
        for place in places:
            self._boxes[place].put(body, progress=kind == "progress")

    def _where(self, route: _Route) -> list[_Place]:
        named = [place for place in self._boxes if place[1] == route.to]
        if named:  # of several buses that have such a place it is that of the request
            return sorted(named, key=lambda place: place[0] != route.source)[:1]
        own = [(route.source, name) for name in self._places.get(route.source, ())[:1]]
        return [place for place in (*own, WEBHOOK) if place in self._boxes]

    def _answer(self, source: str, answer: Answer) -> None:
        if answer.kind in DIRECT:
            data = {"interfaces": answer.interfaces, "warnings": answer.warnings, **answer.details}
            for place in self._where(_Route(source, answer.reply_to, None))[:1]:
                self._boxes[place].put(encode(answer.kind, answer.id, data, self.node, time.time()))

    def _open(self, place: _Place, send: Any) -> None:
        if place in self._boxes:
            self._boxes[place].send = send
        else:
            self._boxes[place] = Outbox(send, partial(self._lost, place), self.settings.maxage)

    def _lost(self, place: _Place, number: int, reason: str) -> None:
        self._publish(ResultsLost(" ".join(filter(None, place)), number, reason))


def _route(source: str, request: CaptureRequest | None) -> _Route:
    return _Route(source, request.reply_to if request else None, request.reply_events if request else None)


def _captured(event: CaptureStopped) -> dict[str, Any]:
    counts = event.counts
    return {
        "interface": event.interface,
        "file_name": event.file_name if counts.packets else "",
        "stop_reason": event.reason,
        **{"packets": counts.packets, "bytes": counts.size, "received": counts.received, "dropped": counts.dropped},
        "dropped_by_interface": counts.dropped_by_interface,
        "first_packet_at": event.times[0] if counts.packets else None,
        "last_packet_at": event.times[1] if counts.packets else None,
        "seconds": event.seconds,
        "trigger": event.trigger or None,
        "lookback": asdict(event.lookback) if event.lookback else None,
        "sha256": event.sha256,
        "content": asdict(event.content) if event.content else None,
        "complete": not event.missing,
        "missing": event.missing,
        "pending": event.pending,
    }
