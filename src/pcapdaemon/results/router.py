"""Sends results to requesters: on the bus that they used, to a webhook, as server-sent events.

It listens to events.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pcapdaemon.core.admission import Tally
from pcapdaemon.core.answers import Answer, AnswerKind
from pcapdaemon.core.cloudevents import encode
from pcapdaemon.core.events import (
    CaptureEvent,
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
    SavefileDelivered,
    SavefileLost,
    SavefileSpooled,
)
from pcapdaemon.core.intake import SEEN_BEFORE
from pcapdaemon.core.node_events import (
    ResultsDelayed,
    ResultsLost,
    SavefileLeftSpool,
    SavefileResumed,
)
from pcapdaemon.core.record import RequestState
from pcapdaemon.core.request import ON_THE_WIRE, CaptureRequest
from pcapdaemon.core.wire import to_wire
from pcapdaemon.results.callback_settings import CallbackSettings
from pcapdaemon.results.outbox import Outbox
from pcapdaemon.results.settings import ResultsSettings
from pcapdaemon.results.subscriber import Subscriber
from pcapdaemon.sources.base import Bus

if TYPE_CHECKING:
    from pcapdaemon.results.callback import Callback
    from pcapdaemon.results.webhook import Webhook

_Place = tuple[str, str]
WEBHOOK: _Place = ("", "webhook")
"""A bus and one of its places, by their names. The webhook has no bus. `reply_to` names a place."""

DIRECT = (AnswerKind.DRYRUN, AnswerKind.LIST, AnswerKind.CANCELLED)
"""Answers that no event reports, so they are always sent as answers."""

REJECTIONS_A_MINUTE = 600
"""Most rejections that are sent to requesters of one source in a minute."""

TOO_MANY = f"more than {REJECTIONS_A_MINUTE} rejections in a minute"

LOOK_EVERY = 0.5
"""Seconds without a result after which a subscriber checks whether it must end."""

RecordOf = Callable[[str], dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class _Route:
    """Where the results of a request go, and which kinds; None means the default.

    `targets` are what its interfaces lead to, by their names.
    """

    source: str
    to: str | None
    kinds: tuple[str, ...] | None
    cause: dict[str, str] | None = None
    targets: Mapping[str, Any] = field(default_factory=dict)


class Results:
    """Turns events into CloudEvents, and sends the configured kinds to the places of a request.

    `record` returns the whole record of a request, for the result `finished`. Events are never
    delayed, because results are only queued. `seal` signs each; it may be replaced.
    """

    def __init__(
        self, node: str, settings: ResultsSettings, record: RecordOf, publish: Publish
    ) -> None:
        self.node, self.settings = node, settings
        self.seal: Callable[[bytes], bytes] = lambda body: body
        self._record_of, self._publish = record, publish
        self._webhook: Webhook | None = None
        self._callbacks: dict[str, tuple[Callback, Outbox]] = {}
        self._tally = Tally(REJECTIONS_A_MINUTE)
        self._boxes: dict[_Place, Outbox] = {}
        self._places: dict[str, tuple[str, ...]] = {}
        self._routes: dict[str, _Route] = {}
        self._joined: dict[str, list[str]] = {}
        self._waiting: set[str] = set()
        self._subscribers: set[Subscriber] = set()

    @property
    def boxes(self) -> tuple[_Place, ...]:
        """The buses and their places to which results go, and the callbacks."""
        return (*self._boxes, *(("callback", name) for name in self._callbacks))

    @property
    def places(self) -> frozenset[str]:
        """What a request's `reply_to` may name."""
        return frozenset(name for _, name in self._boxes)

    async def configure(
        self, node: str, settings: ResultsSettings, callbacks: Sequence[CallbackSettings] = ()
    ) -> None:
        """Use these settings from now on; called at the start, too."""
        self.node, self.settings = node, settings
        await self._call_back(callbacks)
        old, self._webhook = self._webhook, None
        if settings.webhook:
            # imported here because its HTTP client is large
            from pcapdaemon.results.webhook import Webhook  # noqa: PLC0415

            self._webhook = Webhook(settings, settings.webhook)
            self._open(WEBHOOK, self._webhook.send)
        elif WEBHOOK in self._boxes:
            await self._boxes.pop(WEBHOOK).flush(0)
        if old:
            await old.close()
        for box in self._boxes.values():
            box.keep = settings.maxage

    async def _call_back(self, wanted: Sequence[CallbackSettings]) -> None:
        """Exchange the callbacks. What waits for one that is kept is sent by the new one."""
        old, self._callbacks = self._callbacks, {}
        for settings in wanted:
            # imported here because its HTTP client is large
            from pcapdaemon.results.callback import Callback  # noqa: PLC0415

            known = old.pop(settings.name, None)
            made, place = Callback(settings), ("callback", settings.name)
            if known and (known[0].settings, known[0].trusted) == (settings, made.trusted):
                self._callbacks[settings.name] = known
                known[1].keep = self.settings.maxage
                await made.close()
                continue
            box = known[1] if known else self._box(place, made.send)
            box.send, box.keep = made.send, self.settings.maxage
            self._callbacks[settings.name] = made, box
            if known:
                await known[0].close()
        for callback, box in old.values():
            await box.flush(0)
            await callback.close()

    async def check(self) -> None:
        """Publish ResultsDelayed for a webhook that can't be reached, before a result waits."""
        if self._webhook and (problem := await self._webhook.check()):
            self._delayed(WEBHOOK, problem, 0)

    def attach(self, bus: Bus) -> None:
        """Add a bus: results of its requests go to the first of its places."""
        self._places[bus.name] = bus.places
        for name in bus.places:
            self._open((bus.name, name), partial(bus.tell, name))
        bus.answer = partial(self._answer, bus.name) if bus.places else None

    async def detach(self, name: str) -> None:
        """Remove a bus; what can't be sent to its places within a second is lost."""
        for place in self._places.pop(name, ()):
            if box := self._boxes.pop((name, place), None):
                await box.flush(1)

    async def close(self, seconds: float) -> None:
        """Send what waits, for at most this many seconds."""
        boxes = (*self._boxes.values(), *(box for _, box in self._callbacks.values()))
        await asyncio.gather(*(box.flush(seconds) for box in boxes))
        for sender in (self._webhook, *(callback for callback, _ in self._callbacks.values())):
            if sender:
                await sender.close()

    async def subscribe(
        self,
        closing: asyncio.Event,
        request_id: str | None = None,
        is_shown: Callable[[str], bool] = lambda _: True,
    ) -> AsyncIterator[tuple[str, bytes]]:
        """Yield all new results, or those of one request, until `closing` is set.

        Each is what happened and the CloudEvent. `is_shown` returns whether the client may see a
        request.
        """
        subscriber = Subscriber(request_id, is_shown)
        self._subscribers.add(subscriber)
        try:
            while not closing.is_set():
                if result := await subscriber.next(LOOK_EVERY):
                    yield result
        finally:
            self._subscribers.discard(subscriber)

    def on_event(self, event: Event) -> None:
        """Send the result of an event, if it is about a request."""
        match event:
            case RequestRejected(request_id, source, problems, kind, warnings, hint, request):
                if not self._may_reject(_route(source, request)):
                    return
                data = {"kind": kind, "problems": problems, "hint": hint, "warnings": warnings}
                self._send("rejected", request_id, to_wire(data), _route(source, request))
            case RequestAccepted():
                self._accepted(event)
            case RequestJoined(request_id, source, joined, _, request, warnings):
                targets = self._routes[joined].targets if joined in self._routes else {}
                self._routes[request_id] = _route(source, request, targets)
                self._joined.setdefault(joined, []).append(request_id)
                self._send(
                    "accepted",
                    request_id,
                    {"joined": joined, "warnings": warnings},
                    self._routes[request_id],
                )
            case RequestSeenBefore(request_id, source, request):
                again: dict[str, Any] = {"again": True, "warnings": (SEEN_BEFORE,)}
                self._send("accepted", request_id, again, _route(source, request))
            case SavefileResumed(ids, source, _, request):
                self._routes.update({request_id: _route(source, request) for request_id in ids})
                self._joined[ids[0]] = list(ids[1:])
            case RequestFinished(request_id):
                self._finished(request_id)
            case SavefileLeftSpool(ids):
                for request_id in ids:
                    self._finished(request_id)
            case CaptureEvent():
                self._on_capture_event(event)

    def _may_reject(self, route: _Route) -> bool:
        """Return whether one more rejection may be sent; report those that were not before."""
        places = self._where(route)
        if not places:
            return True
        held = self._tally.passes(route.source, time.monotonic())
        if held:
            self._lost(places[0], held, TOO_MANY)
        return held is not None

    def _accepted(self, event: RequestAccepted) -> None:
        plan = event.plan
        self._routes[plan.id] = _route(event.source, plan.request, plan.targets)
        targets = {"targets": plan.targets} if plan.targets else {}
        data = {
            ON_THE_WIRE["interfaces"]: [part.interface.name for part in plan.outcomes],
            "limits": to_wire(plan.limits),
            ON_THE_WIRE["snaplen"]: plan.snaplen,
            ON_THE_WIRE["capture_filter"]: plan.capture_filter,
        }
        self._report("accepted", plan.id, {**data, **targets, "warnings": event.warnings})

    def _on_capture_event(self, event: CaptureEvent) -> None:
        if not self._is_heard(event.id):
            return
        match event:
            case CaptureStarted(_, interface, linktype, snaplen, at):
                data = {"linktype": linktype, ON_THE_WIRE["snaplen"]: snaplen, "started_at": at}
                self._report("started", event.id, {"interface": interface, **data})
            case CaptureProgressed(_, interface, counts):
                self._report("progress", event.id, {"interface": interface, **to_wire(counts)})
            case CaptureStopped():
                self._report("captured", event.id, event.as_json())
            case CaptureFailed(_, interface, reason, hint):
                self._report(
                    "failed", event.id, {"interface": interface, "reason": reason, "hint": hint}
                )
            case SavefileDelivered(_, interface, destination, receipt):
                data = {"destination": destination, "receipt": to_wire(receipt)}
                self._report("delivered", event.id, {"interface": interface, **data})
            case SavefileSpooled(_, interface, name, pending, reason):
                data = {"file_name": name, "pending": pending, "reason": reason}
                self._report("spooled", event.id, {"interface": interface, **data})
            case SavefileLost(_, interface, destination, reason, name, packets):
                data = {
                    "destination": destination,
                    "reason": reason,
                    "file_name": name,
                    "packets": packets,
                }
                self._report("failed", event.id, {"interface": interface, **data})

    def _finished(self, request_id: str) -> None:
        route, record = self._routes.get(request_id), self._record_of(request_id)
        if route is None or record is None or record["state"] == RequestState.RUNNING:
            return  # unknown, or another of its captures has not ended
        final = not any(capture["pending"] for capture in record["captures"])
        if final or request_id not in self._waiting:
            self._send("finished", request_id, {**record, "final": final}, route)
        if final:
            self._routes.pop(request_id)
            self._joined.pop(request_id, None)
            self._waiting.discard(request_id)
        else:
            self._waiting.add(request_id)

    def _is_heard(self, request_id: str) -> bool:
        """Return whether anybody receives results of a request, or of one that joined it."""
        routes = map(self._routes.get, (request_id, *self._joined.get(request_id, ())))
        return bool(self._subscribers or self._callbacks) or any(
            route and self._where(route) for route in routes
        )

    def _report(self, kind: str, request_id: str, data: dict[str, Any]) -> None:
        """Send a result to the requester, and to those whose requests joined."""
        for name in (request_id, *self._joined.get(request_id, ())):
            if route := self._routes.get(name):
                self._send(kind, name, data, route)

    def _send(self, kind: str, request_id: str, data: dict[str, Any], route: _Route) -> None:
        wanted = kind in (self.settings.events if route.kinds is None else route.kinds)
        readers = [one for one in self._subscribers if one.wants(request_id)]
        places = self._where(route) if wanted else []
        if not (readers or places or self._callbacks):
            return
        if route.cause:
            data = {**data, "cause": route.cause}
        if target := route.targets.get(str(data.get("interface"))):
            data = {**data, "target": target}
        boxes = [box for one, box in self._callbacks.values() if one.concerns(kind, data)]
        boxes += [self._boxes[place] for place in places]
        if not readers and not boxes:
            return
        body = self.seal(encode(kind, request_id, data, self.node, time.time()))
        for reader in readers:
            reader.put(kind, body)
        for box in boxes:
            box.put(body, progress=kind == "progress")

    def _where(self, route: _Route) -> list[_Place]:
        named = [place for place in self._boxes if place[1] == route.to]
        if named:  # if several buses have such a place, prefer that of the request
            return sorted(named, key=lambda place: place[0] != route.source)[:1]
        own = [(route.source, name) for name in self._places.get(route.source, ())[:1]]
        return [place for place in (*own, WEBHOOK) if place in self._boxes]

    def _answer(self, source: str, answer: Answer) -> None:
        if answer.kind in DIRECT:
            data = {
                ON_THE_WIRE["interfaces"]: answer.interfaces,
                "warnings": answer.warnings,
                **answer.details,
            }
            for place in self._where(_Route(source, answer.reply_to, None))[:1]:
                body = encode(answer.kind, answer.id, data, self.node, time.time())
                self._boxes[place].put(self.seal(body))

    def _open(self, place: _Place, send: Any) -> None:
        if place in self._boxes:
            self._boxes[place].send = send
        else:
            self._boxes[place] = self._box(place, send)

    def _box(self, place: _Place, send: Any) -> Outbox:
        lost, delayed = partial(self._lost, place), partial(self._delayed, place)
        return Outbox(send, lost, self.settings.maxage, delayed)

    def _lost(self, place: _Place, number: int, reason: str) -> None:
        self._publish(ResultsLost(name_of(place), number, reason))

    def _delayed(self, place: _Place, reason: str, attempt: int) -> None:
        self._publish(ResultsDelayed(name_of(place), reason, attempt))


def name_of(place: tuple[str, str]) -> str:
    """Return a place for people: the bus and the name, or "webhook"."""
    return " ".join(filter(None, place))


def _route(
    source: str, request: CaptureRequest | None, targets: Mapping[str, Any] | None = None
) -> _Route:
    if request is None:
        return _Route(source, None, None)
    cause = request.cause.as_json() if request.cause else None
    return _Route(source, request.reply_to, request.reply_events, cause, targets or {})
