"""Metrics for Prometheus: requests, captures, deliveries, the spool, results, sources.

It counts events.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.events import (
    CaptureEvent,
    CaptureFailed,
    CaptureStarted,
    CaptureStopped,
    DeliveryDelayed,
    Event,
    RequestAccepted,
    RequestEvent,
    RequestFinished,
    RequestJoined,
    RequestRejected,
    RequestReturned,
    RequestSeenBefore,
    RequestTriedOut,
    SavefileDelivered,
    SavefileLost,
    SavefileNotSpooled,
    SavefileSpooled,
)
from pcapdaemon.core.interface import RecorderStatus
from pcapdaemon.core.limits import StopReason
from pcapdaemon.core.node_events import (
    AlertJudged,
    AlertOutcome,
    MessageUntrusted,
    ResultsDelayed,
    ResultsLost,
    SourceConnected,
    SourceDisconnected,
    SourceSwitchedOff,
    SourceSwitchedOn,
    TokenRefused,
)

QUICK = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""Upper bounds of histograms for captures, in seconds."""

SLOW = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600)
"""Upper bounds of histograms for deliveries, in seconds."""


OUTCOMES = (
    *("accepted", "joined", "seen-before", "returned", "dryrun"),
    *(AnswerKind.INVALID, AnswerKind.CONFLICT, AnswerKind.EXPIRED, AnswerKind.BUSY),
    *(AnswerKind.UNTRUSTED, AnswerKind.FORBIDDEN, AnswerKind.UNAVAILABLE),
)
"""The immediate outcomes of requests."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Gauges that are read at each scrape.

    `memory_*` and `spool_bytes` are in bytes, and `spool_oldest` is in seconds.
    """

    skipped: Callable[[], float] = lambda: 0.0
    memory_used: Callable[[], float] = lambda: 0.0
    memory_budget: Callable[[], float] = lambda: 0.0
    spool_files: Callable[[], float] = lambda: 0.0
    spool_bytes: Callable[[], float] = lambda: 0.0
    spool_oldest: Callable[[], float] = lambda: 0.0
    recorders: Callable[[], Sequence[RecorderStatus]] = tuple
    ready: Callable[[], float] = lambda: 0.0


