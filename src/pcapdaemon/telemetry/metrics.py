"""Counters for Prometheus: requests, captures, deliveries, the spool, results, sources.

A listener of events.
"""

from collections.abc import Callable, Iterator, Sequence
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
    ResultsLost,
    SavefileDelivered,
    SavefileLost,
    SavefileSpooled,
    SourceConnected,
    SourceDisconnected,
    SourceSwitchedOff,
    SourceSwitchedOn,
)
from pcapdaemon.core.interface import RecorderStatus

QUICK = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
SLOW = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600)
"""Upper bounds of histograms, seconds."""


@dataclass(frozen=True, slots=True)
class Levels:
    """What is not counted but looked up whenever somebody asks.

    Sizes are bytes; `spool_oldest` is seconds.
    """

    skipped: Callable[[], float] = lambda: 0.0
    memory_used: Callable[[], float] = lambda: 0.0
    memory_budget: Callable[[], float] = lambda: 0.0
    spool_files: Callable[[], float] = lambda: 0.0
    spool_bytes: Callable[[], float] = lambda: 0.0
    spool_oldest: Callable[[], float] = lambda: 0.0
    recorders: Callable[[], Sequence[RecorderStatus]] = tuple


class Metrics:
    """Counts events.

    Its labels are names from the configuration and kinds of outcomes, never anything that a message
    brings.
    """

    def __init__(self, levels: Levels = Levels()) -> None:
        # a line for each counter that says when it was made
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self._registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self._states: dict[str, bool] = {}
        self._received: dict[str, float] = {}
        self._now_running: set[tuple[str, str]] = set()
        self._requests = counter(
            "pcapdaemon_requests", "Requests, by what became of them at once", ["source", "outcome"]
        )
        gauge("pcapdaemon_messages_skipped", "Messages for other nodes").set_function(
            levels.skipped
        )
        self._connected = gauge(
            "pcapdaemon_source_connected", "1: the source is connected; 0: it is not", ["source"]
        )
        self._since = gauge(
            "pcapdaemon_source_since_timestamp_seconds", "Since when it is so", ["source"]
        )
        self._lost = counter(
            "pcapdaemon_source_connections_lost",
            "How often the source lost its connection",
            ["source"],
        )
        running = gauge("pcapdaemon_captures_running", "Captures that run")
        running.set_function(lambda: len(self._now_running))
        self._ended = counter(
            "pcapdaemon_captures",
            "Captures that are over, by stop reason; failed: never began",
            ["reason"],
        )
        self._incomplete = counter(
            "pcapdaemon_captures_incomplete", "Captures that lack packets they should have"
        )
        self._packets = counter("pcapdaemon_captured_packets", "Packets in savefiles")
        self._bytes = counter("pcapdaemon_captured_bytes", "Bytes of savefiles")
        self._dropped = counter(
            "pcapdaemon_dropped_packets", "Packets lost, by whom: kernel or interface", ["by"]
        )
        memory = gauge(
            "pcapdaemon_memory_used_bytes", "Memory for packets and kernel buffers in use"
        )
        memory.set_function(levels.memory_used)
        gauge("pcapdaemon_memory_budget_bytes", "The most of it: [general] memory").set_function(
            levels.memory_budget
        )
        self._deliveries = counter(
            "pcapdaemon_deliveries",
            "delivered, failed (a try; made again), spooled, lost",
            ["destination", "outcome"],
        )
        self._seconds = histogram(
            "pcapdaemon_delivery_seconds",
            "From the first try until it was there",
            ["destination"],
            buckets=SLOW,
        )
        self._arming = histogram(
            "pcapdaemon_request_to_armed_seconds",
            "From a message's arrival until its filter was set",
            buckets=QUICK,
        )
        self._late = histogram(
            "pcapdaemon_last_packet_to_delivered_seconds",
            "What a requester waits for",
            ["destination"],
            buckets=SLOW,
        )
        gauge("pcapdaemon_spool_files", "Savefiles in the spool").set_function(levels.spool_files)
        gauge("pcapdaemon_spool_bytes", "Bytes of them").set_function(levels.spool_bytes)
        gauge(
            "pcapdaemon_spool_oldest_seconds", "For how long the oldest of them waits"
        ).set_function(levels.spool_oldest)
        registry.register(_RecorderLevels(levels.recorders))
        self._results_lost = counter(
            "pcapdaemon_results_lost", "Results that were dropped", ["place"]
        )

    def on_event(self, event: Event) -> None:
        """Count one event."""
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
            case ResultsLost(place, number):
                self._results_lost.labels(place).inc(number)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
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
    """Gauges of recorders, which come and go."""

    GAUGES: ClassVar = {
        "recording": ("recording", "1: the recorder records; 0: its interface can't be had"),
        "covered": ("covered_seconds", "How far back it reaches, gaps not counted"),
        "bytes": ("bytes", "What it keeps"),
        "memory": ("memory_bytes", "The most of it, with the kernel's buffer"),
        "packets": ("packets", "Packets recorded since it began; rate() of it is its load"),
        "dropped": ("dropped_packets", "Packets lost since it began"),
        "captures": ("captures", "Captures that read from it"),
        "cpu": ("cpu_seconds", "CPU time of its thread since it began"),
    }
    """Fields of RecorderStatus -> the end of the metric's name, and what it is."""

    def __init__(self, recorders: Callable[[], Sequence[RecorderStatus]]) -> None:
        self._recorders = recorders

    def collect(self) -> Iterator[Metric]:
        """Called by the registry for each scrape."""
        found = self._recorders()
        for name, (end, words) in self.GAUGES.items():
            metric = GaugeMetricFamily(f"pcapdaemon_recorder_{end}", words, labels=["interface"])
            for status in found:
                metric.add_metric([status.interface], float(getattr(status, name)))
            yield metric
