"""What is known of a packet, and helpers for its decoders."""

import struct
from dataclasses import dataclass, replace
from ipaddress import ip_address

from pcapdaemon.core.text import printable, shortened

LONGEST_INFO = 200


@dataclass(frozen=True, slots=True)
class Decoded:
    """A packet in words.

    `source` and `destination` are the addresses of the highest layer that has some. `protocol` is
    the highest one that was recognized. `info` is what it says. `tags` are VLANs and the like.
    """

    source: str = ""
    destination: str = ""
    protocol: str = ""
    info: str = ""
    tags: tuple[str, ...] = ()

    def between(self, source: str, destination: str) -> "Decoded":
        """Return it with other addresses."""
        return replace(self, source=source, destination=destination)

    def says(self, protocol: str, info: str) -> "Decoded":
        """Return it with what a higher protocol says."""
        return replace(
            self,
            protocol=protocol,
            info=shortened(printable(info[: LONGEST_INFO + 1]), LONGEST_INFO),
        )


def u8(data: bytes, at: int) -> int:
    """Return the byte at an offset. Raises IndexError past the end."""
    return data[at]


def u16(data: bytes, at: int) -> int:
    """Return the big-endian number of 2 bytes at an offset. Raises struct.error past the end."""
    number: int = struct.unpack_from(">H", data, at)[0]
    return number


def u32(data: bytes, at: int) -> int:
    """Return the big-endian number of 4 bytes at an offset. Raises struct.error past the end."""
    number: int = struct.unpack_from(">I", data, at)[0]
    return number


def part(data: bytes, at: int, size: int) -> bytes:
    """Return bytes of a packet. Raises IndexError if it has been cut off before their end."""
    if at < 0 or size < 0 or at + size > len(data):
        raise IndexError(at)
    return data[at : at + size]


def mac(data: bytes, at: int) -> str:
    """Return the hardware address at an offset."""
    return part(data, at, 6).hex(":")


def address(data: bytes, at: int, size: int) -> str:
    """Return the IP address at an offset."""
    return str(ip_address(part(data, at, size)))
