"""Keeps the last requests, their outcomes and the state of the sources, for the API.

It listens to events.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pcapdaemon.core.events import (
    CaptureEvent,
    CaptureFailed,
    CaptureStarted,
    CaptureStopped,
    DeliveryDelayed,
    Event,
    RequestAccepted,
    RequestFinished,
    RequestJoined,
    RequestRejected,
    SavefileDelivered,
    SavefileLost,
    SavefileSpooled,
)
from pcapdaemon.core.node_events import (
    DestinationNotReady,
    SavefileResumed,
    SourceConnected,
    SourceDisconnected,
    SourceSwitchedOff,
    SourceSwitchedOn,
)
from pcapdaemon.core.outcome import Counts
from pcapdaemon.core.record import CaptureRecord, CaptureState, RequestRecord, RequestState, asked
from pcapdaemon.core.wire import to_wire
from pcapdaemon.results.records import Records

KEPT = 1000
"""Most requests that are kept. Requests in progress are kept even if there are more."""

KEPT_REJECTED = 200
"""Most rejected requests among them."""

NOT_RESUMED = "it was not in the spool any more after a restart"

KEPT_CAPTURES = 3000
"""Most captures of finished requests, because a request may name many missing interfaces."""


@dataclass
class SourceRecord:
    """Whether a source is connected, since when (in seconds since the epoch), or why not."""

    connected: bool = False
    since: float = field(default_factory=time.time)
    reason: str = "not connected yet"


class History:
    """Keeps the records of all requests that run or wait in the spool, and of the last others.

    `node` is the name of this node in each record. `records` keeps them over restarts.
    """

    def __init__(self, node: str = "", records: Records | None = None) -> None:
        self._node, self._records = node, records or Records(None)
        self.requests: OrderedDict[str, RequestRecord] = OrderedDict()
        self.sources: dict[str, SourceRecord] = {}
        self.not_ready: dict[str, str] = {}
        """Why destinations could not receive a savefile, when one was last tried."""
        self._finished: dict[str, asyncio.Future[None]] = {}

    def restore(self, records: Iterable[RequestRecord]) -> None:
        """Add the records of an earlier process, before anything happens in this one."""
        for record in records:
            for capture in record.captures:
                for destination in tuple(capture.pending):
                    capture.missed(destination, NOT_RESUMED)
            self.requests[record.id] = record
        self._trim()

    def configure(self, node: str) -> None:
        """Use this name of the node for new records. The destinations are checked again."""
        self._node = node
        self.not_ready.clear()

    def on_event(self, event: Event) -> None:
        """Record an event."""
        match event:
            case SourceSwitchedOn(source):
                self.sources[source] = SourceRecord()
            case SourceSwitchedOff(source):
                self.sources.pop(source, None)
            case SourceConnected(source):
                self.sources[source] = SourceRecord(connected=True, reason="")
            case SourceDisconnected(source, reason):
                self._disconnected(source, reason)
            case DestinationNotReady(destination, reason):
                self.not_ready[destination] = reason
            case CaptureEvent():
                self._note_destination(event)
                if record := self.requests.get(event.id):
                    _note(record.capture(event.interface), event)
                    self._note_change(record)
            case _:
                self._on_request_event(event)

    async def finished(self, request_id: str) -> None:
        """Wait until a request is finished."""
        record = self.requests.get(request_id)
        if record is not None and record.state is RequestState.RUNNING:
            waiting = self._finished.setdefault(
                request_id, asyncio.get_running_loop().create_future()
            )
            await asyncio.shield(waiting)

    def owner_of(self, request_id: str) -> str | None:
        """Return whose request an id is; of one that was rejected, nobody's."""
        record = self.requests.get(request_id)
        known = record is not None and record.state is not RequestState.REJECTED
        return record.requester if record and known else None

    def places_of(self, request_id: str, file_name: str) -> dict[str, str]:
        """Return where each destination has a savefile."""
        record = self.requests.get(request_id)
        return {
            destination: receipt.where
            for capture in (record.captures if record else ())
            if capture.file_name == file_name
            for destination, receipt in capture.delivered.items()
        }

    def as_json(
        self, request_id: str, live: Mapping[str, Counts] | None = None
    ) -> dict[str, Any] | None:
        """Return the record of a request, or None; `live` has the counts of running captures."""
        record = self.requests.get(request_id)
        return record.as_json(live) if record else None

    def _on_request_event(self, event: Event) -> None:
        match event:
            case RequestAccepted(source, plan, received_at, warnings, requester):
                record = RequestRecord(plan.id, source, received_at, warnings=list(warnings))
                record.requester = requester
                record.captures = [
                    CaptureRecord(part.interface.name, part.target) for part in plan.outcomes
                ]
                record.limits, record.asked = to_wire(plan.limits), asked(plan.request)
                self._remember(record)
            case RequestJoined(request_id, source, joined, received_at, request, warnings, who):
                record = RequestRecord(
                    request_id, source, received_at, warnings=list(warnings), joined=joined
                )
                record.requester = who
                record.limits, record.asked = self.requests[joined].limits, asked(request)
                # the same objects: changes apply to both records
                record.captures = self.requests[joined].captures
                self._remember(record)
            case SavefileResumed():
                self._resume(event)
            case RequestRejected(request_id, source, problems, _, warnings, _, _, requester):
                known = self.requests.get(request_id)
                # otherwise the record belongs to another request with the same id
                if known is None or known.state is RequestState.REJECTED:
                    state, words = RequestState.REJECTED, [str(problem) for problem in problems]
                    record = RequestRecord(
                        request_id, source, time.time(), "", state, {}, words, list(warnings)
                    )
                    record.requester = requester
                    self._remember(record)
            case RequestFinished(request_id):
                if finished := self.requests.get(request_id):
                    finished.state = RequestState.FINISHED
                    self._note_change(finished)
                if waiting := self._finished.pop(request_id, None):
                    waiting.set_result(None)

    def _note_destination(self, event: CaptureEvent) -> None:
        match event:
            case DeliveryDelayed(_, _, destination, reason):
                self.not_ready[destination] = reason
            case SavefileDelivered(_, _, destination):
                self.not_ready.pop(destination, None)

    def _note_change(self, record: RequestRecord) -> None:
        if record.state is RequestState.RUNNING:
            return
        self._records.changed(record)
        for other in self.requests.values():
            if other.joined == record.id:  # it has the same captures
                self._records.changed(other)

    def _remember(self, record: RequestRecord) -> None:
        record.node = self._node
        self._keep(record)
        self._note_change(record)

    def _keep(self, record: RequestRecord) -> None:
        self.requests[record.id] = record
        self.requests.move_to_end(record.id)
        self._trim()

    def _trim(self) -> None:
        self._forget_rejected()
        over = [r for r in self.requests.values() if r.is_over]
        captures = sum(len(r.captures) for r in over)
        for old in over:
            if len(self.requests) <= KEPT and captures <= KEPT_CAPTURES:
                return
            captures -= len(old.captures)
            self._forget(old.id)

    def _forget_rejected(self) -> None:
        # Apart from the others, so that junk does not drive out the records of real requests.
        rejected = [r for r in self.requests.values() if r.state is RequestState.REJECTED]
        for old in rejected[: max(0, len(rejected) - KEPT_REJECTED)]:
            self._forget(old.id)

    def _forget(self, request_id: str) -> None:
        del self.requests[request_id]
        self._records.forgotten(request_id)

    def _resume(self, event: SavefileResumed) -> None:
        """Restore the record of a request of an earlier process from what the spool knows."""
        first, *others = event.ids
        origin = event.source, event.received_at, "", RequestState.FINISHED
        record = self._accepted(first) or RequestRecord(first, *origin)
        record.requester = event.requester or record.requester
        record.asked = asked(event.request)
        capture = record.capture(event.stopped.interface)
        _note(capture, event.stopped)
        for destination in event.stopped.pending:
            capture.lost.pop(destination, None)
        capture.state = CaptureState.SPOOLED
        capture.delivered = dict(event.delivered)
        self._remember(record)
        for name in others:
            other = self._accepted(name) or RequestRecord(name, *origin)
            other.requester = record.requester
            other.captures, other.joined = record.captures, first
            self._remember(other)

    def _accepted(self, request_id: str) -> RequestRecord | None:
        """Return the record of a request, unless another one with this id was rejected."""
        record = self.requests.get(request_id)
        return record if record and record.state is not RequestState.REJECTED else None

    def _disconnected(self, source: str, reason: str) -> None:
        record = self.sources.setdefault(source, SourceRecord())
        if record.connected:
            self.sources[source] = SourceRecord(reason=reason)
        else:
            record.reason = reason


def _note(capture: CaptureRecord, event: CaptureEvent) -> None:
    match event:
        case CaptureStarted():
            capture.started(event.linktype, event.snaplen, event.at)
        case CaptureFailed():
            capture.failed(event.reason, event.hint)
        case CaptureStopped():
            capture.stopped(event.outcome, event.file_name, event.sha256, event.pending)
        case SavefileDelivered():
            capture.reached(event.destination, event.receipt)
        case DeliveryDelayed():
            capture.delayed(event.destination, event.reason)
        case SavefileSpooled():
            capture.spooled(event.pending, event.reason)
        case SavefileLost():
            capture.missed(event.destination, event.reason)
