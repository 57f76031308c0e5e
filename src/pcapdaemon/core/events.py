"""What happens to requests, as frozen facts named in the past tense. Pure.

They are published once. The listeners are log lines (telemetry.py), counters (metrics.py), the
API's memory (history.py), the requester (results.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.outcome import Counts, Outcome, Receipt
from pcapdaemon.core.plan import CapturePlan
from pcapdaemon.core.request import CaptureRequest, Problem
from pcapdaemon.core.wire import to_wire


class Event:
    """Something that happened."""

    __slots__ = ()


class RequestEvent(Event):
    """Something that happened to a request."""

    __slots__ = ()


class CaptureEvent(Event):
    """Something that happened to a capture of a request, or to its savefile.

    It has `id` and `interface`.
    """

    __slots__ = ()

    id: str
    interface: str


class NodeEvent(Event):
    """Something that happened to this node."""

    __slots__ = ()


Publish = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class RequestRejected(RequestEvent):
    """A request was not taken; `kind` is that of the answer."""

    id: str
    source: str
    problems: tuple[Problem, ...]
    kind: AnswerKind = AnswerKind.INVALID
    warnings: tuple[str, ...] = ()
    hint: str = ""
    request: CaptureRequest | None = None


@dataclass(frozen=True, slots=True)
class RequestAccepted(RequestEvent):
    """A request was taken: a capture begins on each interface of the plan.

    `received_at` is when the message came.
    """

    source: str
    plan: CapturePlan
    received_at: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestJoined(RequestEvent):
    """A request was taken that equals the running one `joined`.

    It shares that one's captures and results.
    """

    id: str
    source: str
    joined: str
    received_at: float
    request: CaptureRequest
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestSeenBefore(RequestEvent):
    """A request came again that was accepted before; it is answered as it was then."""

    id: str
    source: str
    request: CaptureRequest


@dataclass(frozen=True, slots=True)
class RequestReturned(RequestEvent):
    """There is no room for a request now.

    Its source hands it out again later, here or to another node.
    """

    id: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class RequestCancelled(RequestEvent):
    """A message, or the API, asked to end a request's captures.

    They are delivered with what they have.
    """

    id: str
    source: str


@dataclass(frozen=True, slots=True)
class ClocksDiffer(NodeEvent):
    """A request's time shows that a clock is off: the requester's, the broker's or this node's.

    It is published once per source.
    """

    source: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CaptureStarted(CaptureEvent):
    """The filter is set: packets that match are kept from here on."""

    id: str
    interface: str
    linktype: str
    snaplen: int
    at: float


@dataclass(frozen=True, slots=True)
class CaptureProgressed(CaptureEvent):
    """What a capture that runs has so far; once a second."""

    id: str
    interface: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class CaptureStopped(CaptureEvent):
    """A capture ended with what it has, which may be nothing.

    Where it has packets, `sha256` is that of its savefile, and `pending` are the destinations that
    it goes to. If the node has a spool, the savefile is there, unless SavefileNotSpooled says why
    not.
    """

    id: str
    interface: str
    file_name: str
    outcome: Outcome
    sha256: str = ""
    pending: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """All but the request's id, flat; a savefile that does not exist has no name."""
        found: dict[str, Any] = to_wire(self)
        del found["id"], found["outcome"]
        name = self.file_name if self.outcome.packets else ""
        return {**found, "file_name": name, **to_wire(self.outcome)}


@dataclass(frozen=True, slots=True)
class CaptureFailed(CaptureEvent):
    """A capture never began; `reason` has libpcap's own words.

    `kind` as in CaptureRefused, or "busy".
    """

    id: str
    interface: str
    reason: str
    hint: str = ""
    kind: str = "other"


@dataclass(frozen=True, slots=True)
class SavefileDelivered(CaptureEvent):
    """A destination has the whole savefile.

    That is `seconds` after the first try and `since_last_packet` seconds after the last packet.
    """

    id: str
    interface: str
    destination: str
    receipt: Receipt
    seconds: float
    since_last_packet: float = 0.0


@dataclass(frozen=True, slots=True)
class SavefileSpooled(CaptureEvent):
    """A savefile is no longer held in memory.

    It stays in the spool until the destinations `pending` have it.
    """

    id: str
    interface: str
    file_name: str
    pending: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class SavefileNotSpooled(CaptureEvent):
    """A savefile could not be written to the spool.

    Until it is delivered, the end of the process would lose it.
    """

    id: str
    interface: str
    file_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SavefileResumed(NodeEvent):
    """A savefile that an earlier process left in the spool is going to be delivered."""

    ids: tuple[str, ...]
    source: str
    received_at: float
    request: CaptureRequest
    stopped: CaptureStopped
    delivered: tuple[tuple[str, Receipt], ...]


@dataclass(frozen=True, slots=True)
class SavefileLeftSpool(NodeEvent):
    """The last destination has a savefile that stood in the spool, or it was dropped.

    `ids` are the requests that want it.

    Whether those are over is not known here: captures on other interfaces may still run.
    """

    ids: tuple[str, ...]
    interface: str


@dataclass(frozen=True, slots=True)
class RecorderChanged(NodeEvent):
    """A recorder began to record, or could not go on.

    `reason` says why not, and is empty where it records.
    """

    interface: str
    reason: str


@dataclass(frozen=True, slots=True)
class SpoolFileQuarantined(NodeEvent):
    """Something in the spool's directory can't be used."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryDelayed(CaptureEvent):
    """A destination failed for now; the delivery is tried again."""

    id: str
    interface: str
    destination: str
    reason: str
    attempt: int


@dataclass(frozen=True, slots=True)
class SavefileLost(CaptureEvent):
    """A destination will not get the savefile.

    It refused it, did not take it in time, or the savefile was dropped from the spool.
    """

    id: str
    interface: str
    destination: str
    reason: str
    file_name: str
    packets: int


@dataclass(frozen=True, slots=True)
class RequestFinished(RequestEvent):
    """All captures of a request are over, and delivered, lost or in the spool.

    SavefileLeftSpool reports the end of those in the spool.
    """

    id: str


@dataclass(frozen=True, slots=True)
class PacketsLogged(CaptureEvent):
    """Metadata of captured packets, if a request asked for it and the configuration allows it."""

    id: str
    interface: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequestLogged(RequestEvent):
    """A message as it came, where it or the configuration asks for it."""

    id: str
    source: str
    body: str


@dataclass(frozen=True, slots=True)
class SourceSwitchedOn(NodeEvent):
    """A source was switched on. It receives nothing before SourceConnected."""

    source: str


@dataclass(frozen=True, slots=True)
class SourceSwitchedOff(NodeEvent):
    """A source was switched off; nothing more happens to it."""

    source: str


@dataclass(frozen=True, slots=True)
class SourceConnected(NodeEvent):
    """A source receives messages."""

    source: str


@dataclass(frozen=True, slots=True)
class SourceDisconnected(NodeEvent):
    """A source is disconnected; what is sent meanwhile may be lost, as its documentation says."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class DestinationNotReady(NodeEvent):
    """A destination could take no savefile, were there one now."""

    destination: str
    reason: str


@dataclass(frozen=True, slots=True)
class ResultsLost(NodeEvent):
    """Results could not be sent to one of their places, and were dropped."""

    place: str
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ConfigurationReloaded(NodeEvent):
    """SIGHUP was obeyed."""

    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigurationRefused(NodeEvent):
    """SIGHUP found a configuration that is wrong; the old one is kept, whole."""

    problems: tuple[str, ...]
