"""CaptureRequest from untrusted JSON.

Pure; the short names of the original's message live here and nowhere else.

Reading goes in steps, so that what is not for this node costs as little as possible and a bad
message is answered with all its problems at once: `read` (JSON as strict as Go's), `addressed_to`
(is it for this node?), `validate`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Any, Literal

import re2
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ulid import ULID

from pcapdaemon.core.message import json_type

MAX_ID = 128
MOST_NAMED = 10
_INT64 = 2**63

Text = Annotated[str, Field(max_length=4096)]
Names = Annotated[
    tuple[Annotated[str, Field(max_length=64)], ...], Field(strict=False, max_length=64)
]
Count = Annotated[int, Field(ge=0, lt=_INT64)]
Label = Annotated[str, Field(max_length=128)]
Format = Literal["pcap", "pcapng"]
Compression = Literal["none", "gzip", "zstd"]
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


def _text_of_a_time(value: object) -> object:
    if not isinstance(value, str):
        # pydantic takes this one
        raise ValueError(f"must be a string, not {json_type(value)}")  # noqa: TRY004
    return value


Moment = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_text_of_a_time, json_schema_input_type=str)
]


class CaptureRequest(BaseModel):
    """A request to capture packets, as it came, without the node's defaults and limits.

    `None` means absent, or the empty value that Go's decoder left where a field was absent.
    """

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", title="pcapdaemon capture request"
    )

    id: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_ID,
        description=(
            "Names the request in logs, files and answers: printable characters. Absent: a ULID is"
            " made up."
        ),
    )
    node: Text | None = Field(
        None, description="This host's name exactly, or `any`. Exactly one of `node` and `nodere`."
    )
    node_pattern: Text | None = Field(
        None,
        alias="nodere",
        description=(
            "RE2 expression for hosts' names, unanchored (`web` matches `web12`), case-sensitive."
        ),
    )
    labels: Annotated[dict[Label, Label], Field(max_length=16)] = Field(
        {},
        description=(
            "Beside `node` or `nodere`: labels of the node (`[general] labels`) that must all"
            ' match, as globs: `{"role": "edge", "site": "fra*"}`. A label that the node lacks does'
            " not match."
        ),
    )
    issued_at: Moment | None = Field(
        None,
        description=(
            "When the request was made, RFC 3339; one older than `[general] maxage` has expired."
        ),
    )
    dryrun: bool = Field(
        False, description="Capture nothing: answer what would be captured, or why not."
    )
    interfaces: Names = Field(
        (),
        alias="interface",
        description="Interfaces to capture on. Exactly one of `interface` and `alias`.",
    )
    aliases: Names = Field(
        (),
        alias="alias",
        description="Aliases from the configuration; one alias may stand for several interfaces.",
    )
    tags: Text | None = Field(None, description="Comma separated; they go along with the savefile.")
    capture_filter: str | None = Field(
        None, alias="bpf", description="Capture filter, see pcap-filter(7). Absent: every packet."
    )
    customer: Text | None = Field(None, description="Becomes the tag `customer:...`.")
    alert_id: int | None = Field(
        None,
        alias="alertid",
        ge=-_INT64,
        lt=_INT64,
        description="Becomes the tag `alertid:...`; 0 or absent: none.",
    )
    alert_text: Text | int | None = Field(
        None,
        alias="alertstr",
        description="Kept with the request; the original declared it and never used it.",
    )
    snaplen: Count | None = Field(
        None,
        alias="snap",
        description="Snapshot length in bytes; 0 or absent: `[general] snaplength`.",
    )
    packets: Annotated[int, Field(gt=0, lt=_INT64)] | None = Field(
        None,
        description=(
            "Stop after this many packets; at most `maxpackets`, which is also meant where it is"
            " absent."
        ),
    )
    idle_timeout: Count | None = Field(
        None,
        alias="timeout",
        description=(
            "Idle timeout in seconds: stop when no packet came for this long. 0 or absent:"
            " `defaulttimeout`; at most `maxtimeout`."
        ),
    )
    duration: Count | None = Field(
        None,
        description=(
            "Stop after this many seconds. 0 or absent: `maxduration`, which is also the most."
        ),
    )
    size: Count | None = Field(
        None,
        alias="bytes",
        description=(
            "Stop with the packet that reaches this size of the file, headers counted (24, and 16 a"
            " packet). 0 or absent: `maxbytes`, which is also the most."
        ),
    )
    lookback: Count | None = Field(
        None,
        description=(
            "Begin the savefile this many seconds before the request, where a recorder of the"
            " interface (`[[recorder]]`) has them; at most `maxlookback`. What is limited above"
            " counts from the request on."
        ),
    )
    format: Format | None = Field(None, description="Of the savefile; absent: `[general] format`.")
    merge: bool = Field(
        False,
        description=(
            "Of several interfaces make one savefile, in one order of time and with one limit over"
            " all; it is pcapng."
        ),
    )
    compress: Compression | None = Field(
        None,
        description=(
            "How the savefile is compressed while it is delivered; absent: `[general] compress`."
        ),
    )
    packet_debug: bool = Field(
        False,
        alias="packetdebug",
        description=(
            "Log one line of metadata per captured packet; needs `[general] allow_packetdebug ="
            " true`."
        ),
    )
    comment: Text | None = Field(
        None,
        description="A remark that goes along with the savefile, where the destination takes one.",
    )
    reply_to: Text | None = Field(
        None,
        description=(
            "Where results go: one of the channels, topics and queues for `results` that the"
            " configuration names, or `webhook`. Absent: to the bus that the request came on, and"
            " to the webhook."
        ),
    )
    reply_events: Annotated[tuple[ResultKind, ...], Field(strict=False, max_length=16)] | None = (
        Field(
            None, description="Which results are sent of this request; absent: `[results] events`."
        )
    )
    log_request: bool = Field(False, alias="logrequest", description="Log the request as it came.")
    folder: Text | None = Field(None, description="S3 only: the folder in the bucket.")
    bucket: Text | None = Field(None, description="S3 only.")
    acl: Text | None = Field(None, description="S3 only.")
    region: Text | None = Field(None, description="S3 only.")
    endpoint: Text | None = Field(None, description="S3 only.")
    encryption: bool = Field(False, description="S3 only: may switch encryption on, never off.")


ADDRESS = ("node", "nodere", "labels")
"""The fields of a message that say which nodes it is for."""

FIELDS = {field.alias or name: name for name, field in CaptureRequest.model_fields.items()}
"""Names in a message -> names in `CaptureRequest`."""

ON_THE_WIRE = {name: field for field, name in FIELDS.items()}
"""Names in `CaptureRequest` -> names in a message, for telling people what to mend."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a request.

    The message's own field name (empty: the whole), and what to do.
    """

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def addressed_to(fields: dict[str, Any], node: str, labels: Mapping[str, str]) -> bool:
    """Whether a message concerns this node.

    True also if that is unknown, because the message must then be answered.
    """
    wanted = fields.get("labels")
    if wanted and isinstance(wanted, dict) and not _labels_match(wanted, labels):
        return False
    name, pattern = fields.get("node"), fields.get("nodere")
    if name and not pattern and isinstance(name, str):
        return name in (node, "any")
    if pattern and not name and isinstance(pattern, str):
        try:
            return _compiled(pattern).search(node) is not None
        except re2.error:
            return True
    return True


def _labels_match(wanted: dict[str, Any], labels: Mapping[str, str]) -> bool:
    globs = (
        (name, glob) for name, glob in wanted.items() if isinstance(glob, str) and len(glob) <= 128
    )
    return all(name in labels and fnmatchcase(labels[name], glob) for name, glob in globs)


def validate(fields: Mapping[str, Any]) -> tuple[CaptureRequest, list[Problem]]:
    """The request made of all good fields, and everything that is wrong with the others."""
    problems = []
    try:
        request = CaptureRequest.model_validate(fields)
    except ValidationError as error:
        found = {str(e["loc"][0]): _problem(e) for e in reversed(error.errors(include_url=False))}
        problems = [found[name] for name in FIELDS if name in found]
        request = CaptureRequest.model_validate({k: v for k, v in fields.items() if k not in found})
    return request, problems + _contradictions(fields, request)


def unknown_fields(fields: Mapping[str, Any]) -> list[str]:
    """Names of a message that mean nothing here, as they came but for their case.

    Of many and of long ones not all.
    """
    found = [name[:64] for name in fields if name not in FIELDS]
    return (
        found
        if len(found) <= MOST_NAMED
        else [*found[:MOST_NAMED], f"and {len(found) - MOST_NAMED} more"]
    )


def new_id() -> str:
    """A name for a request that brings none: a ULID, so that names sort by time."""
    return str(ULID())


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a message, by the names that it has on the wire."""
    return CaptureRequest.model_json_schema(by_alias=True)


