"""The interfaces of this host, as they are now."""

import ipaddress
import socket
from pathlib import Path
from typing import Any

from pcapdaemon.core.errors import CaptureRefused
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.native import live
from pcapdaemon.native.blocks import BlockPool
from pcapdaemon.native.memory import BLOCK_SIZE


def list_interfaces() -> dict[str, Interface]:
    """Return all devices that libpcap knows, by name.

    Each call looks them up, so a device that just came up is included. A call takes about a
    millisecond and needs no privileges.
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
            tuple(_network(*one) for one in addresses),
        )
        for name, description, loopback, up, addresses in live.list_devices()
    }


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
            "linktype": _linktype(interface) if interface.kind is not InterfaceKind.PSEUDO else "",
            "addresses": list(interface.addresses),
            "description": interface.description,
        }
        for interface in list_interfaces().values()
    ]


def _linktype(interface: Interface) -> str:
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


def _network(address: str, netmask: str) -> str:
    address, _, _ = address.partition("%")  # without the scope of a link-local address
    if not netmask:
        return address
    bits = int(ipaddress.ip_address(netmask.partition("%")[0]))
    return f"{address}/{bits.bit_count()}"


def _kind(name: str, networks: set[str]) -> InterfaceKind:
    if name == "any":
        return InterfaceKind.ANY
    return InterfaceKind.NETWORK if name in networks else InterfaceKind.PSEUDO
