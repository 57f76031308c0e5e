"""Asks the kernel about interfaces and network namespaces, see rtnetlink(7).

libpcap only lists all devices, which takes a second on a host with a thousand of them. These
questions take some microseconds, and need no privileges.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_GETADDR = 16, 18, 20, 22
RTM_NEWNSID, RTM_GETNSID = 88, 90
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 1, 0x300, 2, 3
IFLA_IFNAME, IFLA_ALT_IFNAME, IFA_ADDRESS, IFA_LOCAL = 3, 53, 1, 2
IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_STATS64, IFLA_EXT_MASK, IFLA_LINK_NETNSID = 18, 1, 23, 29, 37
NETNSA_NSID, NETNSA_PID, NETNSA_FD = 1, 2, 3
SKIP_STATISTICS = 8
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12
IFF_UP, IFF_LOOPBACK = 0x1, 0x8
LONGEST_NAME = 15
NLM_F_DUMP_INTR = 0x10
TRIES = 5
"""How often a list is asked for that changes while the kernel makes it."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface. `name` is its own, whichever of its names was asked for."""

    index: int
    name: str
    up: bool
    loopback: bool


def find_link(name: str) -> Link | None:
    """Return the interface with this name or alternative name, or None."""
    text = name.encode()
    if not text or len(text) > 127 or b"\0" in text:
        return None
    kind = IFLA_IFNAME if len(text) <= LONGEST_NAME else IFLA_ALT_IFNAME
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _attribute(kind, text + b"\0")
    for answered, data in _ask(RTM_GETLINK, 0, body):
        if answered == RTM_NEWLINK:
            return _link(data, _attributes(data[_LINK.size :]))
    return None


def _link(data: bytes, attributes: dict[int, bytes]) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(data)
    name = attributes[IFLA_IFNAME].rstrip(b"\0").decode(errors="replace")
    return Link(index, name, bool(flags & IFF_UP), bool(flags & IFF_LOOPBACK))


@dataclass(frozen=True, slots=True)
class Way:
    """An interface of this namespace that is connected to one in another. `kind` is its type.

    `namespace` is the number that the kernel gives the other namespace here.
    """

    link: Link
    kind: str
    namespace: int


def ways_out() -> list[Way]:
    """Return the interfaces that are connected to another network namespace.

    The kernel gives a namespace its number when it is listed here first.
    """
    mask = _attribute(IFLA_EXT_MASK, struct.pack("=I", SKIP_STATISTICS))
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + mask
    found = []
    for answered, data in _ask(RTM_GETLINK, NLM_F_DUMP, body):
        if answered != RTM_NEWLINK:
            continue
        attributes = _attributes(data[_LINK.size :])
        if IFLA_LINK_NETNSID in attributes:
            (number,) = struct.unpack("=i", attributes[IFLA_LINK_NETNSID])
            info = _attributes(attributes.get(IFLA_LINKINFO, b""))
            kind = info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace")
            found.append(Way(_link(data, attributes), kind, number))
    return found


def namespace_of_process(pid: int) -> int | None:
    """Return the number of a process's network namespace, or None if it has none here.

    It has none if it is this namespace, or if no interface here is connected to it. Needs no
    privilege.
    """
    return _namespace(NETNSA_PID, pid)


def namespace_of_file(descriptor: int) -> int | None:
    """Return the same of an open file of a namespace, as in /run/netns."""
    return _namespace(NETNSA_FD, descriptor)


def _namespace(kind: int, value: int) -> int | None:
    body = struct.pack("=B3x", socket.AF_UNSPEC) + _attribute(kind, struct.pack("=I", value))
    for answered, data in _ask(RTM_GETNSID, 0, body):
        if answered == RTM_NEWNSID:
            (number,) = struct.unpack("=i", _attributes(data[4:])[NETNSA_NSID])
            return number if number >= 0 else None
    return None


