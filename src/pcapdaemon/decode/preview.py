"""A first look into a savefile, for people. The API loads this when somebody asks for it."""

from typing import Any, BinaryIO

from pcapdaemon.decode.reading import packets
from pcapdaemon.decode.summary import described, listed, summarize

MOST_PACKETS = 200_000
"""Most packets of a savefile that a summary counts."""

LONGEST_SUMMARY = 3.0
"""Most seconds in which packets are counted, because no capture may wait for it."""


def some(savefile: BinaryIO, first: int, limit: int) -> list[dict[str, Any]]:
    """Return packets from number `first` on, at most `limit`. Raises NotASavefile and OSError."""
    return list(listed(packets(savefile), first, limit))


def bytes_of(savefile: BinaryIO, number: int, _: int) -> list[dict[str, Any]]:
    """Return one packet with its bytes, or none. Raises NotASavefile and OSError."""
    for packet in packets(savefile):
        if packet.number == number:
            return [{**described(packet), "data": packet.data.hex()}]
    return []


def summary(savefile: BinaryIO) -> dict[str, Any]:
    """Return what is in a savefile, or in its first part. Raises OSError."""
    return summarize(packets(savefile), MOST_PACKETS, LONGEST_SUMMARY).as_json()
