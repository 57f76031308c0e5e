"""Records of requests and their captures, for the API, results and the command line. Pure.

The state of a capture changes only here. A node updates its records from events. The command line
updates its own from the results that it receives.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pcapdaemon.core.outcome import Counts, Outcome, Receipt
from pcapdaemon.core.request import ON_THE_WIRE, CaptureRequest
from pcapdaemon.core.wire import to_wire


class CaptureState(StrEnum):
    """The state of a capture, and then of its savefile."""

    STARTING = "starting"
    RUNNING = "running"
    DELIVERING = "delivering"
    SPOOLED = "spooled"
    """Not delivered everywhere yet: kept in the spool and retried."""
    DELIVERED = "delivered"
    EMPTY = "empty"
    FAILED = "failed"
    """Never began."""
    LOST = "lost"
    """Captured, but not delivered everywhere."""


class RequestState(StrEnum):
    """The state of a request. A node's records use the first three, the command line all."""

    RUNNING = "running"
    FINISHED = "finished"
    REJECTED = "rejected"
    DRYRUN = "dryrun"
    LIST = "list"
    CANCELLED = "cancelled"
    ELSEWHERE = "elsewhere"
    UNREACHABLE = "unreachable"
    SILENT = "silent"


FAILURES = (CaptureState.FAILED, CaptureState.LOST)


@dataclass
class CaptureRecord:
    """The record of one capture of a request, on one interface.

    `target` is what the interface leads to. `pending` are the destinations that do not have its
    savefile yet. `lost` are those that will not get it, and why. `reason` says why the capture is
    in its state. `counts` are current until `outcome` is set. Times are seconds since the epoch.
    """

    interface: str
    target: dict[str, Any] | None = None
    state: CaptureState = CaptureState.STARTING
    linktype: str = ""
    snaplen: int = 0
    started_at: float | None = None
    counts: Counts = field(default_factory=Counts)
    outcome: Outcome | None = None
    file_name: str = ""
    sha256: str = ""
    delivered: dict[str, Receipt] = field(default_factory=dict)
    pending: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    hint: str = ""

    def started(self, linktype: str, snaplen: int, at: float) -> None:
        """Record that its filter is set."""
        self.state, self.linktype, self.snaplen, self.started_at = (
            CaptureState.RUNNING,
            linktype,
            snaplen,
            at,
        )

    def failed(self, reason: str, hint: str) -> None:
        """Record that it never began."""
        self.state, self.reason, self.hint = CaptureState.FAILED, reason, hint

    def stopped(
        self, outcome: Outcome, file_name: str, sha256: str, pending: Iterable[str]
    ) -> None:
        """Record that it ended, and that its savefile goes to the destinations `pending`."""
        ended = CaptureState.DELIVERING if pending else CaptureState.DELIVERED  # as a stream
        self.state = ended if outcome.packets else CaptureState.EMPTY
        self.outcome, self.reason = outcome, outcome.error
        self.file_name, self.sha256, self.pending = (
            file_name if outcome.packets else "",
            sha256,
            list(pending),
        )

    def delayed(self, destination: str, reason: str) -> None:
        """Record that a delivery failed and will be retried."""
        self.reason = f"{destination}: {reason}; will be retried"

    def spooled(self, pending: Iterable[str], reason: str) -> None:
        """Record that its savefile waits in the spool."""
        self.state, self.reason, self.pending = CaptureState.SPOOLED, reason, list(pending)

    def reached(self, destination: str, receipt: Receipt) -> None:
        """Record that a destination has its savefile."""
        self.delivered[destination] = receipt
        self._settle(destination)

    def missed(self, destination: str, reason: str) -> None:
        """Record that a destination will not get its savefile."""
        self.lost[destination] = reason
        self._settle(destination)

    def _settle(self, destination: str) -> None:
        if destination in self.pending:
            self.pending.remove(destination)
        if not self.pending:
            self.state = CaptureState.LOST if self.lost else CaptureState.DELIVERED
            self.reason = "; ".join(f"{name}: {reason}" for name, reason in self.lost.items())

    def as_json(self, live: Counts | None = None) -> dict[str, Any]:
        """Return all of it, flat; `live` replaces its counts while it runs."""
        found: dict[str, Any] = to_wire(self)
        del found["counts"], found["outcome"]
        counts = live if live and self.state is CaptureState.RUNNING else self.counts
        return {**found, **to_wire(self.outcome or counts)}


@dataclass
class RequestRecord:
    """A request and its captures.

    `joined` is the id of the request whose captures serve this one too. `requester` is who asked,
    or empty if the node knows no requesters. `asked` is what `asked` returns.
    """

    id: str
    source: str
    received_at: float
    node: str = ""
    state: RequestState = RequestState.RUNNING
    limits: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    captures: list[CaptureRecord] = field(default_factory=list)
    joined: str = ""
    requester: str = ""
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether it is final: no capture runs, and no savefile waits in the spool."""
        return self.state is not RequestState.RUNNING and not any(
            capture.pending for capture in self.captures
        )

    def capture(self, interface: str) -> CaptureRecord:
        """Return the record of the capture on an interface; it is created if missing."""
        for capture in self.captures:
            if capture.interface == interface:
                return capture
        self.captures.append(CaptureRecord(interface))
        return self.captures[-1]

    def as_json(self, live: Mapping[str, Counts] | None = None) -> dict[str, Any]:
        """Return all of it; `live` has the current counts of its captures, by interface."""
        found: dict[str, Any] = to_wire({**vars(self), "captures": ()})
        found |= found.pop("asked")
        found["captures"] = [one.as_json((live or {}).get(one.interface)) for one in self.captures]
        return found


ASKED = ("capture_filter", "customer", "alert_id", "tags", "comment")
"""The fields of a request that its record shows as they were sent."""


def asked(request: CaptureRequest) -> dict[str, Any]:
    """Return what people search a request by, with the message's words, if it was sent."""
    found = {ON_THE_WIRE[name]: getattr(request, name) for name in ASKED}
    found["cause"] = request.cause and request.cause.as_json()
    return {name: value for name, value in found.items() if value not in (None, "", 0)}


@dataclass(frozen=True, slots=True)
class Search:
    """What people look for among records. None means anything.

    `cause` is its system, id or URL, or a part of its title. `tag` is one of the request's tags.
    `since` is seconds since the epoch.
    """

    cause: str | None = None
    customer: str | None = None
    tag: str | None = None
    since: float | None = None

    def finds(self, record: RequestRecord) -> bool:
        """Return whether a record is one of those."""
        asked, tags = record.asked, str(record.asked.get("tags", "")).split(",")
        return (
            (self.cause is None or _is_cause(self.cause, asked.get("cause") or {}))
            and (self.customer is None or asked.get("customer") == self.customer)
            and (self.tag is None or self.tag in (tag.strip() for tag in tags))
            and (self.since is None or record.received_at >= self.since)
        )


def _is_cause(words: str, cause: Mapping[str, str]) -> bool:
    exact = (cause.get(name) for name in ("system", "id", "url"))
    return words in exact or words.lower() in cause.get("title", "").lower()