def traffic_of(name: str) -> tuple[int, int]:
    """Return how many packets an interface has received and sent; zeros if it is gone."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    body += _attribute(IFLA_IFNAME, name.encode()[:LONGEST_NAME] + b"\0")
    for answered, data in _ask(RTM_GETLINK, 0, body):
        if answered == RTM_NEWLINK:
            counts = _attributes(data[_LINK.size :])[IFLA_STATS64]
            received, sent = struct.unpack_from("=QQ", counts)
            return received, sent
    return 0, 0


@dataclass(frozen=True, slots=True)
class Traffic:
    """What an interface has received and sent since it exists, together."""

    packets: int
    bytes: int


def all_traffic() -> dict[str, Traffic]:
    """Return the traffic of all interfaces that are up. Takes microseconds for each."""
    found = {}
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    for answered, data in _ask(RTM_GETLINK, NLM_F_DUMP, body):
        if answered == RTM_NEWLINK:
            attributes = _attributes(data[_LINK.size :])
            link = _link(data, attributes)
            if link.up and IFLA_STATS64 in attributes:
                received, sent, *sizes = struct.unpack_from("=QQQQ", attributes[IFLA_STATS64])
                found[link.name] = Traffic(received + sent, sum(sizes))
    return found


def networks_of(index: int) -> tuple[str, ...]:
    """Return the addresses of an interface, each with the length of its prefix."""
    found = []
    body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, index)
    for address, bits, owner in _addresses(body):
        if owner == index:
            found.append(f"{address}/{bits}")
    return tuple(found)


def own_addresses() -> frozenset[Address]:
    """Return the addresses of all interfaces of this host, without those of loopback."""
    body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    return frozenset(address for address, _, _ in _addresses(body) if not address.is_loopback)


def _addresses(body: bytes) -> Iterator[tuple[Address, int, int]]:
    """Yield addresses, each with the length of its prefix and the index of its interface."""
    for answered, data in _ask(RTM_GETADDR, NLM_F_DUMP, body):
        if answered != RTM_NEWADDR:
            continue
        family, bits, _, _, owner = _ADDRESS.unpack_from(data)
        attributes = _attributes(data[_ADDRESS.size :])
        # Of a point-to-point interface, IFA_ADDRESS is the other end.
        address = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
        if address and family in (socket.AF_INET, socket.AF_INET6):
            yield ipaddress.ip_address(address), bits, owner


def _ask(kind: int, flags: int, body: bytes) -> list[tuple[int, bytes]]:
    """Return the messages of an answer. A list that changed meanwhile is asked for again."""
    for _ in range(TRIES):
        found, changed = _asked(kind, flags, body)
        if not changed:
            break
    return found


def _asked(kind: int, flags: int, body: bytes) -> tuple[list[tuple[int, bytes]], bool]:
    found: list[tuple[int, bytes]] = []
    changed = False
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
        with suppress(OSError):  # before Linux 4.20, a dump has the addresses of all interfaces
            asking.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        length = _HEADER.size + len(body)
        asking.send(_HEADER.pack(length, kind, NLM_F_REQUEST | flags, 1, 0) + body)
        while True:  # the kernel has answered before `send` returns
            for answered, marks, data in _messages(asking.recv(65536, socket.MSG_DONTWAIT)):
                changed = changed or bool(marks & NLM_F_DUMP_INTR)
                if answered in (NLMSG_ERROR, NLMSG_DONE):
                    return found, changed
                found.append((answered, data))
            if not flags & NLM_F_DUMP:
                return found, changed


def _messages(buffer: bytes) -> Iterator[tuple[int, int, bytes]]:
    while len(buffer) >= _HEADER.size:
        length, kind, flags, *_ = _HEADER.unpack_from(buffer)
        yield kind, flags, buffer[_HEADER.size : length]
        buffer = buffer[(length + 3) & ~3 :]


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _attributes(buffer: bytes) -> dict[int, bytes]:
    found = {}
    while len(buffer) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(buffer)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = buffer[_ATTRIBUTE.size : length]
        buffer = buffer[(length + 3) & ~3 :]
    return found
