"""What happens to requests, as frozen facts named in the past tense. Pure.

They are published once and told by listeners: log lines (telemetry.py), the API's memory (history.py).
"""

from collections.abc import Callable
from dataclasses import dataclass

from pcapdaemon.plan import CapturePlan
from pcapdaemon.request import Problem


@dataclass(frozen=True, slots=True)
class Counts:
    """What one capture took and lost; `size` is bytes of the savefile. See the glossary in ARCHITECTURE.md."""

    packets: int = 0
    size: int = 0
    received: int = 0
    dropped: int = 0
    dropped_by_interface: int = 0


@dataclass(frozen=True, slots=True)
class RequestRejected:
    """A request was not taken; `kind` is that of the answer: "invalid", "conflict", "expired", "busy" or "unavailable"."""

    id: str
    source: str
    problems: tuple[Problem, ...]
    kind: str = "invalid"
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestAccepted:
    """A request was taken: a capture begins on each interface of the plan."""

    source: str
    plan: CapturePlan
    received_at: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestJoined:
    """A request was taken that equals the running one `joined`: it shares that one's captures and results."""

    id: str
    source: str
    joined: str
    received_at: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestSeenBefore:
    """A request came again that was accepted before; it is answered as it was then."""

    id: str
    source: str


@dataclass(frozen=True, slots=True)
class RequestGivenBack:
    """There is no room for a request now; its source hands it out again later, here or to another node."""

    id: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """A message, or the API, asked to end a request's captures; they are delivered with what they have."""

    id: str
    source: str


@dataclass(frozen=True, slots=True)
class ClockIsOff:
    """A request's time shows that a clock is off: the requester's, the broker's or this node's. Told once per source."""

    source: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CaptureStarted:
    """The filter is set: packets that match are kept from here on."""

    id: str
    interface: str
    linktype: str
    snaplen: int
    at: float


@dataclass(frozen=True, slots=True)
class CaptureStopped:
    """A capture ended with what it has, which may be nothing; `times` are seconds since the epoch."""

    id: str
    interface: str
    file_name: str
    reason: str
    counts: Counts
    times: tuple[float, float]
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class CaptureFailed:
    """A capture never began; `reason` has libpcap's own words. `kind` as in CaptureRefused, or "busy"."""

    id: str
    interface: str
    reason: str
    hint: str = ""
    kind: str = "other"


@dataclass(frozen=True, slots=True)
class SavefileDelivered:
    """A destination has the whole savefile; `where` is a path or a URL."""

    id: str
    interface: str
    destination: str
    where: str
    seconds: float


@dataclass(frozen=True, slots=True)
class DeliveryDelayed:
    """A destination failed for now; the delivery is tried again."""

    id: str
    interface: str
    destination: str
    reason: str
    attempt: int


@dataclass(frozen=True, slots=True)
class SavefileLost:
    """A destination will not get the savefile: refused, or not taken before the deadline or the end of the daemon."""

    id: str
    interface: str
    destination: str
    reason: str
    file_name: str
    packets: int


@dataclass(frozen=True, slots=True)
class RequestFinished:
    """All captures of a request are over and delivered, or as far as they will ever be."""

    id: str


@dataclass(frozen=True, slots=True)
class PacketsLogged:
    """Metadata of captured packets, where the request asked for it and the configuration allows it."""

    id: str
    interface: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequestLogged:
    """A message as it came, where it or the configuration asks for it."""

    id: str
    source: str
    body: str


@dataclass(frozen=True, slots=True)
class SourceConnected:
    """A source hears messages."""

    source: str


@dataclass(frozen=True, slots=True)
class SourceDisconnected:
    """A source is deaf; what is sent meanwhile may be lost, as its documentation says."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class DestinationNotReady:
    """A destination could take no savefile, were there one now."""

    destination: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConfigurationReloaded:
    """SIGHUP was obeyed."""

    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigurationRefused:
    """SIGHUP found a configuration that is wrong; the old one is kept, whole."""

    problems: tuple[str, ...]


CaptureEvent = (
    CaptureStarted | CaptureStopped | CaptureFailed | SavefileDelivered | DeliveryDelayed | SavefileLost | PacketsLogged
)
RequestEvent = (
    RequestRejected
    | RequestAccepted
    | RequestJoined
    | RequestSeenBefore
    | RequestGivenBack
    | RequestCancelled
    | RequestFinished
    | RequestLogged
)
NodeEvent = ClockIsOff | SourceConnected | SourceDisconnected | DestinationNotReady | ConfigurationReloaded | ConfigurationRefused
Event = CaptureEvent | RequestEvent | NodeEvent
Publish = Callable[[Event], None]
