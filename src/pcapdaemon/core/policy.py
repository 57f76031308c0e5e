"""`[general]`: what this node allows, and the defaults of requests. Pure."""

from string import Formatter
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from pcapdaemon.core.fields import Compression, Format, Recipients
from pcapdaemon.core.section import Section, one_or_several
from pcapdaemon.core.units import Bytes, Time

Seconds = Annotated[Time, Field(gt=0, le=366 * 86400)]
Strings = Annotated[tuple[str, ...], Field(strict=False), BeforeValidator(one_or_several)]
"""An array of strings, or a string where one is meant."""


def _template(text: str) -> str:
    names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    if unknown := set(names) - {"node", "interface", "target", "epoch", "id"}:
        raise ValueError(
            f"unknown {{{unknown.pop()}}}; use {{node}}, {{interface}}, {{target}}, {{epoch}} and"
            " {id}"
        )
    if any(detail for _, _, *details in Formatter().parse(text) for detail in details):
        raise ValueError(
            "braces must contain only a name, because a shortened {id} would not be unique"
        )
    if not {"interface", "id"} <= set(names):
        raise ValueError(
            "must contain {interface} and {id}, or two captures could have the same name"
        )
    return text


Label = Annotated[str, Field(max_length=128)]


class Policy(Section):
    """The name of this node, and the limits and defaults of requests."""

    node: str = Field(
        "",
        max_length=255,
        description="The name of this node in requests. Empty: its host name.",
    )
    labels: dict[str, Label] = Field(
        {},
        description=(
            'Labels of this node, for `labels` in requests: `{role = "edge", site = "fra1"}`.'
            " Names match without regard to case."
        ),
    )

    maxpackets: int = Field(
        50_000,
        gt=0,
        description="Most packets of a capture, and the default.",
    )
    maxbytes: Bytes = Field(
        100_000_000,
        gt=0,
        description="Most bytes of a savefile, including headers, and the default.",
    )
    maxduration: Seconds = Field(3600, description="Longest duration in seconds, and the default.")
    maxtimeout: Seconds = Field(3600, description="Longest idle timeout in seconds.")
    maxlookback: Time = Field(120, ge=0, le=86400, description="Longest `lookback` in seconds.")
    share_recorder: bool = Field(
        True,
        description=(
            "If an interface has a recorder that keeps enough of each packet, captures without"
            " `lookback` read from it too. `false`: they open the interface themselves."
        ),
    )
    defaulttimeout: Seconds = Field(
        10, description="Idle timeout in seconds if a request names none."
    )
    snaplength: Bytes = Field(
        500, gt=0, description="Snapshot length in bytes if a request names none."
    )
    maxfilter: int = Field(1024, gt=0, description="Longest capture filter in characters.")
    filter_names: bool = Field(
        False,
        description=(
            "Whether capture filters may contain names of hosts and networks, which this node then"
            " looks up. Names of ports and protocols are always allowed."
        ),
    )
    exclude: str | None = Field(
        None,
        max_length=1024,
        description=(
            "Packets that no capture and no recorder keeps, as a capture filter, for example"
            " `host 192.0.2.7 and tcp port 443` for uploads. Absent: the API's port if it has a"
            " token, because requests contain the token. Empty: none."
        ),
    )
    signatures: Literal["off", "warn", "require"] = Field(
        "off",
        description=(
            "Whether messages on a bus must be signed. `warn`: those without a valid signature are"
            " taken with a warning. `require`: they are refused, unless a `[[requester]]` is named"
            " `unsigned`."
        ),
    )
    encrypt_to: Recipients = Field(
        (),
        description=(
            "Recipients (age) for whom every savefile is encrypted, as `age1...` or"
            " `ssh-ed25519 AAAA...`. Its name then ends in `.age`."
        ),
    )
    maxcaptures: int = Field(
        32, gt=0, le=1024, description="Most captures at the same time, on all interfaces together."
    )
    memory: Bytes = Field(
        256 * 1024**2,
        ge=4 * 1024**2,
        description=(
            "Most bytes of memory for packets and the kernel's capture buffers, of all captures"
            " together."
        ),
    )
    maxage: Time = Field(
        60,
        ge=0,
        description=(
            "Requests older than this many seconds are rejected as expired. Their age is by the"
            " broker's time or their `issued_at`. 0: any age."
        ),
    )
    dedupe: Time = Field(
        600,
        ge=0,
        le=7 * 86400,
        description=(
            "A request that was accepted within this many seconds is not captured again, whichever"
            " source it comes from. 0: only while it runs."
        ),
    )
    statedir: str | None = Field(
        None,
        description=(
            "Directory that keeps accepted requests across restarts. Absent: `$STATE_DIRECTORY`,"
            " which systemd sets. Without either, a restart forgets them."
        ),
    )
    rate: int = Field(
        0, ge=0, description="Most requests accepted per minute, in total. 0: any number."
    )
    customer_rate: int = Field(
        0, ge=0, description="Most requests accepted per minute for each `customer`. 0: any number."
    )
    coalesce: Time = Field(
        0,
        ge=0,
        description=(
            "A request joins one that began to run at most this many seconds ago, if both have the"
            " same interfaces, filter, snapshot length, and form and place of the savefile. The"
            " longest limits win, and both receive the same result. At most 32 join. 0: never."
        ),
    )
    interfaces: Strings = Field(
        (),
        description=(
            "Globs of the interfaces that may be captured on. Empty: network interfaces and `any`."
            " Pseudo-devices (nflog, usbmon0 ...) must be named."
        ),
    )
    filename: Annotated[str, AfterValidator(_template)] = Field(
        "{node}-{interface}-{epoch}-{id}.pcap",
        description=(
            "Name of a savefile. It must contain `{interface}` and `{id}`, and may contain"
            " `{node}`, `{epoch}` and `{target}` (the pod, or without one the interface)."
        ),
    )
    format: Format = Field("pcap", description="Format of savefiles if a request names none.")
    sha256: bool = Field(
        False,
        description=(
            "Report the SHA-256 of every savefile, as if every request asked for it. It takes about"
            " as much CPU as the capture."
        ),
    )
    compress: Compression = Field(
        "none", description="Compression of savefiles if a request names none."
    )
    packetdebug: bool = Field(
        False, description="Log one line of metadata per captured packet, for every request."
    )
    allow_packetdebug: bool = Field(False, description="Whether requests may set `packetdebug`.")
    logrequests: bool = Field(False, description="Log every request as received.")
    draintime: Seconds = Field(
        30,
        description="Longest time in seconds for running captures and deliveries at shutdown.",
    )

    @field_validator("node")
    @classmethod
    def _node_is_a_name(cls, node: str) -> str:
        if node == "any" or not node.isprintable() or node != node.strip():
            raise ValueError(
                "must have only printable characters, no space at either end, and not be `any`"
            )
        return node

    @model_validator(mode="after")
    def _defaults_within_limits(self) -> Self:
        if self.defaulttimeout > self.maxtimeout:
            raise ValueError(
                f"defaulttimeout ({self.defaulttimeout}) must be at most maxtimeout"
                f" ({self.maxtimeout})"
            )
        return self
