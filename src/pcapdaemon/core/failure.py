"""Why captures could not begin, as an answer. Pure."""

from collections.abc import Sequence

from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.errors import Busy, CaptureRefused
from pcapdaemon.core.events import CaptureFailed
from pcapdaemon.core.plan import CapturePlan, Rejection
from pcapdaemon.core.request import ON_THE_WIRE, Problem

FAILURES = {
    "filter": AnswerKind.INVALID,
    "interface": AnswerKind.INVALID,
    "replay": AnswerKind.INVALID,
    "device": AnswerKind.INVALID,
    "permission": AnswerKind.UNAVAILABLE,
    "busy": AnswerKind.BUSY,
}
"""The kind of an Answer for each kind of CaptureFailed."""


def failed(request_id: str, interface: str, error: CaptureRefused | Busy) -> CaptureFailed:
    """Return the event of a capture that was refused."""
    kind = error.kind if isinstance(error, CaptureRefused) else "busy"
    return CaptureFailed(request_id, interface, str(error), error.hint, kind)


def busy(plan: CapturePlan, error: Busy) -> Rejection:
    """Return why none of a plan's captures could even be made."""
    return Rejection(plan.id, (Problem("", str(error)),), AnswerKind.BUSY)


def rejection(plan: CapturePlan, failures: Sequence[CaptureFailed]) -> Rejection:
    """Return why all captures of a plan failed."""
    problems = [
        Problem(_blamed(failure), f"{failure.interface}: {failure.reason}") for failure in failures
    ]
    asked = plan.request.targets
    named = asked.field if asked else ON_THE_WIRE["interfaces"]
    problems += [Problem(named, f"{name}: {reason}") for name, reason in plan.unavailable]
    kinds = {FAILURES.get(failure.kind, AnswerKind.UNAVAILABLE) for failure in failures}
    kind = kinds.pop() if len(kinds) == 1 else AnswerKind.UNAVAILABLE
    return Rejection(plan.id, tuple(problems), kind, next((f.hint for f in failures if f.hint), ""))


def _blamed(failure: CaptureFailed) -> str:
    field_name = {
        "filter": "capture_filter",
        "interface": "interfaces",
        "replay": "interfaces",
    }.get(failure.kind)
    return ON_THE_WIRE[field_name] if field_name else ""
