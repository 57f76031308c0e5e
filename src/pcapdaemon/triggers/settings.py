"""`[[trigger]]`: which alerts start which captures."""

import re
from functools import cached_property
from typing import Annotated, Any, Literal

import re2
from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from pcapdaemon.core.match import Matcher, Matches, matchers_of
from pcapdaemon.core.paths import LONGEST_PATH
from pcapdaemon.core.section import Section, one_or_several
from pcapdaemon.core.units import Time
from pcapdaemon.secrets import HeaderSecret
from pcapdaemon.triggers.template import RULES, template_problems

Path = Annotated[str, Field(min_length=1, max_length=LONGEST_PATH)]
Names = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    Field(strict=False, max_length=64),
    BeforeValidator(one_or_several, json_schema_input_type=str | list[str]),
]
FlowPaths = dict[Literal["src", "sport", "dst", "dport", "proto"], Path]

BUSES = {
    "channel": ("redis", "redis"),
    "stream": ("redis-stream", "redis"),
    "topic": ("kafka", "kafka"),
    "queue": ("sqs", "sqs"),
}
"""For each key of a trigger that names a place on a bus: the source, and its section."""

WAYS = ("file", "socket", "syslog", *BUSES)
"""The keys that say where alerts come from besides HTTP; a trigger has at most one."""

_SYSLOG = re.compile(r"(udp|tcp)://(?:\[([0-9A-Fa-f:.]+)\]|([^:/\[\]]+)):([0-9]{1,5})", re.ASCII)


