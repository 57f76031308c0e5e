"""The last requests and what became of them, and which sources hear: what the API tells. A listener of events."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from typing import Any

from pcapdaemon.core.events import (
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
    SavefileResumed,
    SavefileSpooled,
    SourceConnected,
    SourceDisconnected,
)
from pcapdaemon.core.outcome import Content, Counts, Lookback, Receipt

KEPT = 1000
"""Requests that are over and still told of."""

KEPT_CAPTURES = 3000
"""Captures of those; a request may name many interfaces that are not there."""


@dataclass
class CaptureRecord:
    """One capture of a request, on one interface, as far as it has come.

    `state` is "starting", "running", "delivering", "spooled" (kept, and tried again), "delivered", "empty", "failed" or "lost"
    (captured, and not delivered everywhere). `pending` are the destinations that lack it still, `missing` why it is not
    complete. Times are seconds since the epoch.
    """

    interface: str
    state: str = "starting"
    linktype: str = ""
    snaplen: int = 0
    counts: Counts = field(default_factory=Counts)
    started_at: float | None = None
    stop_reason: str = ""
    seconds: float | None = None
    first_packet_at: float | None = None
    last_packet_at: float | None = None
    trigger: float | None = None
    lookback: Lookback | None = None
    file_name: str = ""
    sha256: str = ""
    content: Content | None = None
    complete: bool | None = None
    missing: list[str] = field(default_factory=list)
    delivered: dict[str, str] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    error: str = ""
    hint: str = ""


@dataclass
class RequestRecord:
    """A request and its captures; `state` is "running", "finished" or "rejected"."""

    id: str
    source: str
    received_at: float
    state: str = "running"
    limits: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    captures: list[CaptureRecord] = field(default_factory=list)
    joined: str = ""
    node: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be told of it: no capture runs, no savefile stands in the spool."""
        return self.state != "running" and not any(capture.pending for capture in self.captures)

    def capture(self, interface: str) -> CaptureRecord:
        """The record of the capture on an interface, made at its first mention."""
        for capture in self.captures:
            if capture.interface == interface:
                return capture
        self.captures.append(CaptureRecord(interface))
        return self.captures[-1]


@dataclass
class SourceRecord:
    """Whether a source hears, since when (seconds since the epoch), and why not."""

    connected: bool = False
    since: float = field(default_factory=time.time)
    reason: str = "not connected yet"


