"""A flow: the ends of a conversation, and the capture filter for its packets. Pure.

The filter consists only of addresses, numbers and words of this file, whatever a message says. What
is not understood is refused: leaving it out would widen the capture.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

WITH_PORTS = ("tcp", "udp", "sctp")

_ENDPOINT = re.compile(r"\[([^\]]+)\](?::([0-9]{1,5}))?|([^:\[\]]+)(?::([0-9]{1,5}))?", re.ASCII)


def _address(value: Any) -> str:
    if not isinstance(value, str) or "%" in value:
        raise ValueError("must be an IPv4 or IPv6 address, without a zone")
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address, without a zone") from None
    return str(getattr(found, "ipv4_mapped", None) or found)


def _port(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value, re.ASCII):
        return int(value)
    return value


def _protocol(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return {"icmpv6": "icmp6", "ipv6-icmp": "icmp6"}.get(value.lower(), value.lower())


def _of_endpoints(value: Any) -> Any:
    """Return the object that an array of two endpoints means; an object unchanged."""
    if isinstance(value, Mapping):
        if unknown := [str(name)[:64] for name in value if name not in Flow.model_fields]:
            raise ValueError(f"unknown key {unknown[0]!r}; known: {', '.join(Flow.model_fields)}")
        return value
    if not isinstance(value, list | tuple) or [type(one) for one in value] != [str, str]:
        raise ValueError("must be an object, or an array of two endpoints")
    (src, sport), (dst, dport) = map(_split, value)
    ends = {"src": src, "sport": sport, "dst": dst, "dport": dport}
    return {name: part for name, part in ends.items() if part is not None}


def _split(endpoint: str) -> tuple[str, str | None]:
    if endpoint.count(":") > 1 and not endpoint.startswith("["):
        return endpoint, None  # an IPv6 address
    if (found := _ENDPOINT.fullmatch(endpoint)) is None:
        raise ValueError('an endpoint must look like "192.0.2.1:443", "192.0.2.1" or "[::1]:443"')
    return found[1] or found[3], found[2] or found[4]


Address = Annotated[str, BeforeValidator(_address)]
Port = Annotated[
    int, Field(ge=0, le=65535), BeforeValidator(_port, json_schema_input_type=int | str)
]
Protocol = Annotated[Literal["tcp", "udp", "sctp", "icmp", "icmp6"], BeforeValidator(_protocol)]


class Flow(BaseModel):
    """The packets between two ends, in both directions, with and without VLAN tags.

    Either end may be left out, but not both. A packet may have one tag or two.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    proto: Protocol | None = Field(None, description="Absent: any.")
    src: Address | None = Field(None, description="The address of one end.")
    sport: Port | None = Field(None, description="Its port.")
    dst: Address | None = Field(None, description="The address of the other end.")
    dport: Port | None = Field(None, description="Its port.")

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.src is None and self.dst is None:
            raise ValueError("must have src or dst")
        if (self.sport, self.dport) != (None, None) and self.proto not in (*WITH_PORTS, None):
            raise ValueError(f"{self.proto} has no ports")
        if self.src and self.dst and (":" in self.src) != (":" in self.dst):
            raise ValueError("src and dst must both be IPv4, or both IPv6")
        if self.proto in ("icmp", "icmp6"):  # some systems call both icmp
            version = "icmp6" if ":" in (self.src or self.dst or "") else "icmp"
            object.__setattr__(self, "proto", version)
        return self

    @property
    def capture_filter(self) -> str:
        """The filter in the language of pcap-filter(7), for linktypes that have VLAN tags."""
        # each `vlan` moves the offsets of all that is to the right of it
        whole = self.untagged_filter
        return f"{whole} or (vlan and ({whole} or (vlan and {whole})))"

    @property
    def untagged_filter(self) -> str:
        """The filter for packets without tags: libpcap refuses `vlan` where there are none.

        Later fragments of a packet have no ports, so a flow with ports does not have them.
        """
        ends = (self.src, self.sport), (self.dst, self.dport)
        there, back = (
            " and ".join(_end(sides[0], *ends[0]) + _end(sides[1], *ends[1]))
            for sides in (("src", "dst"), ("dst", "src"))
        )
        both = f"(({there}) or ({back}))"
        return f"({self.proto} and {both})" if self.proto else both


def _end(side: str, address: str | None, port: int | None) -> list[str]:
    host = [f"{side} host {address}"] if address is not None else []
    return host + ([f"{side} port {port}"] if port is not None else [])


FlowField = Annotated[Flow, BeforeValidator(_of_endpoints, json_schema_input_type=Flow | list[str])]


def narrowed(expression: str, own: str) -> str:
    """Return a capture filter for what both match. A flow's own comes last: it has `vlan`.

    >>> narrowed("tcp", ""), narrowed("tcp", "host 10.0.0.1")
    ('tcp', '(tcp) and (host 10.0.0.1)')
    """
    if not (expression.strip() and own):
        return expression if expression.strip() else own
    return f"({expression}) and ({own})"