class TriggerSettings(Section):
    """One `[[trigger]]`: alerts of one kind, from one place, that start captures."""

    name: str = Field(
        pattern=r"^[a-z0-9-]{1,32}$",
        description="Its name, in the URL `/triggers/NAME`, in ids, logs and metrics.",
    )
    kind: Literal[
        "alertmanager",
        "grafana",
        "falco",
        "suricata",
        "zeek",
        "cloudevents",
        "snmp",
        "syslog",
        "json",
    ] = Field(description="Which system the alerts are from, or `json` for any other.")
    file: str | None = Field(
        None,
        min_length=1,
        description=(
            "A file to follow, with an alert on each line. It may contain `%Y`, `%m`, `%d` and"
            " `%H`."
        ),
    )
    socket: str | None = Field(
        None,
        min_length=1,
        description="A Unix socket to listen on, for datagrams, or for streams of lines.",
    )
    socket_type: Literal["stream", "datagram"] = Field(
        "stream", description="Whether the socket is for streams of lines or for datagrams."
    )
    syslog: str | None = Field(
        None, description="Where to receive syslog: `udp://ADDRESS:PORT` or `tcp://ADDRESS:PORT`."
    )
    channel: Names = Field((), description="Channels of `[redis]` to subscribe to.")
    stream: str | None = Field(None, min_length=1, description="A stream of `[redis]` to read.")
    topic: Names = Field((), description="Topics of `[kafka]` to read.")
    queue: str | None = Field(None, min_length=1, description="A queue of `[sqs]`, as its URL.")
    token: HeaderSecret | None = Field(
        None,
        min_length=8,
        description=(
            "Token that senders over HTTP must have: as bearer, as password with any user, or as"
            " `?access_token=`. Absent: as `[http]`."
        ),
    )
    secret: SecretStr | None = Field(
        None, min_length=8, description="Key of the signature that each message must have."
    )
    signature: Literal["grafana", "standard-webhooks", "github", "pagerduty"] | None = Field(
        None, description="How messages are signed with `secret`."
    )
    timestamp_header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description=(
            "Grafana only: the header with the time that is signed too. Without it, a recorded"
            " message can be sent again."
        ),
    )
    match: Matches = Field(
        {},
        description=(
            "Paths and what must be there, all of them: a glob, a number, true or false, a"
            " comparison (`<=2`), not a glob (`!=x`), or an array of which one must fit."
        ),
    )
    resolved: Matches = Field(
        {}, description="Like `match`: which alerts say that the cause is over."
    )
    pattern: str | None = Field(
        None,
        max_length=1024,
        description=(
            "RE2 expression for `message`. Its named groups become fields. An alert without a match"
            " is skipped."
        ),
    )
    each: Path | None = Field(
        None, description="The path of the array with alerts. Absent: the whole message is one."
    )
    key: Path | None = Field(
        None, description="The path of what identifies an alert. Absent: as the kind says."
    )
    at: Path | None = Field(
        None, description="The path of the time of the alert. Absent: as the kind says."
    )
    since: Path | None = Field(
        None,
        description="The path of the time when the cause began. Absent: as the kind says.",
    )
    flow_from: FlowPaths = Field(
        {},
        description=(
            "The paths of `src`, `sport`, `dst`, `dport` and `proto`. Absent: as the kind says."
        ),
    )
    flow: Literal["required", "optional", "host", "none"] = Field(
        "optional",
        description=(
            "Capture only packets of the alert's flow: `required` refuses alerts without one,"
            " `host` uses only the addresses, `none` ignores it."
        ),
    )
    lookback: Time | None = Field(
        None,
        ge=0,
        le=86400,
        description=(
            "Begin the savefile this many seconds before the alert's own time, or before its cause"
            " began if it says when. Absent: no packets from before."
        ),
    )
    cooldown: Time = Field(
        600,
        ge=0,
        le=7 * 86400,
        description="The same alert again within this many seconds starts nothing.",
    )
    maxage: Time = Field(
        3600,
        ge=0,
        description="An alert older than this many seconds starts nothing. 0: any age.",
    )
    rate: int = Field(10, ge=1, le=10_000, description="Most captures that it starts per minute.")
    most: int = Field(
        10, ge=1, le=1000, description="Most alerts of one message that are looked at."
    )
    on_resolved: Literal["nothing", "stop"] = Field(
        "nothing", description="`stop` ends the captures of an alert that is resolved."
    )
    send: Literal["self", "redis", "kafka", "sqs"] = Field(
        "self",
        description="Whether this node captures, or the request is sent on a bus, for any node.",
    )
    request: dict[str, Any] = Field(
        {},
        description=(
            "The request: fields of a message. Texts in these may contain `{path}`: "
            f"{', '.join(f'`{name}`' for name in RULES)}."
        ),
    )

    @field_validator("pattern")
    @classmethod
    def _pattern_is_one(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            _compiled(pattern)
        return pattern

    @field_validator("syslog")
    @classmethod
    def _syslog_is_an_address(cls, syslog: str | None) -> str | None:
        if syslog is not None:
            _syslog_address(syslog)
        return syslog

    @model_validator(mode="after")
    def _fits_together(self) -> "TriggerSettings":
        ways = [way for way in WAYS if getattr(self, way)]
        if any("\0" in str(getattr(self, way)) for way in ways):
            raise ValueError(f"{ways[0]}: must not contain a NUL character")
        if self.lookback is not None and "lookback" in self.request:
            raise ValueError("give lookback in the trigger or in its request, not in both")
        if len(ways) > 1:
            raise ValueError(f"alerts come from one place; give one of {', '.join(ways)}")
        if (self.secret is None) != (self.signature is None):
            raise ValueError("give secret and signature together, or neither")
        if self.timestamp_header and self.signature != "grafana":
            raise ValueError('timestamp_header is for signature = "grafana"')
        if self.pattern and self.kind not in ("syslog", "json"):
            raise ValueError("pattern is for kind syslog or json")
        if problems := template_problems(self.request):
            raise ValueError("; ".join(f"request.{one}" for one in problems))
        return self

    @property
    def way(self) -> str:
        """The key that says where alerts come from besides HTTP, or ""."""
        return next((way for way in WAYS if getattr(self, way)), "")

    @property
    def is_protected(self) -> bool:
        """Whether senders over HTTP must prove something else than the token of the API."""
        return self.token is not None or self.secret is not None

    @cached_property
    def matchers(self) -> tuple[Matcher, ...]:
        """The table `match`, in its order."""
        return matchers_of(self.match)

    @cached_property
    def resolved_matchers(self) -> tuple[Matcher, ...]:
        """The table `resolved`, in its order."""
        return matchers_of(self.resolved)

    @cached_property
    def expression(self) -> Any:
        """The pattern, compiled; None if there is none."""
        return _compiled(self.pattern) if self.pattern is not None else None

    @property
    def syslog_address(self) -> tuple[str, str, int]:
        """The protocol, address and port of `syslog`."""
        return _syslog_address(self.syslog or "")


def _syslog_address(text: str) -> tuple[str, str, int]:
    found = _SYSLOG.fullmatch(text)
    if found is None or not 0 < int(found[4]) <= 65535:
        raise ValueError("must look like udp://127.0.0.1:5514 or tcp://[::1]:5514")
    return found[1], found[2] or found[3], int(found[4])


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        found = re2.compile(pattern, options)
    except re2.error as error:
        words = error.args[0]
        text = words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)
        raise ValueError(f"not a valid RE2 expression: {text}") from None
    if not found.groupindex:
        raise ValueError("has no named group, as (?P<src>[0-9.]+)")
    return found