class History:
    """Remembers KEPT requests that are over, and all that run or have a savefile in the spool; `node` is told with each."""

    def __init__(self, node: str = "") -> None:
        self.node = node
        self.requests: OrderedDict[str, RequestRecord] = OrderedDict()
        self.sources: dict[str, SourceRecord] = {}
        self._finished: dict[str, asyncio.Future[None]] = {}

    def on_event(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case SourceConnected(source):
                self.sources[source] = SourceRecord(connected=True, reason="")
            case SourceDisconnected(source, reason):
                self._disconnected(source, reason)
            case RequestAccepted(source, plan, received_at, warnings):
                record = RequestRecord(plan.id, source, received_at, warnings=list(warnings))
                record.captures = [CaptureRecord(part.interface.name) for part in plan.outcomes]
                record.limits = asdict(plan.limits)
                self._remember(record)
            case RequestJoined(request_id, source, joined, received_at, _, warnings):
                record = RequestRecord(request_id, source, received_at, warnings=list(warnings), joined=joined)
                record.limits = self.requests[joined].limits
                record.captures = self.requests[joined].captures  # the same ones: what becomes of them is told of both
                self._remember(record)
            case SavefileResumed():
                self._resume(event)
            case RequestRejected(request_id, source, problems, _, warnings):
                known = self.requests.get(request_id)
                if known is None or known.is_over:  # else the record of that id is another request's
                    words = [str(problem) for problem in problems]
                    self._remember(RequestRecord(request_id, source, time.time(), "rejected", {}, words, list(warnings)))
            case RequestFinished(request_id):
                if finished := self.requests.get(request_id):
                    finished.state = "finished"
                if waiting := self._finished.pop(request_id, None):
                    waiting.set_result(None)
            case _:
                self._on_capture_event(event)

    async def finished(self, request_id: str) -> None:
        """Wait until a request is over."""
        record = self.requests.get(request_id)
        if record is not None and record.state == "running":
            waiting = self._finished.setdefault(request_id, asyncio.get_running_loop().create_future())
            await asyncio.shield(waiting)

    def as_json(self, request_id: str) -> dict[str, Any] | None:
        """All that is known of a request, as JSON takes it."""
        record = self.requests.get(request_id)
        return asdict(record) if record else None

    def view(self, record: RequestRecord, live: dict[str, Counts]) -> dict[str, Any]:
        """A record as JSON takes it, with the live counters of captures that run laid over it."""
        shown = asdict(record)
        for capture in shown["captures"]:
            if capture["state"] == "running" and capture["interface"] in live:
                capture["counts"] = asdict(live[capture["interface"]])
        return shown

    def _on_capture_event(self, event: Event) -> None:
        request_id, interface = getattr(event, "id", ""), getattr(event, "interface", "")
        if not interface or request_id not in self.requests:
            return
        capture = self.requests[request_id].capture(interface)
        match event:
            case CaptureStarted():
                capture.state, capture.linktype, capture.snaplen = "running", event.linktype, event.snaplen
                capture.started_at = event.at
            case CaptureFailed():
                capture.state, capture.error, capture.hint = "failed", event.reason, event.hint
            case CaptureStopped():
                _note_stop(capture, event)
            case SavefileDelivered():
                capture.receipts[event.destination] = event.receipt
                capture.delivered[event.destination] = event.receipt.where
                _settle(capture, event.destination)
            case DeliveryDelayed():
                capture.error = f"{event.destination}: {event.reason}; tried again"
            case SavefileSpooled():
                capture.state, capture.error, capture.pending = "spooled", event.reason, list(event.pending)
            case SavefileLost():
                capture.lost[event.destination] = event.reason
                _settle(capture, event.destination)

    def _remember(self, record: RequestRecord) -> None:
        record.node = self.node
        self.requests[record.id] = record
        self.requests.move_to_end(record.id)
        over = [r for r in self.requests.values() if r.is_over]
        captures = sum(len(r.captures) for r in over)
        for old in over:
            if len(self.requests) <= KEPT and captures <= KEPT_CAPTURES:
                return
            captures -= len(old.captures)
            del self.requests[old.id]

    def _resume(self, event: SavefileResumed) -> None:
        """Remember a request of an earlier process, as far as the spool knows it."""
        first, *others = event.ids
        record = self.requests.get(first) or RequestRecord(first, event.source, event.received_at, "finished")
        capture = record.capture(event.stopped.interface)
        _note_stop(capture, event.stopped)
        capture.state = "spooled"
        capture.receipts = dict(event.delivered)
        capture.delivered = {name: receipt.where for name, receipt in event.delivered}
        self._remember(record)
        for name in others:
            self._remember(
                RequestRecord(name, event.source, event.received_at, "finished", captures=record.captures, joined=first)
            )

    def _disconnected(self, source: str, reason: str) -> None:
        record = self.sources.setdefault(source, SourceRecord())
        if record.connected:
            self.sources[source] = SourceRecord(reason=reason)
        else:
            record.reason = reason


def _note_stop(capture: CaptureRecord, event: CaptureStopped) -> None:
    capture.state = "delivering" if event.counts.packets else "empty"
    capture.counts, capture.stop_reason, capture.error = event.counts, event.reason, event.error
    capture.seconds, capture.file_name = event.seconds, event.file_name if event.counts.packets else ""
    capture.trigger, capture.lookback = event.trigger or None, event.lookback
    capture.sha256, capture.pending, capture.content = event.sha256, list(event.pending), event.content
    capture.missing, capture.complete = list(event.missing), not event.missing
    if event.counts.packets:
        capture.first_packet_at, capture.last_packet_at = event.times


def _settle(capture: CaptureRecord, destination: str) -> None:
    if destination in capture.pending:
        capture.pending.remove(destination)
    if not capture.pending:
        capture.state = "lost" if capture.lost else "delivered"
        capture.error = "; ".join(f"{name}: {reason}" for name, reason in capture.lost.items())
