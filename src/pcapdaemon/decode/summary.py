"""What a savefile contains: packets over time, who talks to whom, which protocols."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pcapdaemon.core.errors import NotASavefile
from pcapdaemon.core.text import printable
from pcapdaemon.decode.packets import decode
from pcapdaemon.decode.reading import Packet

MOST_STEPS = 240
"""Most points of the packets over time."""

MOST_KEPT = 10_000
"""Most pairs of addresses that are counted; packets of further ones count as others."""

SHOWN = 20
"""Most pairs and protocols that are reported."""

FIRST_STEP = 1_000_000
MILLION = 1_000_000


class OverTime:
    """Counts of packets and bytes in steps of equal length, which grows with the file.

    `step` is nanoseconds, and `begin` nanoseconds since the epoch.
    """

    def __init__(self) -> None:
        self.step, self.begin = FIRST_STEP, 0
        self.packets: list[int] = []
        self.bytes: list[int] = []

    def add(self, ns: int, size: int) -> None:
        """Count a packet. One from before the first counts as at the beginning."""
        if not self.packets:
            self.begin = ns
        while (at := max(0, (ns - self.begin) // self.step)) >= MOST_STEPS:
            self._widen()
        if at >= len(self.packets):
            more = [0] * (at + 1 - len(self.packets))
            self.packets += more
            self.bytes += more
        self.packets[at] += 1
        self.bytes[at] += size

    def _widen(self) -> None:
        self.step *= 2
        self.packets, self.bytes = _halved(self.packets), _halved(self.bytes)


def _halved(counts: list[int]) -> list[int]:
    return [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]


@dataclass(slots=True)
class Summary:
    """What a savefile, or the first part of it, contains.

    `whole` is False if not all of the file was read: because it is long, or because it is damaged,
    and then `reason` says how.
    """

    packets: int = 0
    bytes: int = 0
    first_packet_at: float | None = None
    last_packet_at: float | None = None
    whole: bool = True
    reason: str = ""
    over_time: OverTime = field(default_factory=OverTime)
    protocols: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    pair_bytes: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, packet: Packet) -> None:
        """Count a packet."""
        found = decode(packet.linktype, packet.data)
        at = packet.ns / 1e9
        first, last = self.first_packet_at, self.last_packet_at
        self.first_packet_at = at if first is None else min(first, at)
        self.last_packet_at = at if last is None else max(last, at)
        self.packets, self.bytes = self.packets + 1, self.bytes + packet.length
        self.over_time.add(packet.ns, packet.length)
        self.protocols[found.protocol if len(self.protocols) < MOST_KEPT else "others"] += 1
        low, high = sorted((found.source, found.destination))
        pair = low, high
        if len(self.pairs) >= MOST_KEPT and pair not in self.pairs:
            pair = "others", ""
        self.pairs[pair] += 1
        self.pair_bytes[pair] += packet.length

    def as_json(self) -> dict[str, Any]:
        """Return it for the API. Times are seconds."""
        over = self.over_time
        return {
            "packets": self.packets,
            "bytes": self.bytes,
            "first_packet_at": self.first_packet_at,
            "last_packet_at": self.last_packet_at,
            "whole": self.whole,
            "reason": self.reason,
            "over_time": {
                "begin": over.begin / 1e9,
                "step": over.step / 1e9,
                "packets": over.packets,
                "bytes": over.bytes,
            },
            "protocols": dict(self.protocols.most_common(SHOWN)),
            "talkers": [
                {"between": list(pair), "packets": self.pairs[pair], "bytes": size}
                for pair, size in self.pair_bytes.most_common(SHOWN)
            ],
        }


def summarize(found: Iterable[Packet], most: int, seconds: float) -> Summary:
    """Count packets, at most this many and for about this long. Raises OSError."""
    made, deadline = Summary(), time.monotonic() + seconds
    try:
        for packet in found:
            if made.packets >= most or (made.packets % 16 == 0 and time.monotonic() > deadline):
                made.whole = False
                break
            made.add(packet)
    except NotASavefile as error:
        made.whole, made.reason = False, str(error)
    return made


def listed(found: Iterable[Packet], first: int, limit: int) -> Iterator[dict[str, Any]]:
    """Yield packets from number `first` on, at most `limit`, in words.

    Raises NotASavefile if there is no packet because the file is none.
    """
    number = 0
    try:
        for packet in found:
            number = packet.number
            if number >= first + limit:
                return
            if number >= first:
                yield described(packet)
    except NotASavefile:
        if not number:
            raise


def described(packet: Packet) -> dict[str, Any]:
    """Return a packet in words, for the API."""
    decoded = decode(packet.linktype, packet.data)
    shown = {
        "number": packet.number,
        "at": packet.ns / 1e9,
        "length": packet.length,
        "captured": len(packet.data),
        "source": decoded.source,
        "destination": decoded.destination,
        "protocol": decoded.protocol,
        "info": decoded.info,
    }
    if decoded.tags:
        shown["tags"] = list(decoded.tags)
    for name, text in (("interface", packet.interface), ("comment", packet.comment)):
        if text:
            shown[name] = printable(text)
    return shown
