"""From a message to a decision, and from a decision to its consequences.

Pure: the caller passes the time and the surroundings.

`judge` answers these questions in order. Is the message an order or a request? What is wrong with
it? Has it expired? What would this node do? The other functions return the consequences of a
decision as one value, `Conclusion`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from pcapdaemon.core.admission import CLOCK_OFF, Refusal, age_of
from pcapdaemon.core.answers import Answer, AnswerKind, Verdict
from pcapdaemon.core.bounds import answerable, changes, within_rights
from pcapdaemon.core.choice import Surroundings
from pcapdaemon.core.events import (
    CaptureFailed,
    Event,
    RequestAccepted,
    RequestCancelled,
    RequestJoined,
    RequestRejected,
    RequestReturned,
    RequestSeenBefore,
    RequestTriedOut,
)
from pcapdaemon.core.orders import Order, find_order
from pcapdaemon.core.plan import CapturePlan, Rejection, make_plan
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.profile import Profiles, applied
from pcapdaemon.core.request import (
    ON_THE_WIRE,
    CaptureRequest,
    Problem,
    new_id,
    unknown_fields,
    validate,
)
from pcapdaemon.core.requester import Rights
from pcapdaemon.core.target import ABOUT_TARGETS, TARGETS, Asked
from pcapdaemon.core.text import shortened
from pcapdaemon.core.wire import to_wire

MOST_PROBLEMS = 20
"""Problems of a request that are reported one by one.

