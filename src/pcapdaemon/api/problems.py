"""Error responses: problem details of RFC 9457."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse, Response

Responses = dict[int | str, dict[str, Any]]
"""What a route may answer besides success, for its OpenAPI description."""

TITLES = {
    400: "The request is invalid",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "The method is not allowed",
    409: "A request with this id is running",
    410: "The request has expired",
    413: "The message is too long",
    415: "Only application/json is accepted",
    416: "The savefile has no such bytes",
    421: "This host name is not served",
    422: "A parameter is wrong",
    429: "No room for another capture",
    503: "Not available now",
}
"""The title of each status."""

WRONG_TOKEN_DELAY = 0.5
"""Seconds that a client waits after a wrong token, so that guessing takes long."""


def problem(
    status: int, detail: str = "", *, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """Return a problem details response; `members` are added to its object."""
    body = {
        "type": "about:blank",
        "title": TITLES.get(status, "Refused"),
        "status": status,
        "detail": detail,
        **members,
    }
    more = {"Retry-After": "1"} if status in (429, 503) else {}
    if status == 401:
        more["WWW-Authenticate"] = "Bearer"
    return JSONResponse(
        body, status, {**more, **(headers or {})}, media_type="application/problem+json"
    )
