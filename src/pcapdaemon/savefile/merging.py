"""Merges savefiles of several nodes into one pcapng file, in time order.

Each packet passes through Python: this is for people who look at captures later, not for capturing.
"""

import heapq
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pcapdaemon import __version__
from pcapdaemon.core.errors import NotASavefile
from pcapdaemon.core.limits import MAX_SNAPLEN
from pcapdaemon.decode.reading import Packet, packets
from pcapdaemon.savefile import pcapng

CHUNK = 1 << 18
"""Bytes after which what is merged is passed on."""

_HEADER = struct.Struct("<IIIIIII")
_ENHANCED = 6


@dataclass(frozen=True, slots=True)
class Part:
    """A file to merge. `label` is the node that it is from, or another name of it.

    `interface` is used where the file does not name one. `note` is shown with its interfaces.
    """

    label: str
    file: BinaryIO
    interface: str = ""
    note: str = ""


def merged(
    parts: Sequence[Part], comment: str = "", damaged: list[str] | None = None
) -> Iterator[bytes]:
    """Yield the merged file in pieces. Raises NotASavefile if a part is none, and OSError.

    A part whose end is damaged or missing has the packets before that, and is named in `damaged`.

    Each node and interface has one description. Packets with equal times keep the order of `parts`.
    A file whose packets are out of order stays so.
    """
    known: dict[tuple[int, str, int], int] = {}
    buffer = bytearray(pcapng.section("", "", f"pcapdaemon {__version__}", comment))
    damage = [] if damaged is None else damaged
    streams = [_of(number, part, damage) for number, part in enumerate(parts)]
    for _, number, packet in heapq.merge(*streams, key=lambda one: one[0]):
        key = number, packet.interface, packet.linktype
        if key not in known:
            known[key] = len(known)
            buffer += _description(parts[number], packet)
        buffer += _record(known[key], packet)
        if len(buffer) >= CHUNK:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def _of(number: int, part: Part, damaged: list[str]) -> Iterator[tuple[int, int, Packet]]:
    """Yield the packets of a part, of a damaged one those before the damage."""
    read = False
    try:
        for packet in packets(part.file):
            read = True
            yield packet.ns, number, packet
    except NotASavefile as error:
        if not read:
            raise NotASavefile(f"{part.label}: {error}") from None
        damaged.append(f"{part.label}: {error}")


def _description(part: Part, packet: Packet) -> bytes:
    name = "/".join(filter(None, (part.label, packet.interface or part.interface)))
    return pcapng.interface(
        pcapng.Description(name, packet.linktype, MAX_SNAPLEN, description=part.note)
    )


def _record(interface: int, packet: Packet) -> bytes:
    data = packet.data + bytes(-len(packet.data) % 4)
    options = pcapng.comment(packet.comment) if packet.comment else b""
    size = _HEADER.size + len(data) + len(options) + 4
    ns = packet.ns
    header = _HEADER.pack(
        *(_ENHANCED, size, interface, ns >> 32 & 0xFFFFFFFF, ns & 0xFFFFFFFF),
        *(len(packet.data), packet.length),
    )
    return header + data + options + struct.pack("<I", size)
