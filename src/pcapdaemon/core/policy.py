"""`[general]`: what this node allows, and what it takes for granted where a request says nothing.

Pure.
"""

from string import Formatter
from typing import Annotated, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from pcapdaemon.core.request import Compression, Format
from pcapdaemon.core.section import Section

Seconds = Annotated[int, Field(gt=0, le=366 * 86400)]
Strings = Annotated[tuple[str, ...], Field(strict=False)]


def _template(text: str) -> str:
    names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    if unknown := set(names) - {"node", "interface", "epoch", "id"}:
        raise ValueError(
            f"unknown {{{unknown.pop()}}}; known are {{node}}, {{interface}}, {{epoch}} and {{id}}"
        )
    if any(detail for _, _, *details in Formatter().parse(text) for detail in details):
        raise ValueError(
            "nothing but the name may stand in the braces: a shortened {id} would not be unique"
        )
    if not {"interface", "id"} <= set(names):
        raise ValueError(
            "must contain {interface} and {id}, else two captures would have the same name"
        )
    return text


Label = Annotated[str, Field(max_length=128)]


class Policy(Section):
    """Who this node is, limits and defaults of requests, and the local directory."""

    node: str = Field(
        "",
        max_length=255,
        description="The name that requests call this host by; empty: its host name.",
    )
    labels: dict[str, Label] = Field(
        {},
        description=(
            'What this node is, for `labels` in requests: `{role = "edge", site = "fra1"}`. Names'
            " in any case."
        ),
    )

    maxpackets: int = Field(
        50_000,
        gt=0,
        description="Most packets of a capture, and what is meant where a request names none.",
    )
    maxbytes: int = Field(
        100_000_000, gt=0, description="Most bytes of a savefile, headers counted."
    )
    maxduration: Seconds = Field(3600, description="Longest duration, seconds.")
    maxtimeout: Seconds = Field(3600, description="Longest idle timeout, seconds.")
    maxlookback: int = Field(60, ge=0, le=86400, description="Longest `lookback`, seconds.")
    share_recorder: bool = Field(
        True,
        description=(
            "Where an interface has a recorder that keeps enough of each packet, captures without"
            " `lookback` read from it too; `false`: they open the interface for themselves."
        ),
    )
    defaulttimeout: Seconds = Field(
        10, description="Idle timeout where a request names none, seconds."
    )
    snaplength: int = Field(
        500, gt=0, description="Snapshot length where a request names none, bytes."
    )
    maxfilter: int = Field(1024, gt=0, description="Longest capture filter, characters.")
    maxcaptures: int = Field(
        32, gt=0, le=1024, description="Captures at the same time, all interfaces counted."
    )
    memory: int = Field(
        256 * 1024**2,
        ge=4 * 1024**2,
        description=(
            "Bytes for packets in memory and the kernel's capture buffers, all captures together."
        ),
    )
    maxage: int = Field(
        60,
        ge=0,
        description=(
            "Older requests are refused as expired, seconds, by the broker's time or their"
            " `issued_at`; 0:"
            " any age."
        ),
    )
    dedupe: int = Field(
        600,
        ge=0,
        le=7 * 86400,
        description=(
            "A request that was accepted this many seconds ago is not captured again, from whatever"
            " source it comes; 0: only while it runs."
        ),
    )
    statedir: str | None = Field(
        None,
        description=(
            "Directory that remembers accepted requests over a restart. Absent: `$STATE_DIRECTORY`,"
            " which systemd sets; without that too they are forgotten."
        ),
    )
    rate: int = Field(
        0, ge=0, description="Requests accepted per minute, all together; 0: any number."
    )
    customer_rate: int = Field(
        0, ge=0, description="Requests accepted per minute for each `customer`; 0: any number."
    )
    coalesce: int = Field(
        0,
        ge=0,
        description=(
            "A request that equals one which began to run at most this many seconds ago, in"
            " interfaces, filter and snapshot length, joins it: the longest limits win, and both"
            " get the same result. 0: never."
        ),
    )
    interfaces: Strings = Field(
        (),
        description=(
            "Globs: only these may be captured on. Empty: network interfaces and `any`."
            " Pseudo-devices (nflog, usbmon0 ...) must be named."
        ),
    )
    filename: Annotated[str, AfterValidator(_template)] = Field(
        "{node}-{interface}-{epoch}-{id}.pcap", description="Name of a savefile."
    )
    format: Format = Field("pcap", description="Format of savefiles where a request names none.")
    compress: Compression = Field(
        "none", description="Compression of savefiles where a request names none."
    )
    packetdebug: bool = Field(
        False, description="Log one line of metadata per captured packet, for every request."
    )
    allow_packetdebug: bool = Field(False, description="A request's `packetdebug` is obeyed.")
    logrequests: bool = Field(False, description="Log every request as it came.")
    draintime: Seconds = Field(
        30, description="How long running captures and deliveries may take at shutdown, seconds."
    )

    @field_validator("node")
    @classmethod
    def _node_is_a_name(cls, node: str) -> str:
        if node == "any" or not node.isprintable() or node != node.strip():
            raise ValueError("must be a name of printable characters, and not `any`")
        return node

    @model_validator(mode="after")
    def _defaults_within_limits(self) -> Self:
        if self.defaulttimeout > self.maxtimeout:
            raise ValueError("defaulttimeout is longer than maxtimeout")
        return self