Messages from strangers must not fill logs and memory.
"""

SEEN_BEFORE = "it was accepted before, and is not captured again"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What is known about a message besides its body.

    `source` is the name of its source, and `key` identifies the message on its bus. `sent_at` is
    the broker's time and `arrived_at` is this node's, in seconds since the epoch. `fallback_id` is
    the id of a request that has none. `requester` is who sent it, or empty.
    """

    source: str
    arrived_at: float
    fallback_id: str
    sent_at: float | None = None
    key: str = ""
    requester: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """What a decision depends on besides the message.

    `objections` returns what a request asks of destinations that they don't allow. `owner_of`
    returns who has a request with this id, or None.
    """

    policy: Policy
    around: Surroundings
    objections: Callable[[CaptureRequest], Sequence[Problem]]
    profiles: Profiles = field(default_factory=dict)
    owner_of: Callable[[str], str | None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Judged:
    """What a message is, and what this node would do for it.

    `key` identifies the request, and is empty if nothing does. `clock_off` is by how many seconds a
    clock is off. `request` is None if the message is not a request.
    """

    id: str
    key: str
    plan: CapturePlan | Rejection
    request: CaptureRequest | None = None
    warnings: tuple[str, ...] = ()
    clock_off: float = 0.0


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The consequences of a decision: events, an answer for the sender, a verdict for the source.

    Without an answer, the message was answered before or is redelivered. Without a verdict, the
    source finds out by itself that no node accepted the message.
    """

    verdict: Verdict | None
    answer: Answer | None = None
    events: tuple[Event, ...] = ()


def streamed(judged: Judged, stream: int, exclude: str) -> Judged:
    """Return what is judged, for packets that are written to a descriptor as they come.

    `exclude` matches packets that must not be kept, besides those of the policy: the stream itself.
    """
    plan = judged.plan
    if isinstance(plan, Rejection):
        return judged
    wrong = ""
    if len(plan.captures) != 1:
        wrong = "a stream has the packets of one interface"
    elif plan.encrypt_to:
        wrong = "a stream can't be encrypted, which this node does to every savefile of yours"
    elif plan.captures[0].interface.replay:
        wrong = f"{plan.captures[0].interface.name} plays a file, which can't be streamed"
    if wrong:
        refused = Rejection(plan.id, (Problem(ON_THE_WIRE["interfaces"], wrong),))
        return replace(judged, plan=refused)
    both = " or ".join(f"({one})" for one in (plan.exclude, exclude) if one.strip())
    return replace(judged, plan=replace(plan, stream=stream, exclude=both))


def targets_of(fields: Mapping[str, Any], profiles: Profiles) -> Asked | None:
    """Return the targets of a message that must be found before it is judged, or None.

    What is wrong with them needs no look: the message is refused.
    """
    fields, _ = applied(fields, profiles)
    if not any(fields.get(name) for name in TARGETS):
        return None
    request, problems = validate(fields)
    wrong = {problem.field.partition(".")[0] for problem in problems}
    return None if wrong & {*TARGETS, *ABOUT_TARGETS} else request.targets


def judge(fields: Mapping[str, Any], envelope: Envelope, view: View) -> Order | Judged:
    """Decide about the fields of a message, as `read` returns them."""
    order = find_order(fields)
    if isinstance(order, Order):
        return order
    if order:
        return Judged(envelope.fallback_id, "", Rejection(envelope.fallback_id, tuple(order)))
    fields, unknown = applied(fields, view.profiles)
    request, problems = validate(fields)
    problems += unknown
    # a policy may leave out the destinations that would object
    request = within_rights(request, view.around.rights)
    issued_at = request.issued_at.timestamp() if request.issued_at else None
    age = age_of(envelope.sent_at, issued_at, view.around.now)
    request_id = own_id(request.id or envelope.fallback_id, envelope.requester, view.owner_of)
    problems += _from_the_future(envelope, issued_at, view.around.now)
    plan = _expired(request_id, age.seconds, issued_at, view.policy) or make_plan(
        request_id, request, [*problems, *view.objections(request)], view.policy, view.around
    )
    if not answerable(request, view.around.rights):
        request = request.model_copy(update={"reply_to": None})
    return Judged(
        request_id,
        key_of(envelope, request.id),
        plan,
        request,
        _warnings(fields, request, plan, view.around.rights),
        age.clock_off,
    )


def too_old(seconds: float, policy: Policy) -> bool:
    """Return whether a message of this age in seconds has expired, for whichever node it is."""
    return 0 < policy.maxage < seconds


def _expired(
    request_id: str, seconds: float, issued_at: float | None, policy: Policy
) -> Rejection | None:
    if not too_old(seconds, policy):
        return None
    words = (
        f"{seconds:.0f} s old; this node accepts requests up to {policy.maxage} s"
        " ([general] maxage)"
    )
    return Rejection(
        request_id, (Problem("issued_at" if issued_at else "", words),), AnswerKind.EXPIRED
    )


def _from_the_future(envelope: Envelope, issued_at: float | None, now: float) -> list[Problem]:
    """Return the problem with a time that the broker, or without one this node, has not reached."""
    ahead = issued_at - (envelope.sent_at or now) if issued_at else 0.0
    if ahead <= CLOCK_OFF:
        return []
    return [Problem("issued_at", f"is {ahead:.0f} s in the future; set it to the current time")]


def own_id(request_id: str, requester: str, owner_of: Callable[[str], str | None]) -> str:
    """Return the id of a requester's own request: another one's must not occupy it."""
    found = request_id
    for n in count(1):
        if owner_of(found) in (None, requester):
            break
        found = f"{request_id}@{requester}" + (f"-{n}" if n > 1 else "")
    return found


def key_of(envelope: Envelope, request_id: object) -> str:
    """Return what identifies a request, or "" if nothing does."""
    if isinstance(request_id, str) and request_id:
        return f"id {request_id}" + (f" of {envelope.requester}" if envelope.requester else "")
    return f"message {envelope.key}" if envelope.key else ""


def _warnings(
    fields: Mapping[str, Any],
    request: CaptureRequest,
    plan: CapturePlan | Rejection,
    rights: Rights | None,
) -> tuple[str, ...]:
    warnings = tuple(f"unknown field {name!r} is ignored" for name in unknown_fields(fields))
    if isinstance(plan, CapturePlan):
        warnings += tuple(changes(request, rights))
    if isinstance(plan, CapturePlan) and request.packet_debug and not plan.packet_debug:
        name = ON_THE_WIRE["packet_debug"]
        warnings += (f"{name} is ignored: [general] allow_{name} is not set",)
    return warnings


def rejected(
    source: str,
    rejection: Rejection,
    warnings: Sequence[str] = (),
    request: CaptureRequest | None = None,
) -> Conclusion:
    """Conclude that nothing is done, and why."""
    problems, kind = _cut(rejection.problems), rejection.kind
    event = RequestRejected(
        rejection.id, source, problems, kind, tuple(warnings), rejection.hint, request
    )
    answer = Answer(rejection.id, kind, problems, hint=rejection.hint, warnings=tuple(warnings))
    return Conclusion(Verdict.BAD if kind is AnswerKind.INVALID else Verdict.DONE, answer, (event,))


def returned(source: str, rejection: Rejection) -> Conclusion:
    """Conclude that there is no room now; the source redelivers the message later."""
    return Conclusion(
        Verdict.BUSY, None, (RequestReturned(rejection.id, source, str(rejection.problems[0])),)
    )


def unavailable(source: str, request_id: str, reason: str, verdict: Verdict) -> Conclusion:
    """Conclude that this node can't serve any message now, for this reason."""
    return replace(
        rejected(source, Rejection(request_id, (Problem("", reason),), AnswerKind.UNAVAILABLE)),
        verdict=verdict,
    )


def seen_before(source: str, judged: Judged, before: Answer, verdict: Verdict) -> Conclusion:
    """Conclude that the request was accepted before, and give the same answer again."""
    events = (RequestSeenBefore(before.id, source, judged.request),) if judged.request else ()
    return Conclusion(verdict, replace(before, warnings=(*judged.warnings, SEEN_BEFORE)), events)


def accepted(envelope: Envelope, plan: CapturePlan, warnings: Sequence[str]) -> Conclusion:
    """Conclude that captures have begun."""
    event = RequestAccepted(envelope.source, plan, envelope.arrived_at, tuple(warnings))
    failures = (
        CaptureFailed(plan.id, name, reason, kind="interface") for name, reason in plan.unavailable
    )
    answer = Answer(plan.id, AnswerKind.ACCEPTED, interfaces=_names(plan), warnings=tuple(warnings))
    return Conclusion(Verdict.TAKEN, answer, (event, *failures))


def joined(
    envelope: Envelope, plan: CapturePlan, other: str, warnings: Sequence[str]
) -> Conclusion:
    """Conclude that the captures of the equal request `other` serve this one too."""
    event = RequestJoined(
        plan.id, envelope.source, other, envelope.arrived_at, plan.request, tuple(warnings)
    )
    answer = Answer(
        plan.id,
        AnswerKind.ACCEPTED,
        interfaces=_names(plan),
        warnings=tuple(warnings),
        joined=other,
    )
    return Conclusion(Verdict.TAKEN, answer, (event,))


def dry_run(source: str, plan: CapturePlan, warnings: Sequence[str], now: float) -> Conclusion:
    """Return the answer of a dry run: what would be captured at `now`, seconds since the epoch."""
    details: dict[str, Any] = {
        "limits": to_wire(plan.limits),
        ON_THE_WIRE["snaplen"]: plan.snaplen,
        "lookback": plan.window(now).lookback,
        "unavailable": dict(plan.unavailable),
    }
    if plan.targets:
        details["targets"] = plan.targets
    words, to = tuple(warnings), plan.request.reply_to
    answer = Answer(
        plan.id,
        AnswerKind.DRYRUN,
        interfaces=_names(plan),
        warnings=words,
        details=details,
        reply_to=to,
    )
    return Conclusion(Verdict.DONE, answer, (RequestTriedOut(plan.id, source),))


def listed(
    order: Order, running: Iterable[Mapping[str, Any]], presence: Mapping[str, Any]
) -> Conclusion:
    """Return the answer with the requests that run on this node, and what this node is."""
    details = {"running": list(running), **presence}
    return Conclusion(Verdict.DONE, Answer(order.id, AnswerKind.LIST, details=details))


def cancelled(source: str, order: Order) -> Conclusion:
    """Conclude that the captures of a request are ended."""
    answer = Answer(order.id or order.cancel, AnswerKind.CANCELLED)
    return Conclusion(Verdict.DONE, answer, (RequestCancelled(order.cancel, source),))


def not_obeyed(source: str, request_id: str, refusal: Refusal) -> Conclusion:
    """Conclude that a signed message must not be obeyed, or not again."""
    refused = Rejection(request_id or new_id(), (Problem("id", refusal.words),), refusal.kind)
    return replace(rejected(source, refused), verdict=Verdict.DONE)


def forbidden(source: str, order: Order, requester: str, right: str) -> Conclusion:
    """Conclude that the policy of its requester does not allow an order."""
    words = f"{requester} may not do this: {right} is not in [[requester]] may"
    refused = Rejection(order.id or new_id(), (Problem("", words),), AnswerKind.FORBIDDEN)
    return rejected(source, refused)


def nothing_to_cancel(order: Order, verdict: Verdict) -> Conclusion:
    """Conclude that no request of that id runs here; it may run on another node."""
    problem = Problem("cancel", f"no request {order.cancel!r} runs on this node")
    return Conclusion(verdict, Answer(order.id or order.cancel, AnswerKind.UNKNOWN, (problem,)))


def _names(plan: CapturePlan) -> tuple[str, ...]:
    return tuple(part.interface.name for part in plan.captures)


def _cut(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    problems = tuple(replace(one, message=shortened(one.message)) for one in problems)
    if len(problems) <= MOST_PROBLEMS:
        return problems
    return (
        *problems[:MOST_PROBLEMS],
        Problem("", f"and {len(problems) - MOST_PROBLEMS} more problems"),
    )
