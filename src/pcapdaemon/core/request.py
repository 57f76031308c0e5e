"""CaptureRequest, made from untrusted JSON. Pure.

The short names of the original's message are defined here. Only addressing.py uses them too.

A message is read in steps, so that one for another node costs as little as possible, and a bad one
is answered with all its problems at once: `read` (JSON as strict as Go's, in message.py),
`addressed_to` (is it for this node? in addressing.py), `validate`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ulid import ULID

from pcapdaemon.core.addressing import LONGEST_PATTERN, pattern_problems
from pcapdaemon.core.cause import Cause
from pcapdaemon.core.fields import (
    INT64,
    Addresses,
    Compression,
    Format,
    Label,
    Moment,
    Names,
    Payload,
    Recipients,
    ResultKind,
    Seconds,
    Size,
    Text,
)
from pcapdaemon.core.flow import Flow, FlowField
from pcapdaemon.core.message import alert_of
from pcapdaemon.core.section import in_words
from pcapdaemon.core.target import (
    Asked,
    Pods,
    Processes,
    TargetNames,
    Units,
    is_implied,
    target_problems,
)

MAX_ID = 128
MOST_NAMED = 10
"""Most unknown fields that a warning names."""


class CaptureRequest(BaseModel):
    """A request to capture packets, as received, without the node's defaults and limits.

    `None` means absent, or the empty value that Go's decoder left for an absent field.
    """

    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", title="pcapdaemon capture request"
    )

    id: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_ID,
        description=(
            "Identifies the request in logs, files and answers. Must have only printable"
            " characters. Absent: a generated ULID."
        ),
    )
    node: Text | None = Field(
        None,
        description="Exact name of the node, or `any`. Give exactly one of `node` and `nodere`.",
    )
    node_pattern: Annotated[str, Field(max_length=LONGEST_PATTERN)] | None = Field(
        None,
        alias="nodere",
        description=(
            "RE2 expression for names of nodes. It is unanchored (`web` matches `web12`) and"
            " case-sensitive."
        ),
    )
    labels: Annotated[dict[Label, Label], Field(max_length=16)] = Field(
        {},
        description=(
            "In addition to `node` or `nodere`: globs that the labels of the node (`[general]"
            ' labels`) must all match, as in `{"role": "edge", "site": "fra*"}`. A label that the'
            " node lacks does not match."
        ),
    )
    addresses: Addresses = Field(
        (),
        description=(
            "In addition: the request is only for nodes that have one of these addresses, or an"
            " address in one of these networks, on an interface."
        ),
    )
    issued_at: Moment | None = Field(
        None,
        description=(
            "When the request was made, in RFC 3339. A request older than `[general] maxage` has"
            " expired."
        ),
    )
    dryrun: bool = Field(
        False, description="Capture nothing. The answer says what would be captured, or why not."
    )
    interfaces: Names = Field(
        (),
        alias="interface",
        description=(
            "Interfaces to capture on. Give `interface`, `alias`, or one of the fields that name a"
            " target: `pod`, `container`, `netns`, `process`, `unit`."
        ),
    )
    aliases: Names = Field(
        (),
        alias="alias",
        description="Aliases from the configuration. An alias can mean several interfaces.",
    )
    pods: Pods = Field(
        (),
        alias="pod",
        description=(
            'Kubernetes pods as "NAMESPACE/NAME", which may have globs. Only nodes that run one of'
            " them capture, and `node` may be absent."
        ),
    )
    containers: TargetNames = Field(
        (),
        alias="container",
        description=(
            "With `pod`: only pods that have a container of this name. Without: the id of a"
            " container, or its first 12 digits or more."
        ),
    )
    netns: TargetNames = Field((), description="Named network namespaces, as in /run/netns.")
    processes: Processes = Field(
        (), alias="process", description="Processes: their numbers, or their names."
    )
    units: Units = Field((), alias="unit", description="Units of systemd.")
    inside: bool = Field(
        False,
        description=(
            "Capture in the network namespace of the target, on `interface` there (absent: on all"
            " of them), in place of the ends of its interfaces on the host. The node must allow it"
            " (`[targets] inside`)."
        ),
    )
    tags: Text | None = Field(None, description="Comma-separated tags of the savefile.")
    capture_filter: str | None = Field(
        None, alias="bpf", description="Capture filter, see pcap-filter(7). Absent: every packet."
    )
    flow: FlowField | None = Field(
        None,
        description=(
            "Only packets of a flow, in both directions: an object with `proto`, `src`, `sport`,"
            ' `dst` and `dport`, or an array of two endpoints, as `["192.0.2.1:443",'
            ' "198.51.100.7"]`. A packet may have up to two VLAN tags. `bpf` narrows it further.'
        ),
    )
    profile: Text | None = Field(
        None,
        description=(
            "A `[[profile]]` of the node: its fields count where the request does not have them."
        ),
    )
    customer: Text | None = Field(None, description="Becomes the tag `customer:...`.")
    alert_id: Annotated[int, Field(ge=-INT64, lt=INT64)] | Text | None = Field(
        None,
        alias="alertid",
        description="Becomes the tag `alertid:...`. 0, empty or absent: no tag.",
    )
    alert_text: Text | int | None = Field(
        None,
        alias="alertstr",
        description="Kept with the request. The original declared it but never used it.",
    )
    snaplen: Size | None = Field(
        None,
        alias="snap",
        description="Snapshot length in bytes. 0 or absent: `[general] snaplength`.",
    )
    packets: Annotated[int, Field(gt=0, lt=INT64)] | None = Field(
        None,
        description=(
            "Stop after this many packets. Absent: `maxpackets`, which is also the maximum."
        ),
    )
    idle_timeout: Seconds | None = Field(
        None,
        alias="timeout",
        description=(
            "Idle timeout in seconds: stop when no packet arrives for this long. 0 or absent:"
            " `defaulttimeout`. The maximum is `maxtimeout`."
        ),
    )
    duration: Seconds | None = Field(
        None,
        description=(
            "Stop after this many seconds. 0 or absent: `maxduration`, which is also the maximum."
        ),
    )
    size: Size | None = Field(
        None,
        alias="bytes",
        description=(
            "Stop with the packet that brings the file to this size, including headers (24 bytes,"
            " and 16 per packet). 0 or absent: `maxbytes`, which is also the maximum."
        ),
    )
    lookback: Seconds | None = Field(
        None,
        description=(
            "Begin the savefile this many seconds before the request, if a recorder of the"
            " interface (`[[recorder]]`) has them. The maximum is `maxlookback`. The limits above"
            " count from the request on."
        ),
    )
    since: Moment | None = Field(
        None,
        description=(
            "Begin the savefile at this moment, in RFC 3339, in place of `lookback`: a delay on the"
            " way does not move it. What is more than `maxlookback` ago is left out, and the"
            " result says so."
        ),
    )
    until: Moment | None = Field(
        None,
        description=(
            "End the savefile at this moment, in RFC 3339, if no other limit ends it before. With"
            " `since` or `lookback` it may lie in the past: then only packets from the recorder are"
            " captured."
        ),
    )
    format: Format | None = Field(
        None, description="Format of the savefile. Absent: `[general] format`."
    )
    merge: bool = Field(
        False,
        description=(
            "Write all interfaces to one pcapng savefile, in order of time. Each limit counts for"
            " all of them together."
        ),
    )
    sha256: bool = Field(
        False,
        description=(
            "Report the SHA-256 of the savefile. Otherwise it is empty, unless `[general] sha256`"
            " is set or the savefile is in the spool."
        ),
    )
    compress: Compression | None = Field(
        None,
        description=(
            "How the savefile is compressed when its capture ends. Absent: `[general] compress`."
        ),
    )
    payload: Payload | None = Field(
        None,
        description="`headers`: cut each packet after its transport header, before it is stored.",
    )
    encrypt_to: Recipients = Field(
        (),
        description="Recipients (age) for whom the savefile is encrypted, besides the node's.",
    )
    packet_debug: bool = Field(
        False,
        alias="packetdebug",
        description="Log one line of metadata per packet, if `[general] allow_packetdebug` is set.",
    )
    cause: Cause | None = Field(
        None,
        description=(
            "What caused the request: an object with `system`, `id`, `url` and `title`. The record,"
            " results, tags and the comment of a pcapng savefile have it."
        ),
    )
    destinations: Names = Field(
        (),
        description=(
            "Only these destinations get the savefile, such as `local` or `s3`. Absent: all that"
            " the node has turned on."
        ),
    )
    comment: Text | None = Field(
        None,
        description="A remark for the savefile, if the destination supports one.",
    )
    reply_to: Text | None = Field(
        None,
        description=(
            "Where results go: a channel, topic or queue that the configuration names in"
            " `results`, or `webhook`. Absent: the bus that the request came on, and the webhook."
        ),
    )
    reply_events: Annotated[tuple[ResultKind, ...], Field(strict=False, max_length=16)] | None = (
        Field(
            None, description="Which results of this request are sent. Absent: `[results] events`."
        )
    )
    log_request: bool = Field(False, alias="logrequest", description="Log the request as received.")
    folder: Text | None = Field(None, description="S3 only: the folder in the bucket.")
    bucket: Text | None = Field(None, description="S3 only: the bucket.")
    acl: Text | None = Field(None, description="S3 only: the canned ACL.")
    region: Text | None = Field(None, description="S3 only: the region.")
    endpoint: Text | None = Field(None, description="S3 only: the endpoint.")
    encryption: bool = Field(False, description="S3 only: can turn encryption on, but not off.")

    @property
    def targets(self) -> Asked | None:
        """What it is aimed at besides interfaces, or None."""
        named = (self.pods, self.containers, self.netns, self.processes, self.units)
        return Asked(*named, self.inside, self.interfaces) if any(named) else None


ADDRESS = ("node", "nodere", "labels", "addresses")
"""The fields of a message that say which nodes it is for."""

FIELDS = {field.alias or name: name for name, field in CaptureRequest.model_fields.items()}
"""Names in a message -> names in `CaptureRequest`."""

ON_THE_WIRE = {name: field for field, name in FIELDS.items()}
"""Names in `CaptureRequest` -> names in a message, for messages to people."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a request.

    `field` is its name in the message, or empty for the whole message. `message` says what is
    wrong, and what to do.
    """

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


def validate(fields: Mapping[str, Any]) -> tuple[CaptureRequest, list[Problem]]:
    """Return the request made of all valid fields, and all problems with the others."""
    problems = []
    try:
        request = CaptureRequest.model_validate(fields)
    except ValidationError as error:
        found = {str(e["loc"][0]): _problem(e) for e in reversed(error.errors(include_url=False))}
        problems = [found[name] for name in FIELDS if name in found]
        request = CaptureRequest.model_validate({k: v for k, v in fields.items() if k not in found})
    return request, problems + _contradictions(fields, request)


def unknown_fields(fields: Mapping[str, Any]) -> list[str]:
    """Return the names of a message's unknown fields, in lower case, at most MOST_NAMED.

    Long names are cut.
    """
    return list(islice((name[:64] for name in fields if name not in FIELDS), MOST_NAMED))


def new_id() -> str:
    """Return an id for a request that has none: a ULID, so that ids sort by time."""
    return str(ULID())


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a message, with the names on the wire."""
    return CaptureRequest.model_json_schema(by_alias=True)


