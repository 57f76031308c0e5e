"""What happens to requests, as frozen facts named in the past tense. Pure.

They are published once and told by listeners: log lines (telemetry.py), counters (metrics.py), the API's memory (history.py),
the requester (results.py).
"""

from collections.abc import Callable
from dataclasses import dataclass

from pcapdaemon.core.limits import StopReason
from pcapdaemon.core.outcome import Content, Counts, Lookback, Receipt, shortfalls
from pcapdaemon.core.plan import CapturePlan
from pcapdaemon.core.request import CaptureRequest, Problem


@dataclass(frozen=True, slots=True)
class RequestRejected:
    """A request was not taken; `kind` is that of the answer: "invalid", "conflict", "expired", "busy" or "unavailable"."""

    id: str
    source: str
    problems: tuple[Problem, ...]
    kind: str = "invalid"
    warnings: tuple[str, ...] = ()
    hint: str = ""
    request: CaptureRequest | None = None


@dataclass(frozen=True, slots=True)
class RequestAccepted:
    """A request was taken: a capture begins on each interface of the plan. `received_at` is when the message came."""

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
    request: CaptureRequest
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestSeenBefore:
    """A request came again that was accepted before; it is answered as it was then."""

    id: str
    source: str
    request: CaptureRequest


@dataclass(frozen=True, slots=True)
class RequestReturned:
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
class ClocksDiffer:
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
class CaptureProgressed:
    """What a capture that runs has so far; once a second."""

    id: str
    interface: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class CaptureStopped:
    """A capture ended with what it has, which may be nothing; `times` of its first and last packet are seconds since the epoch.

    So is `trigger`, from which its limits count; `lookback` is there where packets from before it were asked for. `content`
    is what is inside of a savefile that is compressed; all sizes but that of the file itself are of the content.

    Where it has packets, `sha256` is that of the savefile, which is pending the destinations `pending`; and where there is a
    spool it stands there, unless SavefileNotSpooled says why not.
    """

    id: str
    interface: str
    file_name: str
    reason: str
    counts: Counts
    times: tuple[float, float]
    seconds: float
    error: str = ""
    sha256: str = ""
    pending: tuple[str, ...] = ()
    trigger: float = 0.0
    lookback: Lookback | None = None
    content: Content | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Why the savefile may lack packets that a requester expects in it; empty: it is complete."""
        return shortfalls(StopReason(self.reason), self.counts, self.error)


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
    """A destination has the whole savefile, `seconds` after the first try and `since_last_packet` after that came."""

    id: str
    interface: str
    destination: str
    receipt: Receipt
    seconds: float
    since_last_packet: float = 0.0


@dataclass(frozen=True, slots=True)
class SavefileSpooled:
    """A savefile is no longer held in memory: it stands in the spool until the destinations `pending` have it."""

    id: str
    interface: str
    file_name: str
    pending: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class SavefileNotSpooled:
    """A savefile could not be written to the spool: until it is delivered, the end of the process would lose it."""

    id: str
    interface: str
    file_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SavefileResumed:
    """A savefile that an earlier process left in the spool is going to be delivered; with all that is known of it."""

    ids: tuple[str, ...]
    source: str
    received_at: float
    request: CaptureRequest
    stopped: CaptureStopped
    delivered: tuple[tuple[str, Receipt], ...]


@dataclass(frozen=True, slots=True)
class SavefileLeftSpool:
    """The last destination has a savefile that stood in the spool, or it was given up; `ids` are the requests that want it.

    Whether those are over is not known here: captures on other interfaces may still run.
    """

    ids: tuple[str, ...]
    interface: str


@dataclass(frozen=True, slots=True)
class RecorderChanged:
    """A recorder began to record, or could not go on; `reason` says why not, and is empty where it records."""

    interface: str
    reason: str


@dataclass(frozen=True, slots=True)
class SpoolFileQuarantined:
    """Something in the spool's directory can't be used."""

    name: str
    reason: str


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
    """A destination will not get the savefile: refused, or not taken in time, or dropped from the spool."""

    id: str
    interface: str
    destination: str
    reason: str
    file_name: str
    packets: int


@dataclass(frozen=True, slots=True)
class RequestFinished:
    """All captures of a request are over, and delivered, lost or in the spool, which SavefileLeftSpool tells the end of."""

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
class ResultsLost:
    """Results could not be sent to one of their places, and were given up."""

    place: str
    number: int
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
    CaptureStarted
    | CaptureProgressed
    | CaptureStopped
    | CaptureFailed
    | SavefileDelivered
    | DeliveryDelayed
    | SavefileSpooled
    | SavefileNotSpooled
    | SavefileLost
    | PacketsLogged
)
RequestEvent = (
    RequestRejected
    | RequestAccepted
    | RequestJoined
    | RequestSeenBefore
    | RequestReturned
    | RequestCancelled
    | RequestFinished
    | RequestLogged
)
NodeEvent = (
    ClocksDiffer
    | SourceConnected
    | SourceDisconnected
    | DestinationNotReady
    | ConfigurationReloaded
    | ConfigurationRefused
    | SavefileResumed
    | SavefileLeftSpool
    | RecorderChanged
    | SpoolFileQuarantined
    | ResultsLost
)
Event = CaptureEvent | RequestEvent | NodeEvent
Publish = Callable[[Event], None]
