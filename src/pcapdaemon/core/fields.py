"""The types of a message's fields. Pure."""

import re
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
)

from pcapdaemon.core.addressing import MOST_ADDRESSES, network_of
from pcapdaemon.core.message import json_type
from pcapdaemon.core.recipient import RecipientText
from pcapdaemon.core.section import one_or_several
from pcapdaemon.core.units import Bytes, Time

INT64 = 2**63

Text = Annotated[str, Field(max_length=4096)]


def _network(text: str) -> str:
    return str(network_of(text))


Names = Annotated[
    tuple[Annotated[str, Field(max_length=127)], ...],
    Field(strict=False, max_length=64),
    BeforeValidator(one_or_several, json_schema_input_type=str | list[str]),
]
Addresses = Annotated[
    tuple[Annotated[str, AfterValidator(_network)], ...],
    Field(strict=False, max_length=MOST_ADDRESSES),
    BeforeValidator(one_or_several, json_schema_input_type=str | list[str]),
]
Recipients = Annotated[
    tuple[RecipientText, ...],
    Field(strict=False, max_length=16),
    BeforeValidator(one_or_several, json_schema_input_type=str | list[str]),
]
Size = Annotated[Bytes, Field(ge=0, lt=INT64)]
Seconds = Annotated[Time, Field(ge=0, lt=INT64)]
Label = Annotated[str, Field(max_length=128)]
Format = Literal["pcap", "pcapng"]
Compression = Literal["none", "gzip", "zstd"]
Payload = Literal["full", "headers"]
ResultKind = Literal[
    "rejected",
    "accepted",
    "started",
    "progress",
    "captured",
    "delivered",
    "spooled",
    "failed",
    "finished",
]
"""Kinds of results, in the order in which they happen."""


_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _text_of_a_time(value: object) -> object:
    if not isinstance(value, str):
        # pydantic turns a ValueError into a problem, but not a TypeError
        raise ValueError(f"must be a string, not {json_type(value)}")  # noqa: TRY004
    if not _RFC_3339.fullmatch(value):
        raise ValueError("must be a time in RFC 3339, for example 2026-01-31T12:00:00Z")
    return value


def problem_of_moment(text: str) -> str:
    """Return what is wrong with a time, or ""."""
    try:
        TypeAdapter(Moment).validate_python(text)
    except ValidationError as error:
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    return ""


Moment = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_text_of_a_time, json_schema_input_type=str)
]
