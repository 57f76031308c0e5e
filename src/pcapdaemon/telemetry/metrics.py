"""Counters for Prometheus: requests, captures, deliveries, the spool, results, sources. A listener of events."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

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
    RequestReturned,
    RequestSeenBefore,
    ResultsLost,
    SavefileDelivered,
    SavefileLost,
    SavefileSpooled,
    SourceConnected,
    SourceDisconnected,
)
from pcapdaemon.core.interface import RecorderStatus

QUICK = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
SLOW = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600)
"""Upper bounds of histograms, seconds."""


@dataclass(frozen=True, slots=True)
class Levels:
    """What is not counted but looked up when somebody asks."""

    skipped: int = 0
    memory_used: int = 0
    memory_budget: int = 0
    spool_files: int = 0
    spool_bytes: int = 0
    spool_oldest: float = 0.0
    recorders: Sequence[RecorderStatus] = ()


class Metrics:
    """Counts events; its labels are names from the configuration and kinds of outcomes, never anything that a message brings."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a line for each counter that says when it was made
        registry = self._registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self._states: dict[str, bool] = {}
        self._received: dict[str, float] = {}
        self._now_running: set[tuple[str, str]] = set()
        self._requests = counter("pcapdaemon_requests", "Requests, by what became of them at once", ["source", "outcome"])
        self._skipped = gauge("pcapdaemon_messages_skipped", "Messages for other nodes")
        self._connected = gauge("pcapdaemon_source_connected", "1: the source hears requests; 0: it is deaf", ["source"])
        self._since = gauge("pcapdaemon_source_since_timestamp_seconds", "Since when it is so", ["source"])
        self._lost = counter("pcapdaemon_source_connections_lost", "How often the source became deaf", ["source"])
        self._running = gauge("pcapdaemon_captures_running", "Captures that run")
        self._ended = counter("pcapdaemon_captures", "Captures that are over, by stop reason; failed: never began", ["reason"])
        self._incomplete = counter("pcapdaemon_captures_incomplete", "Captures that lack packets they should have")
        self._packets = counter("pcapdaemon_captured_packets", "Packets in savefiles")
        self._bytes = counter("pcapdaemon_captured_bytes", "Bytes of savefiles")
        self._dropped = counter("pcapdaemon_dropped_packets", "Packets lost, by whom: kernel or interface", ["by"])
        self._memory = gauge("pcapdaemon_memory_used_bytes", "Memory for packets and kernel buffers in use")
        self._budget = gauge("pcapdaemon_memory_budget_bytes", "The most of it: [general] memory")
        self._deliveries = counter(
            "pcapdaemon_deliveries", "delivered, failed (a try; made again), spooled, lost", ["destination", "outcome"]
        )
        self._seconds = histogram(
            "pcapdaemon_delivery_seconds", "From the first try until it was there", ["destination"], buckets=SLOW
        )
        self._arming = histogram(
            "pcapdaemon_request_to_armed_seconds", "From a message's arrival until its filter was set", buckets=QUICK
        )
        self._late = histogram(
            "pcapdaemon_last_packet_to_delivered_seconds", "What a requester waits for", ["destination"], buckets=SLOW
        )
        self._spool_files = gauge("pcapdaemon_spool_files", "Savefiles in the spool")
        self._spool_bytes = gauge("pcapdaemon_spool_bytes", "Bytes of them")
        self._spool_oldest = gauge("pcapdaemon_spool_oldest_seconds", "For how long the oldest of them waits")
        recorder = partial(gauge, labelnames=["interface"])
        self._recorders = {
            "recording": recorder("pcapdaemon_recorder_recording", "1: the recorder records; 0: its interface can't be had"),
            "covered": recorder("pcapdaemon_recorder_covered_seconds", "How far back it reaches, gaps not counted"),
            "bytes": recorder("pcapdaemon_recorder_bytes", "What it keeps"),
            "memory": recorder("pcapdaemon_recorder_memory_bytes", "The most of it, with the kernel's buffer"),
            "packets": recorder("pcapdaemon_recorder_packets", "Packets recorded since it began; rate() of it is its load"),
            "dropped": recorder("pcapdaemon_recorder_dropped_packets", "Packets lost since it began"),
            "captures": recorder("pcapdaemon_recorder_captures", "Captures that read from it"),
            "cpu": recorder("pcapdaemon_recorder_cpu_seconds", "CPU time of its thread since it began"),
        }
        self._results_lost = counter("pcapdaemon_results_lost", "Results that were given up", ["place"])

    def on_event(self, event: Event) -> None:
        """Count one event."""
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
            case SourceConnected(source):
                self._source(source, connected=True)
            case SourceDisconnected(source, _):
                self._source(source, connected=False)
            case ResultsLost(place, number):
                self._results_lost.labels(place).inc(number)
            case _:
                self._on_capture_event(event)

    def forget(self, source: str) -> None:
        """A source was switched off."""
        del self._states[source]
        for metric in (self._connected, self._since):
            metric.remove(source)

    def begin(self, source: str) -> None:
        """A source was switched on, and does not hear yet."""
        self._states[source] = False
        self._connected.labels(source).set(0)
        self._since.labels(source).set_to_current_time()

    def text(self, levels: Levels) -> bytes:
        """All of it in Prometheus' text format."""
        for metric, value in (
            (self._running, len(self._now_running)),
            (self._skipped, levels.skipped),
            (self._memory, levels.memory_used),
            (self._budget, levels.memory_budget),
            (self._spool_files, levels.spool_files),
            (self._spool_bytes, levels.spool_bytes),
            (self._spool_oldest, levels.spool_oldest),
        ):
            metric.set(value)
        for name, metric in self._recorders.items():
            metric.clear()
            for status in levels.recorders:
                metric.labels(status.interface).set(getattr(status, name))
        return generate_latest(self._registry)

    def _on_capture_event(self, event: Event) -> None:
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
        counts = event.counts
        self._now_running.discard((event.id, event.interface))
        self._ended.labels(event.reason).inc()
        self._incomplete.inc(bool(event.missing))
        self._packets.inc(counts.packets)
        self._bytes.inc(counts.size)
        self._dropped.labels("kernel").inc(counts.dropped)
        self._dropped.labels("interface").inc(counts.dropped_by_interface)

    def _source(self, source: str, connected: bool) -> None:
        if self._states.get(source) is not connected:
            self._states[source] = connected
            self._connected.labels(source).set(connected)
            self._since.labels(source).set_to_current_time()
            if not connected:
                self._lost.labels(source).inc()
