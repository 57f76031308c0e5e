"""The blocks of a pcapng file other than its packets: draft-ietf-opsawg-pcapng. Pure.

`native/records.pxd` writes the blocks of the packets.

Everything is little-endian, like the packets. Times are nanoseconds since the epoch.
"""

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass

SECTION, INTERFACE, STATISTICS = 0x0A0D0D0A, 1, 5
BYTE_ORDER = 0x1A2B3C4D
UNKNOWN_LENGTH = 0xFFFFFFFFFFFFFFFF
LONGEST_OPTION = 65535
NANOSECONDS = 9

Option = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Description:
    """The description of an interface.

    `linktype` is a LINKTYPE_ value. `speed` is bits per second, and 0 if it is unknown. `networks`
    are addresses with prefixes.
    """

    name: str
    linktype: int
    snaplen: int
    description: str = ""
    capture_filter: str = ""
    system: str = ""
    hardware_address: bytes = b""
    speed: int = 0
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statistics:
    """The counts of a capture on an interface.

    `accepted` packets matched its filter, and `delivered` packets are in the file.
    """

    begun: int
    ended: int
    accepted: int
    delivered: int
    dropped: int
    dropped_by_interface: int


def section(hardware: str, system: str, application: str, words: str) -> bytes:
    """Return a Section Header Block (4.1) with a comment.

    It leaves the length of its section open.
    """
    options = [_text(2, hardware), _text(3, system), _text(4, application), _text(1, words)]
    return _block(SECTION, struct.pack("<IHHQ", BYTE_ORDER, 1, 0, UNKNOWN_LENGTH), options)


def interface(one: Description) -> bytes:
    """Return an Interface Description Block (4.2).

    The first byte of its filter option says that the filter is one of libpcap.
    """
    options = [_text(2, one.name), _text(3, one.description)]
    options += [_network(text) for text in one.networks]
    if len(one.hardware_address) == 6:
        options.append((6, one.hardware_address))
    if one.speed:
        options.append((8, struct.pack("<Q", one.speed)))
    options.append((9, bytes([NANOSECONDS])))
    if one.capture_filter:
        options.append((11, b"\0" + _cut(one.capture_filter, LONGEST_OPTION - 1)))
    options.append(_text(12, one.system))
    return _block(INTERFACE, struct.pack("<HHI", one.linktype, 0, one.snaplen), options)


def statistics(number: int, seen: Statistics) -> bytes:
    """Return an Interface Statistics Block (4.6) for the interface with this number."""
    values = {
        2: seen.begun >> 32
        | (seen.begun & 0xFFFFFFFF) << 32,  # times are in two halves, the high one first
        3: seen.ended >> 32 | (seen.ended & 0xFFFFFFFF) << 32,
        4: seen.accepted,
        5: seen.dropped_by_interface,
        6: seen.accepted,
        7: seen.dropped,
        8: seen.delivered,
    }
    body = struct.pack("<III", number, seen.ended >> 32, seen.ended & 0xFFFFFFFF)
    return _block(
        STATISTICS, body, [(code, struct.pack("<Q", value)) for code, value in values.items()]
    )


def comment(text: str) -> bytes:
    """Return the options of a packet with a comment (3.5)."""
    return _option(*_text(1, text)) + struct.pack("<HH", 0, 0)


def _block(kind: int, body: bytes, options: Iterable[Option]) -> bytes:
    body += b"".join(_option(*option) for option in options if option[1]) + struct.pack("<HH", 0, 0)
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _text(code: int, text: str) -> Option:
    return code, _cut(text, LONGEST_OPTION)


def _cut(text: str, size: int) -> bytes:
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore").encode()


def _network(text: str) -> Option:
    network = ipaddress.ip_interface(text)
    if isinstance(network, ipaddress.IPv4Interface):
        return 4, network.ip.packed + network.netmask.packed
    return 5, network.ip.packed + bytes([network.network.prefixlen])
