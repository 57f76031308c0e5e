"""Answers of the engine as HTTP responses."""

from urllib.parse import quote

from fastapi.responses import JSONResponse, Response

from pcapdaemon.api.problems import problem
from pcapdaemon.core.answers import Answer, AnswerKind
from pcapdaemon.core.record import RequestState
from pcapdaemon.core.request import ON_THE_WIRE
from pcapdaemon.core.wire import to_wire

STATUS = {
    AnswerKind.INVALID: 400,
    AnswerKind.UNTRUSTED: 401,
    AnswerKind.FORBIDDEN: 403,
    AnswerKind.UNKNOWN: 404,
    AnswerKind.CONFLICT: 409,
    AnswerKind.EXPIRED: 410,
    AnswerKind.BUSY: 429,
    AnswerKind.UNAVAILABLE: 503,
}


def response_to(answer: Answer) -> Response:
    """Return the response to a message."""
    names = {ON_THE_WIRE["interfaces"]: answer.interfaces, "warnings": answer.warnings}
    if answer.kind is AnswerKind.ACCEPTED:
        href = f"/captures/{quote(answer.id, safe='')}"
        joined = {"joined": answer.joined} if answer.joined else {}
        body = {"id": answer.id, "state": RequestState.RUNNING, **names, "href": href, **joined}
        return JSONResponse(body, 202, {"Location": href})
    if answer.kind is AnswerKind.ELSEWHERE:
        why = "; ".join(one.message for one in answer.problems)
        return JSONResponse({"id": answer.id, "state": answer.kind, "detail": why})
    if answer.kind not in STATUS:  # a dry run, a list, or a cancelled request
        return JSONResponse({"id": answer.id, "state": answer.kind, **names, **answer.details})
    detail = "; ".join(str(one) for one in answer.problems)
    members = {
        "id": answer.id,
        "errors": to_wire(answer.problems),
        "hint": answer.hint,
        "warnings": answer.warnings,
    }
    return problem(STATUS[answer.kind], detail, **members)