def _contradictions(fields: Mapping[str, Any], request: CaptureRequest) -> list[Problem]:
    problems = []
    for one, other in (("node", "nodere"), ("interface", "alias")):
        if fields.get(one) and fields.get(other):
            problems.append(Problem(one, f"give {one} or {other}, not both"))
        elif not fields.get(one) and not fields.get(other):
            problems.append(
                Problem(one, f"give {one} or {other}; without it no interface is named")
            )
    if request.node_pattern:
        problems += _pattern_problems(request.node_pattern)
    if request.id is not None and not request.id.isprintable():
        problems.append(Problem("id", "only printable characters are allowed"))
    if request.id in (".", ".."):
        problems.append(Problem("id", "can't be looked up: it is a step in a path"))
    return problems


def _pattern_problems(pattern: str) -> list[Problem]:
    try:
        _compiled(pattern)
    except re2.error as error:
        words = (
            error.args[0].decode("utf-8", "replace")
            if isinstance(error.args[0], bytes)
            else str(error)
        )
        return [Problem("nodere", f"not an RE2 expression: {words}")]
    return []


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    # Go's syntax, in linear time: Python's own `re` takes seconds over 27 characters of `(a+)+$`
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    return re2.compile(pattern, options)


def _problem(error: Any) -> Problem:
    path = ".".join(str(part) for part in error["loc"] if isinstance(part, int) or part in FIELDS)
    return Problem(path, _words(error))


def _words(error: Any) -> str:
    wanted = {
        "int_type": "an integer",
        "string_type": "a string",
        "bool_type": "true or false",
        "tuple_type": "an array of strings",
        "dict_type": "an object",
    }.get(error["type"])
    if wanted:
        return f"must be {wanted}, not {json_type(error['input'])}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{message[0].lower()}{message[1:]}"
