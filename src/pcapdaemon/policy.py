"""`[general]`: what this node allows, and what it takes for granted where a request says nothing. Pure."""

from string import Formatter
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from pcapdaemon.section import Section

Seconds = Annotated[int, Field(gt=0, le=366 * 86400)]
Strings = Annotated[tuple[str, ...], Field(strict=False)]


def _template(text: str) -> str:
    names = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    if unknown := set(names) - {"node", "interface", "epoch", "id"}:
        raise ValueError(f"unknown {{{unknown.pop()}}}; known are {{node}}, {{interface}}, {{epoch}} and {{id}}")
    if any(detail for _, _, *details in Formatter().parse(text) for detail in details):
        raise ValueError("nothing but the name may stand in the braces: a shortened {id} would not be unique")
    if not {"interface", "id"} <= set(names):
        raise ValueError("must contain {interface} and {id}, else two captures would have the same name")
    return text


class General(Section):
    """Limits and defaults of requests, and the local directory."""

    maxpackets: int = Field(50_000, gt=0, description="Most packets of a capture, and what is meant where a request names none.")
    maxbytes: int = Field(100_000_000, gt=0, description="Most bytes of a savefile, headers counted.")
    maxduration: Seconds = Field(3600, description="Longest duration, seconds.")
    maxtimeout: Seconds = Field(3600, description="Longest idle timeout, seconds.")
    defaulttimeout: Seconds = Field(10, description="Idle timeout where a request names none, seconds.")
    snaplength: int = Field(500, gt=0, description="Snapshot length where a request names none, bytes.")
    maxfilter: int = Field(1024, gt=0, description="Longest capture filter, characters.")
    maxcaptures: int = Field(32, gt=0, le=1024, description="Captures at the same time, all interfaces counted.")
    memory: int = Field(
        256 * 1024**2,
        ge=4 * 1024**2,
        description="Bytes for packets in memory and the kernel's capture buffers, all captures together.",
    )
    interfaces: Strings = Field(
        (),
        description="Globs: only these may be captured on. Empty: network interfaces and `any`. Pseudo-devices (nflog, "
        "usbmon0 ...) must be named.",
    )
    filename: Annotated[str, AfterValidator(_template)] = Field(
        "{node}-{interface}-{epoch}-{id}.pcap", description="Name of a savefile."
    )
    packetdebug: bool = Field(False, description="Log one line of metadata per captured packet, for every request.")
    allow_packetdebug: bool = Field(False, description="A request's `packetdebug` is obeyed.")
    logrequests: bool = Field(False, description="Log every request as it came.")
    draintime: Seconds = Field(30, description="How long running captures and deliveries may take at shutdown, seconds.")

    @model_validator(mode="after")
    def _defaults_within_limits(self) -> Self:
        if self.defaulttimeout > self.maxtimeout:
            raise ValueError("defaulttimeout is longer than maxtimeout")
        return self
