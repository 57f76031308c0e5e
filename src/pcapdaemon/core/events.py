"""What happened to requests and to this node, as frozen values named in the past tense. Pure.

Each event is published once. The listeners write log lines (telemetry/log.py), count
(telemetry/metrics.py), keep records for the API (results/history.py), and send results to the
requester (results/router.py).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    """Something that happened to a request.

    `requester` is who sent it, or empty if the node knows no requesters, and `key` is the
    fingerprint of the key that signed it.
    """

    __slots__ = ()


class CaptureEvent(Event):
    """Something that happened to a capture of a request, or to its savefile.

    `id` is the request's.
    """

    __slots__ = ()

    id: str
    interface: str


class NodeEvent(Event):
    """Something that happened to this node."""

    __slots__ = ()


Publish = Callable[[Event], None]
"""Passes an event to all listeners."""


@dataclass(frozen=True, slots=True)
class RequestRejected(RequestEvent):
    """A request was not accepted; `kind` is that of the answer."""

    id: str
    source: str
    problems: tuple[Problem, ...]
    kind: AnswerKind = AnswerKind.INVALID
    warnings: tuple[str, ...] = ()
    hint: str = ""
    request: CaptureRequest | None = None
    requester: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class RequestAccepted(RequestEvent):
    """A request was accepted, and a capture begins on each interface of the plan.

    `received_at` is when the message arrived, in seconds since the epoch.
    """

    source: str
    plan: CapturePlan
    received_at: float
    warnings: tuple[str, ...] = ()
    requester: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class RequestJoined(RequestEvent):
    """A request was accepted that equals the running request `joined`.

    It shares that request's captures and results.
    """

    id: str
    source: str
    joined: str
    received_at: float
    request: CaptureRequest
    warnings: tuple[str, ...] = ()
    requester: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class RequestSeenBefore(RequestEvent):
    """A request was redelivered that was accepted before; the answer is the same as then."""

    id: str
    source: str
    request: CaptureRequest


@dataclass(frozen=True, slots=True)
class RequestReturned(RequestEvent):
    """A request was returned to its source because this node has no room now.

    The source redelivers it later, to this node or to another.
    """

    id: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class RequestCancelled(RequestEvent):
    """A message or the API ended a request's captures.

    What they captured so far is delivered.
    """

    id: str
    source: str
    requester: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class CaptureStarted(CaptureEvent):
    """The filter is set, and matching packets are kept from now on."""

    id: str
    interface: str
    linktype: str
    snaplen: int
    at: float


@dataclass(frozen=True, slots=True)
class CaptureProgressed(CaptureEvent):
    """The counts of a running capture, published once a second."""

    id: str
    interface: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class CaptureStopped(CaptureEvent):
    """A capture ended, perhaps without a packet.

    If it has packets, `pending` are the destinations that its savefile goes to. `sha256` is that of
    the savefile, if the request asked for it or it is in the spool. If the node has a spool, the
    savefile is there, unless SavefileNotSpooled says why not.
    """

    id: str
    interface: str
    file_name: str
    outcome: Outcome
    sha256: str = ""
    pending: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return all but the request's id, flat. Without packets, `file_name` is empty."""
        found: dict[str, Any] = to_wire(self)
        del found["id"], found["outcome"]
        name = self.file_name if self.outcome.packets else ""
        return {**found, "file_name": name, **to_wire(self.outcome)}


@dataclass(frozen=True, slots=True)
class CaptureFailed(CaptureEvent):
    """A capture never began; `reason` is libpcap's message.

    `kind` is that of CaptureRefused, or "busy".
    """

    id: str
    interface: str
    reason: str
    hint: str = ""
    kind: str = "other"


@dataclass(frozen=True, slots=True)
class SavefileDelivered(CaptureEvent):
    """A destination has the whole savefile.

    The delivery took `seconds` from the first attempt, and ended `since_last_packet` seconds after
    the last packet.
    """

    id: str
    interface: str
    destination: str
    receipt: Receipt
    seconds: float
    since_last_packet: float = 0.0


@dataclass(frozen=True, slots=True)
class SavefileSpooled(CaptureEvent):
    """A savefile left the memory, and waits in the spool.

    It stays there until the destinations `pending` have it.
    """

    id: str
    interface: str
    file_name: str
    pending: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class SavefileNotSpooled(CaptureEvent):
    """A savefile could not be written to the spool.

    If the process ends before it is delivered, it is lost.
    """

    id: str
    interface: str
    file_name: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryDelayed(CaptureEvent):
    """A destination failed temporarily, and the delivery will be retried."""

    id: str
    interface: str
    destination: str
    reason: str
    attempt: int


@dataclass(frozen=True, slots=True)
class SavefileLost(CaptureEvent):
    """A destination will not get the savefile.

    The destination rejected it or failed for too long, or the savefile was dropped from the spool.
    """

    id: str
    interface: str
    destination: str
    reason: str
    file_name: str
    packets: int


@dataclass(frozen=True, slots=True)
class RequestTriedOut(RequestEvent):
    """A dry run found nothing that speaks against a request."""

    id: str
    source: str
    requester: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class RequestFinished(RequestEvent):
    """All captures of a request ended, and their savefiles are delivered, lost or in the spool.

    SavefileLeftSpool reports the end of those in the spool.
    """

    id: str


@dataclass(frozen=True, slots=True)
class PacketsLogged(CaptureEvent):
    """Metadata of captured packets, if a request asks for it and the configuration allows it."""

    id: str
    interface: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RequestLogged(RequestEvent):
    """A message as received, if it or the configuration asks for logging."""

    id: str
    source: str
    body: str


LONGEST_LOGGED = 4096
"""Most bytes of a message that are logged, if logging was asked for."""


def logged(request_id: str, source: str, body: bytes) -> RequestLogged:
    """Return the event of a message that is logged as received."""
    text, more = body[:LONGEST_LOGGED].decode("utf-8", "replace"), len(body) - LONGEST_LOGGED
    return RequestLogged(request_id, source, text + (f"... and {more} bytes" if more > 0 else ""))


SENT = (RequestAccepted, RequestJoined, RequestRejected, RequestCancelled, RequestTriedOut)
"""Events that say who sent the message."""


def sent_by(event: Event, requester: str, key: str) -> Event:
    """Return the event with who sent the message that it is about."""
    if isinstance(event, SENT) and requester:
        return replace(event, requester=requester, key=key)
    return event