class Metrics:
    """Counts events.

    Labels are names from the configuration and kinds of outcomes, never data from a message,
    because a message could then create any number of time series.
    """

    def __init__(self, levels: Levels = Levels()) -> None:
        # omit the lines that say when counters were created; the library has no type for it
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self._registry = CollectorRegistry()
        self._read_at_scrapes(levels)
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self._states: dict[str, bool] = {}
        self._received: dict[str, float] = {}
        self._now_running: set[tuple[str, str]] = set()
        self._requests = counter(
            "pcapdaemon_requests", "Requests, by immediate outcome", ["source", "outcome"]
        )
        self._connected = gauge(
            "pcapdaemon_source_connected",
            "Whether the source is connected (1) or not (0)",
            ["source"],
        )
        self._since = gauge(
            "pcapdaemon_source_since_timestamp_seconds",
            "When the source was connected or disconnected, in seconds since the epoch",
            ["source"],
        )
        self._lost = counter(
            "pcapdaemon_source_connections_lost",
            "How often the source lost its connection",
            ["source"],
        )
        self._ended = counter(
            "pcapdaemon_captures",
            "Captures that ended, by stop reason, or `failed` if they never began",
            ["reason"],
        )
        self._incomplete = counter(
            "pcapdaemon_captures_incomplete", "Captures that ended and may lack packets"
        )
        self._packets = counter("pcapdaemon_captured_packets", "Packets in savefiles")
        self._bytes = counter("pcapdaemon_captured_bytes", "Bytes of savefiles")
        self._dropped = counter(
            "pcapdaemon_dropped_packets", "Packets dropped by the kernel or the interface", ["by"]
        )
        self._deliveries = counter(
            "pcapdaemon_deliveries",
            "Deliveries, by outcome: delivered, failed (and retried), spooled, lost",
            ["destination", "outcome"],
        )
        self._seconds = histogram(
            "pcapdaemon_delivery_seconds",
            "Time from the first attempt until the savefile was delivered",
            ["destination"],
            buckets=SLOW,
        )
        self._arming = histogram(
            "pcapdaemon_request_to_armed_seconds",
            "Time from the arrival of a request until its capture filter was set",
            buckets=QUICK,
        )
        self._late = histogram(
            "pcapdaemon_last_packet_to_delivered_seconds",
            "Time from the last packet until the savefile was delivered",
            ["destination"],
            buckets=SLOW,
        )
        self._not_spooled = counter(
            "pcapdaemon_savefiles_not_spooled", "Savefiles that the spool could not keep"
        )
        self._alerts = counter(
            "pcapdaemon_alerts", "Alerts, by what became of them", ["trigger", "outcome"]
        )
        self._alert_age = histogram(
            "pcapdaemon_alert_age_seconds",
            "Time from the alert's own time until its request was made",
            ["trigger"],
            buckets=SLOW,
        )
        self._unauthorized = counter(
            "pcapdaemon_http_unauthorized", "Requests to the API without a valid token"
        )
        self._untrusted = counter(
            "pcapdaemon_messages_untrusted",
            "Messages without a valid signature, by what is wrong",
            ["source", "reason"],
        )
        self._results_delayed = counter(
            "pcapdaemon_results_delayed", "Failed attempts to send a result, retried", ["place"]
        )
        self._results_lost = counter(
            "pcapdaemon_results_lost", "Results that were dropped", ["place"]
        )

    def _read_at_scrapes(self, levels: Levels) -> None:
        for name, says, read in (
            ("pcapdaemon_messages_skipped", "Messages for other nodes", levels.skipped),
            ("pcapdaemon_captures_running", "Running captures", lambda: len(self._now_running)),
            (
                "pcapdaemon_memory_used_bytes",
                "Memory used for packets and kernel buffers",
                levels.memory_used,
            ),
            (
                "pcapdaemon_memory_budget_bytes",
                "Limit of that memory, [general] memory",
                levels.memory_budget,
            ),
            (
                "pcapdaemon_interfaces_ready",
                "Interfaces that are open before a request comes",
                levels.ready,
            ),
            ("pcapdaemon_spool_files", "Savefiles in the spool", levels.spool_files),
            ("pcapdaemon_spool_bytes", "Bytes of savefiles in the spool", levels.spool_bytes),
            (
                "pcapdaemon_spool_oldest_seconds",
                "How long the oldest savefile in the spool has waited",
                levels.spool_oldest,
            ),
        ):
            Gauge(name, says, registry=self._registry).set_function(read)
        self._registry.register(_RecorderLevels(levels.recorders))

    def on_event(self, event: Event) -> None:
        """Count an event; those that no metric is about are ignored."""
        match event:
            case CaptureEvent():
                self._on_capture_event(event)
            case RequestEvent():
                self._on_request_event(event)
            case SourceSwitchedOn(source):
                self._source(source, connected=False, lost=False)
            case SourceSwitchedOff(source):
                self._forget(source)
            case SourceConnected(source):
                self._source(source, connected=True)
            case SourceDisconnected(source, _):
                self._source(source, connected=False)
            case TokenRefused():
                self._unauthorized.inc()
            case MessageUntrusted(source, reason):
                self._untrusted.labels(source, reason).inc()
            case AlertJudged(trigger, outcome):
                self._alerts.labels(trigger, outcome).inc()
                if event.age is not None and outcome is AlertOutcome.SENT:
                    self._alert_age.labels(trigger).observe(max(0.0, event.age))
            case ResultsDelayed(place, _, attempt):
                self._results_delayed.labels(place).inc(attempt > 0)
            case ResultsLost(place, number):
                self._results_lost.labels(place).inc(number)

    def expect(
        self,
        sources: Iterable[str],
        destinations: Iterable[str],
        places: Iterable[str],
        triggers: Iterable[str] = (),
    ) -> None:
        """Begin all series of these at 0. An alert on a series that did not exist never fires."""
        for source in sources:
            for outcome in OUTCOMES:
                self._requests.labels(source, outcome)
            self._lost.labels(source)
        for destination in destinations:
            self._seconds.labels(destination)
            self._late.labels(destination)
            for outcome in ("delivered", "failed", "spooled", "lost"):
                self._deliveries.labels(destination, outcome)
        for reason in ("failed", *StopReason):
            self._ended.labels(reason)
        for by in ("kernel", "interface"):
            self._dropped.labels(by)
        for trigger in triggers:
            self._alert_age.labels(trigger)
            for alert in AlertOutcome:
                self._alerts.labels(trigger, alert)
        for place in places:
            self._results_lost.labels(place)
            self._results_delayed.labels(place)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)

    def _on_request_event(self, event: RequestEvent) -> None:
        match event:
            case RequestAccepted(source, plan, received_at):
                self._requests.labels(source, "accepted").inc()
                self._received[plan.id] = received_at
            case RequestFinished(request_id):
                self._received.pop(request_id, None)
            case RequestRejected(_, source, _, kind):
                self._requests.labels(source, kind).inc()
            case RequestJoined(_, source):
                self._requests.labels(source, "joined").inc()
            case RequestSeenBefore(_, source):
                self._requests.labels(source, "seen-before").inc()
            case RequestReturned(_, source):
                self._requests.labels(source, "returned").inc()
            case RequestTriedOut(_, source):
                self._requests.labels(source, "dryrun").inc()

    def _on_capture_event(self, event: CaptureEvent) -> None:
        match event:
            case CaptureStarted():
                self._now_running.add((event.id, event.interface))
                if (received_at := self._received.get(event.id)) is not None:
                    self._arming.observe(max(0.0, event.at - received_at))
            case CaptureStopped():
                self._stopped(event)
            case CaptureFailed():
                self._now_running.discard((event.id, event.interface))
                self._ended.labels("failed").inc()
            case DeliveryDelayed():
                self._deliveries.labels(event.destination, "failed").inc()
            case SavefileDelivered():
                self._deliveries.labels(event.destination, "delivered").inc()
                self._seconds.labels(event.destination).observe(event.seconds)
                self._late.labels(event.destination).observe(event.since_last_packet)
            case SavefileSpooled():
                for destination in event.pending:
                    self._deliveries.labels(destination, "spooled").inc()
            case SavefileNotSpooled():
                self._not_spooled.inc()
            case SavefileLost():
                self._deliveries.labels(event.destination, "lost").inc()

    def _stopped(self, event: CaptureStopped) -> None:
        outcome = event.outcome
        self._now_running.discard((event.id, event.interface))
        self._ended.labels(outcome.stop_reason).inc()
        self._incomplete.inc(not outcome.complete)
        self._packets.inc(outcome.packets)
        self._bytes.inc(outcome.size)
        self._dropped.labels("kernel").inc(outcome.dropped)
        self._dropped.labels("interface").inc(outcome.dropped_by_interface)

    def _source(self, source: str, connected: bool, lost: bool = True) -> None:
        if self._states.get(source) is not connected:
            self._states[source] = connected
            self._connected.labels(source).set(connected)
            self._since.labels(source).set_to_current_time()
            if lost and not connected:
                self._lost.labels(source).inc()

    def _forget(self, source: str) -> None:
        if self._states.pop(source, None) is not None:
            for metric in (self._connected, self._since):
                metric.remove(source)


