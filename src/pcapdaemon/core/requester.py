"""Requesters, and what each may do on this node: `[[requester]]` and `[[group]]`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from pcapdaemon.core.fields import Format, Payload, Recipients
from pcapdaemon.core.policy import Seconds, Strings
from pcapdaemon.core.section import Section, one_or_several
from pcapdaemon.core.units import Bytes, Time

Right = Literal[
    "capture",
    "dryrun",
    "cancel",
    "cancel-all",
    "list",
    "list-all",
    "fetch",
    "fetch-all",
    "audit",
    "fleet",
]
OWN: tuple[Right, ...] = ("capture", "dryrun", "cancel", "list", "fetch")

UNSIGNED, LOCAL, HTTP = "unsigned", "local", "http"
"""Requesters without a proof: on a bus, on this host, and whoever has `[http] token`."""


class Rights(Section):
    """What a requester may do. An absent maximum is that of `[general]`."""

    may: Annotated[tuple[Right, ...], Field(strict=False), BeforeValidator(one_or_several)] = Field(
        OWN,
        description=(
            "What is allowed: `capture`, `dryrun`, and `cancel`, `list` and `fetch` for the"
            " requester's own requests. `cancel-all`, `list-all` and `fetch-all` are for those of"
            " everybody. `audit` is for reading the audit log over the API, and `fleet` for sending"
            " requests to other nodes with this node's key."
        ),
    )
    sources: Strings = Field(
        (), description="Globs of the sources that its messages may come from. Empty: any."
    )
    nodes: Strings = Field(
        (), description="Globs of the nodes on which it may do anything. Empty: any."
    )
    interfaces: Strings = Field(
        (),
        description=(
            "Globs of the interfaces that it may capture on, within `[general] interfaces`."
            " Empty: those. With it, pods, processes and other targets are not allowed, unless a"
            " glob matches the interface on the host."
        ),
    )
    filter: str = Field(
        "",
        max_length=1024,
        description=(
            "Capture filter that a packet must match besides that of the request. It is a program"
            " of its own, so no request can change what it means. Write what is allowed"
            " (`net 10.0.0.0/8`), because a filter of what is not allowed says nothing about"
            " packets that it does not understand."
        ),
    )
    payload: Payload = Field(
        "full",
        description=(
            "`headers`: each packet is cut after its transport header, before it is stored."
        ),
    )
    maxpackets: int | None = Field(None, gt=0, description="Most packets of a capture.")
    maxbytes: Bytes | None = Field(None, gt=0, description="Most bytes of a savefile.")
    maxduration: Seconds | None = Field(None, description="Longest duration in seconds.")
    maxtimeout: Seconds | None = Field(None, description="Longest idle timeout in seconds.")
    maxlookback: Time | None = Field(
        None, ge=0, le=86400, description="Longest `lookback` in seconds. 0: none."
    )
    snaplength: Bytes | None = Field(
        None, gt=0, description="Most bytes of each packet. Requests for more get this."
    )
    maxcaptures: int | None = Field(
        None, gt=0, description="Most captures of this requester at the same time."
    )
    rate: int = Field(0, ge=0, description="Most requests accepted per minute. 0: any number.")
    daily_captures: int = Field(
        0, ge=0, description="Most captures in a day, in UTC. 0: any number."
    )
    daily_bytes: Bytes = Field(
        0,
        ge=0,
        description="No capture begins after savefiles of this many bytes in a day. 0: any.",
    )
    destinations: Strings = Field(
        (),
        description=(
            "The destinations that its savefiles may go to. Without `destinations` in the request,"
            " they go to all of these. Empty: any."
        ),
    )
    formats: Annotated[tuple[Format, ...], Field(strict=False), BeforeValidator(one_or_several)] = (
        Field((), description="Formats of savefiles that it may ask for. Empty: any.")
    )
    encrypt_to: Recipients = Field(
        (), description="Recipients (age) for whom its savefiles are encrypted, besides others."
    )
    reply_to: Strings = Field(
        (), description="Places for results that its requests may name. Empty: any."
    )


class Requester(Rights):
    """One `[[requester]]`."""

    name: str = Field(
        pattern=r"^(trigger:[A-Za-z0-9._*-]{1,56}|[A-Za-z0-9][A-Za-z0-9._-]{0,63})$",
        description=(
            "What logs and records call it. `unsigned` is whoever sends messages without a"
            " signature on a bus, `http` has the token of `[http]`, `local` is any user of this"
            " host, and `trigger:NAME` is a trigger."
        ),
    )
    group: str = Field(
        "", description="The `[[group]]` whose rights count where this requester has none itself."
    )
    keys: Strings = Field(
        (), description="SSH public keys that sign its messages, `ssh-ed25519 AAAA... NAME`."
    )
    authorities: Strings = Field(
        (),
        description=(
            "Public keys of SSH certificate authorities. A key with a certificate from one of"
            " them signs for this requester too."
        ),
    )
    principals: Strings = Field(
        (), description="A certificate must name one of these. Empty: the requester's name."
    )
    until: str = Field(
        "",
        description="The last day on which its keys and tokens are valid, as `2027-06-30`, in UTC.",
    )
    tokens: Strings = Field(
        (),
        description=(
            "Bearer tokens for the API, as `pcapdaemon keys token` prints them: `sha256:...`."
            " Several are valid at once, so that one can be replaced."
        ),
    )
    users: Strings = Field(
        (), description="Users of this host, by name or number, on the socket of `[http] socket`."
    )
    certificates: Strings = Field(
        (), description="Names in certificates of TLS clients, see `[http] client_ca_file`."
    )
    subjects: Strings = Field((), description="Globs of the subjects of OIDC tokens, see `[oidc]`.")


class Group(Rights):
    """One `[[group]]`: rights that several requesters share."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="What requesters call it.")


@dataclass(frozen=True, slots=True)
class Standing:
    """Who sent a message, and what it says.

    `requester` is empty, and `rights` is None, if this node knows no requesters: everything is
    allowed then. `key` is the fingerprint of the key that signed at `issued_at`, in seconds since
    the epoch. `fields` are those that count.
    """

    fields: dict[str, Any]
    requester: str = ""
    rights: Rights | None = None
    key: str = ""
    warnings: tuple[str, ...] = ()
    issued_at: float = 0.0

    @property
    def is_signed(self) -> bool:
        """Whether a signature says who sent it."""
        return bool(self.key)


def may(rights: Rights | None, right: Right, owner: str = "", requester: str = "") -> bool:
    """Return whether rights allow something, for a request of `owner`."""
    if rights is None or (right in rights.may and owner == requester):
        return True
    return f"{right}-all" in rights.may


def matches(globs: Sequence[str], name: str) -> bool:
    """Return whether one of the globs matches a name; none matches everything."""
    return not globs or any(fnmatchcase(name, glob) for glob in globs)
