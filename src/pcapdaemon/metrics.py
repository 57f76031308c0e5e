"""Counters for Prometheus: what happened to requests, and whether the sources hear. A listener of events."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from pcapdaemon.events import (
    Event,
    RequestAccepted,
    RequestGivenBack,
    RequestJoined,
    RequestRejected,
    RequestSeenBefore,
    SourceConnected,
    SourceDisconnected,
)


class Metrics:
    """Counts events; its labels are names of sources and kinds of outcomes, never anything that a message brings."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._states: dict[str, bool] = {}
        self._requests = Counter(
            "pcapdaemon_requests", "Requests for this node, by what became of them at once", ["source", "outcome"],
            registry=self._registry,
        )  # fmt: skip
        self._connected = Gauge(
            "pcapdaemon_source_connected", "1: the source hears requests; 0: it is deaf", ["source"], registry=self._registry
        )
        self._since = Gauge(
            "pcapdaemon_source_since_timestamp_seconds", "Since when it is so", ["source"], registry=self._registry
        )
        self._lost = Counter(
            "pcapdaemon_source_connections_lost", "How often the source became deaf", ["source"], registry=self._registry
        )
        self._set_aside = Gauge("pcapdaemon_messages_set_aside", "Messages for other nodes", registry=self._registry)

    def hear(self, event: Event) -> None:
        """Count one event."""
        match event:
            case RequestAccepted(source):
                self._requests.labels(source, "accepted").inc()
            case RequestRejected(_, source, _, kind, _):
                self._requests.labels(source, kind).inc()
            case RequestJoined(_, source):
                self._requests.labels(source, "joined").inc()
            case RequestSeenBefore(_, source):
                self._requests.labels(source, "seen-before").inc()
            case RequestGivenBack(_, source, _):
                self._requests.labels(source, "given-back").inc()
            case SourceConnected(source):
                self._source(source, connected=True)
            case SourceDisconnected(source, _):
                self._source(source, connected=False)

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

    def text(self, set_aside: int) -> bytes:
        """All of it in Prometheus' text format."""
        self._set_aside.set(set_aside)
        return generate_latest(self._registry)

    def _source(self, source: str, connected: bool) -> None:
        if self._states.get(source) is not connected:
            self._states[source] = connected
            self._connected.labels(source).set(connected)
            self._since.labels(source).set_to_current_time()
            if not connected:
                self._lost.labels(source).inc()
