"""What happened to this node, as frozen values named in the past tense. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from pcapdaemon.core.events import CaptureStopped, NodeEvent
from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.request import CaptureRequest


@dataclass(frozen=True, slots=True)
class ClocksDiffer(NodeEvent):
    """A request's time shows that a clock is off: the requester's, the broker's or this node's.

    It is published once per source. `seconds` is the difference.
    """

    source: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SavefileResumed(NodeEvent):
    """The delivery of a savefile that an earlier process left in the spool was resumed."""

    ids: tuple[str, ...]
    source: str
    received_at: float
    request: CaptureRequest
    stopped: CaptureStopped
    delivered: tuple[tuple[str, Receipt], ...]
    requester: str = ""


@dataclass(frozen=True, slots=True)
class SavefileLeftSpool(NodeEvent):
    """A savefile left the spool: all destinations have it, or it was dropped.

    `ids` are the requests that it belongs to. They may not be finished, because captures on other
    interfaces may still run.
    """

    ids: tuple[str, ...]
    interface: str


class AlertOutcome(StrEnum):
    """What became of an alert."""

    SENT = "sent"
    NO_MATCH = "no-match"
    RESOLVED = "resolved"
    COOLDOWN = "cooldown"
    RATE = "rate"
    TOO_MANY = "too-many"
    MALFORMED = "malformed"
    REFUSED = "refused"
    ELSEWHERE = "elsewhere"
    BUSY = "busy"
    UNAUTHORIZED = "unauthorized"


@dataclass(frozen=True, slots=True)
class AlertJudged(NodeEvent):
    """A trigger judged an alert, or refused a message with alerts.

    `id` is that of the request that it became or would have become. `age` is the seconds from the
    alert's own time to its request, if both are known.
    """

    trigger: str
    outcome: AlertOutcome
    id: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()
    age: float | None = None


@dataclass(frozen=True, slots=True)
class RecorderChanged(NodeEvent):
    """A recorder began to record, or stopped.

    `reason` says why it does not record, and is empty if it does.
    """

    interface: str
    reason: str


@dataclass(frozen=True, slots=True)
class SpoolFileRefused(NodeEvent):
    """A file in the spool's directory can't be used. It is quarantined if it is the spool's."""

    name: str
    reason: str
    quarantined: bool


@dataclass(frozen=True, slots=True)
class SourceSwitchedOn(NodeEvent):
    """A source was turned on. It receives nothing before SourceConnected."""

    source: str


@dataclass(frozen=True, slots=True)
class SourceSwitchedOff(NodeEvent):
    """A source was turned off. No more events follow for it."""

    source: str


@dataclass(frozen=True, slots=True)
class SourceConnected(NodeEvent):
    """A source is connected and receives messages."""

    source: str


@dataclass(frozen=True, slots=True)
class SourceDisconnected(NodeEvent):
    """A source is disconnected. What is sent meanwhile may be lost, as its documentation says."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class DestinationNotReady(NodeEvent):
    """A destination could not receive a savefile at this time."""

    destination: str
    reason: str


@dataclass(frozen=True, slots=True)
class TokenRefused(NodeEvent):
    """A client of the API sent no token, or a wrong one. `client` is its address."""

    client: str


@dataclass(frozen=True, slots=True)
class MessageUntrusted(NodeEvent):
    """A message has no signature, or a wrong one; `reason` is one of a few words."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class SavefileFetched(NodeEvent):
    """A client of the API fetched a savefile, or a link to it. `client` is its address."""

    id: str
    file_name: str
    requester: str
    client: str


@dataclass(frozen=True, slots=True)
class ResultsDelayed(NodeEvent):
    """Results can't be sent to a place now; `attempt` counts since the last one that was sent.

    Attempt 0 is the check at the start, when no result waits yet.
    """

    place: str
    reason: str
    attempt: int


@dataclass(frozen=True, slots=True)
class ResultsLost(NodeEvent):
    """`number` results could not be sent to a place, and were dropped."""

    place: str
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ConfigurationReloaded(NodeEvent):
    """SIGHUP reloaded the configuration."""

    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigurationRefused(NodeEvent):
    """SIGHUP found a wrong configuration; the old one stays in force as a whole."""

    problems: tuple[str, ...]
