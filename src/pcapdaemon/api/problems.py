"""How everything that is refused looks: RFC 9457 problem details."""

from typing import Any

from fastapi.responses import JSONResponse, Response

TITLES = {
    400: "The request can't be obeyed",
    401: "A bearer token is required",
    404: "Not found",
    409: "A request of this id is running",
    410: "The request is too old",
    413: "The message is too long",
    415: "Only application/json is taken",
    405: "This can't be done here",
    422: "A parameter is wrong",
    421: "This host name is not served here",
    429: "No room for one more capture",
    503: "Not available now",
}


def problem(status: int, detail: str = "", **members: Any) -> Response:
    """A problem details object; `members` extend it."""
    body = {
        "type": "about:blank",
        "title": TITLES.get(status, "Refused"),
        "status": status,
        "detail": detail,
        **members,
    }
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status, headers, media_type="application/problem+json")