def _contradictions(fields: Mapping[str, Any], request: CaptureRequest) -> list[Problem]:
    problems = []
    for one, other in (("node", "nodere"), ("interface", "alias")):
        if fields.get(one) and fields.get(other):
            problems.append(Problem(one, f"give {one} or {other}, not both"))
        elif not fields.get(one) and not fields.get(other) and not is_implied(one, fields):
            product = alert_of(fields) if one == "node" else ""
            looks = f"; this looks like {product}, not like a request" if product else ""
            problems.append(Problem(one, f"must be present; give {one} or {other}{looks}"))
    problems += [Problem(*one) for one in target_problems(fields)]
    if request.lookback and request.since:
        problems.append(Problem("since", "give lookback or since, not both"))
    if request.node_pattern:
        problems += [Problem("nodere", words) for words in pattern_problems(request.node_pattern)]
    if request.id is not None and not request.id.isprintable():
        problems.append(Problem("id", "must have only printable characters"))
    if request.id in (".", ".."):
        problems.append(
            Problem("id", "must not be . or .., because it is part of the path of a URL")
        )
    return problems


def _problem(error: Any) -> Problem:
    known = (*FIELDS, *Flow.model_fields, *Cause.model_fields)
    path = ".".join(str(part) for part in error["loc"] if isinstance(part, int) or part in known)
    return Problem(path, in_words(error))
