"""The interfaces of this host, as they are now."""

import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.native import live
from pcapdaemon.native.blocks import BlockPool
from pcapdaemon.native.memory import BLOCK_SIZE
from pcapdaemon.native.rtnetlink import find_link, networks_of

PSEUDO = re.compile(
    r"(nflog|nfqueue)(:\d+)?|usbmon\d+|bluetooth(\d+|-monitor)|dbus-(system|session)|(rdma|mlx)\w+"
)
"""Names of devices of libpcap that are no network interfaces."""

ETHERNET, LOOPBACK = 1, 772
NO_HEADER = {65534, 768, 769, 776}
"""Types of devices in <linux/if_arp.h>. The last are tunnels without a header of their own."""


class HostInterfaces(Mapping[str, Interface]):
    """The interfaces of this host, by name, as they are at this moment.

    A lookup takes some microseconds, with any number of interfaces. It also finds one by an
    alternative name, and the interface then has its own name. Only iterating lists all devices,
    which may take a second.
    """

    def __getitem__(self, name: str) -> Interface:
        if name == "any":
            return Interface(name, InterfaceKind.ANY)
        if link := find_link(name):
            kind = InterfaceKind.NETWORK
            return Interface(link.name, kind, loopback=link.loopback, up=link.up)
        if PSEUDO.fullmatch(name):
            return Interface(name, InterfaceKind.PSEUDO)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(list_interfaces())

    def __len__(self) -> int:
        return len(list_interfaces())


def list_interfaces() -> dict[str, Interface]:
    """Return all devices that libpcap knows, by name. Needs no privileges.

    It takes a millisecond per dozen of devices.
    """
    networks = {name for _, name in socket.if_nameindex()}
    return {
        name: Interface(
            name,
            _kind(name, networks),
            description,
            loopback,
            up,
            tuple(address for address, _ in addresses),
        )
        for name, description, loopback, up, addresses in live.list_devices()
    }


def networks(name: str) -> tuple[str, ...]:
    """Return the addresses of an interface with the lengths of their prefixes."""
    link = find_link(name)
    return networks_of(link.index) if link else ()


def hardware(name: str) -> tuple[bytes, int]:
    """Return the hardware address, and the speed in bits per second.

    They are empty and 0 if the kernel does not report them.
    """
    directory = Path("/sys/class/net") / name
    try:
        address = bytes.fromhex((directory / "address").read_text().strip().replace(":", ""))
    except (OSError, ValueError):
        address = b""
    try:
        speed = int((directory / "speed").read_text())
    except (OSError, ValueError):  # a device without a speed answers EINVAL
        speed = 0
    return address, max(0, speed) * 1_000_000


def describe_interfaces() -> list[dict[str, Any]]:
    """Describe the interfaces for people.

    Each has a name, a state, a linktype (if this process may open it), addresses and a description.
    """
    return [
        {
            "name": interface.name,
            "state": "-"
            if interface.kind is InterfaceKind.PSEUDO
            else "up"
            if interface.up
            else "down",
            "linktype": linktype_of(interface)
            if interface.kind is not InterfaceKind.PSEUDO
            else "",
            "addresses": list(interface.addresses),
            "description": interface.description,
        }
        for interface in list_interfaces().values()
    ]


def linktype_of(interface: Interface) -> str:
    """Return an interface's linktype by libpcap's name, or "" if it can't be opened to see it.

    Blocks for some 30 ms for an unusual kind of device.
    """
    try:
        kind = int((Path("/sys/class/net") / interface.name / "type").read_text())
    except (OSError, ValueError):
        kind = 0
    if kind in (ETHERNET, LOOPBACK):
        return "EN10MB"
    return "RAW" if kind in NO_HEADER else _opened_linktype(interface)


def _opened_linktype(interface: Interface) -> str:
    """Open an interface only to see its linktype, which takes some 30 ms."""
    capture = live.LiveCapture(interface.name, BlockPool(BLOCK_SIZE, BLOCK_SIZE))
    try:
        capture.open(
            snaplen=64, promiscuous=False, buffer_size=131072, buffer_timeout_ms=100, loopback=False
        )
    except CaptureRefused:
        return ""
    finally:
        capture.close()
    return capture.linktype


def _kind(name: str, networks: set[str]) -> InterfaceKind:
    if name == "any":
        return InterfaceKind.ANY
    return InterfaceKind.NETWORK if name in networks else InterfaceKind.PSEUDO
