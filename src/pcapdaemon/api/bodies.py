"""Reads the bodies of requests."""

from typing import TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError

from pcapdaemon.core.message import MAX_MESSAGE
from pcapdaemon.core.section import in_words

M = TypeVar("M", bound=BaseModel)


def content_type(request: Request) -> str:
    """Return the type of a body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def refuse_all_but_json(request: Request) -> None:
    """Raise HTTPException unless a body is JSON, as no page of another site can send it unasked."""
    if content_type(request) != "application/json":
        raise HTTPException(415, "send the header 'Content-Type: application/json'")


async def read_body(request: Request, most: int = MAX_MESSAGE, what: str = "a message") -> bytes:
    """Return a body of at most `most` bytes. Raises HTTPException if it is longer."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"{what} may have at most {most} bytes")
    return bytes(body)


async def read_json(request: Request, model: type[M]) -> M:
    """Return a body as an object. Raises HTTPException with all that is wrong."""
    refuse_all_but_json(request)
    try:
        return model.model_validate_json(await read_body(request))
    except ValidationError as error:
        wrong = (
            f"{'.'.join(map(str, one['loc'])) or 'body'}: {in_words(one)}"
            for one in error.errors(include_url=False)
        )
        raise HTTPException(422, "; ".join(wrong)) from None