class _RecorderLevels(Collector):
    """Gauges of recorders, which a reload may add or remove."""

    GAUGES: ClassVar = {
        "recording": ("recording", "Whether the recorder records (1) or not (0)"),
        "covered": ("covered_seconds", "How far back the recorder reaches, not counting gaps"),
        "bytes": ("bytes", "Bytes that the recorder keeps"),
        "memory": ("memory_bytes", "Most memory of the recorder, including the kernel's buffer"),
        "packets": ("packets", "Packets recorded since the recorder began; rate() is its load"),
        "dropped": ("dropped_packets", "Packets lost since the recorder began"),
        "captures": ("captures", "Captures that read from the recorder"),
        "cpu": ("cpu_seconds", "CPU time of the recorder's thread since it began"),
    }
    """For each field of RecorderStatus: the end of the metric's name, and its help."""

    def __init__(self, recorders: Callable[[], Sequence[RecorderStatus]]) -> None:
        self._recorders = recorders

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; the registry calls it for each scrape."""
        found = self._recorders()
        for name, (end, words) in self.GAUGES.items():
            metric = GaugeMetricFamily(f"pcapdaemon_recorder_{end}", words, labels=["interface"])
            for status in found:
                metric.add_metric([status.interface], float(getattr(status, name)))
            yield metric
