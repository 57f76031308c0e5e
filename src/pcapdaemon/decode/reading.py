"""Reads the packets of a savefile, pcap or pcapng, also if it is compressed."""

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from pcapdaemon.core.errors import NotASavefile
from pcapdaemon.decode.zstd import zstd

LARGEST_BLOCK = 16 << 20
"""Most bytes of one block or packet that are read."""

BUFFER = 1 << 18

_PCAP = {  # the first bytes of a file: byte order, and nanoseconds per unit of its times
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_SECTION, _INTERFACE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 3, 6
_END, _COMMENT, _NAME, _RESOLUTION, _OFFSET = 0, 1, 2, 9, 14
_PACKET_OPTIONS = 20


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of a savefile.

    `number` counts from 1. `ns` is its time in nanoseconds since the epoch. `length` is its bytes
    on the wire, of which `data` has the first. `interface` is a name, if the file has names.
    """

    number: int
    ns: int
    length: int
    linktype: int
    data: bytes
    interface: str = ""
    comment: str = ""


@dataclass(slots=True)
class _Interface:
    linktype: int
    name: str = ""
    units: int = 1_000_000
    """Units of its times in a second."""
    offset: int = 0
    snaplen: int = 0


@dataclass(slots=True)
class _Section:
    order: str
    interfaces: list[_Interface] = field(default_factory=list)


def packets(file: BinaryIO | io.RawIOBase) -> Iterator[Packet]:
    """Yield the packets of a file. Reads on only when the next one is asked for.

    Raises NotASavefile after the last whole packet if the rest is damaged or missing, and OSError.
    """
    buffered = io.BufferedReader(cast(Any, file), BUFFER)
    try:
        plain = _decompressed(buffered)
        magic = plain.read(4)
        if magic in _PCAP:
            yield from _of_pcap(plain, *_PCAP[magic])
        elif magic == _SECTION.to_bytes(4, "big"):
            yield from _of_pcapng(plain)
        else:
            if magic == b"age-":
                raise NotASavefile("it is encrypted; decrypt it with age(1)")
            raise NotASavefile(f"it begins with {magic.hex(' ') or 'nothing'}")
    except EOFError:
        raise NotASavefile("it ends too early") from None
    except (zlib.error, zstd.ZstdError, gzip.BadGzipFile) as error:
        raise NotASavefile(f"its compression is damaged: {error}") from None
    finally:
        buffered.detach()  # otherwise it would close the file


def _decompressed(buffered: Any) -> BinaryIO:
    first = buffered.peek(4)[:4]
    if first[:2] == b"\x1f\x8b":
        return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=buffered), BUFFER))
    if first == b"\x28\xb5\x2f\xfd":
        return cast(BinaryIO, io.BufferedReader(zstd.ZstdFile(buffered), BUFFER))
    return cast(BinaryIO, buffered)


def _exactly(file: BinaryIO, size: int) -> bytes:
    if size > LARGEST_BLOCK:
        raise NotASavefile(f"a block of {size} bytes; this reads at most {LARGEST_BLOCK}")
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _next(file: BinaryIO, size: int) -> bytes:
    """Return the beginning of a record or block, or nothing at the end of the file."""
    data = file.read(size)
    if data and len(data) < size:
        raise EOFError
    return data


def _of_pcap(file: BinaryIO, order: str, unit: int) -> Iterator[Packet]:
    header = _exactly(file, 20)
    linktype = struct.unpack_from(order + "I", header, 16)[0] & 0xFFFF
    record, number = struct.Struct(order + "IIII"), 0
    while head := _next(file, 16):
        seconds, fraction, captured, length = record.unpack(head)
        number += 1
        ns = seconds * 1_000_000_000 + fraction * unit
        yield Packet(number, ns, length, linktype, _exactly(file, captured))


def _of_pcapng(file: BinaryIO) -> Iterator[Packet]:
    section, number = _section(file), 0
    while head := _next(file, 4):
        kind = int.from_bytes(head, _endian(section.order))
        if kind == _SECTION:
            section = _section(file)
            continue
        size = struct.unpack(section.order + "I", _exactly(file, 4))[0]
        if size < 12 or size % 4:
            raise NotASavefile(f"a block of {size} bytes after packet {number}")
        body = _exactly(file, size - 8)[:-4]
        if kind == _INTERFACE:
            section.interfaces.append(_interface(section, body))
        elif kind in (_ENHANCED, _SIMPLE):
            number += 1
            made = _enhanced if kind == _ENHANCED else _simple
            yield made(section, body, number)


def _endian(order: str) -> Any:
    return "little" if order == "<" else "big"


def _section(file: BinaryIO) -> _Section:
    """Read the rest of a section header, whose first 4 bytes were read."""
    length, magic = _exactly(file, 4), _exactly(file, 4)
    order = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}.get(magic)
    if order is None:
        raise NotASavefile(f"the byte order of a section is {magic.hex(' ')}")
    size = struct.unpack(order + "I", length)[0]
    if size < 28 or size % 4:
        raise NotASavefile(f"a section header of {size} bytes")
    _exactly(file, size - 12)
    return _Section(order)


def _options(order: str, data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from(order + "HH", data, at)
        if code == _END:
            break
        found.setdefault(code, data[at + 4 : at + 4 + size])
        at += 4 + (size + 3) // 4 * 4
    return found


def _interface(section: _Section, body: bytes) -> _Interface:
    if len(body) < 8:
        raise NotASavefile("an interface description is too short")
    linktype, _, snaplen = struct.unpack_from(section.order + "HHI", body)
    options = _options(section.order, body[8:])
    made = _Interface(linktype, options.get(_NAME, b"").decode(errors="replace"), snaplen=snaplen)
    if resolution := options.get(_RESOLUTION, b"")[:1]:
        power = min(resolution[0] & 0x7F, 63)
        made.units = 2**power if resolution[0] & 0x80 else 10 ** min(power, 18)
    if len(offset := options.get(_OFFSET, b"")) == 8:
        made.offset = struct.unpack(section.order + "q", offset)[0]
    return made


def _of(section: _Section, number: int, packet: int) -> _Interface:
    if number >= len(section.interfaces):
        raise NotASavefile(f"packet {packet} is of interface {number}, which is not described")
    return section.interfaces[number]


def _enhanced(section: _Section, body: bytes, number: int) -> Packet:
    if len(body) < _PACKET_OPTIONS:
        raise NotASavefile(f"packet {number} is too short")
    which, high, low, captured, length = struct.unpack_from(section.order + "IIIII", body)
    one = _of(section, which, number)
    if captured > len(body) - _PACKET_OPTIONS:
        raise NotASavefile(f"packet {number} has {captured} bytes in a block of {len(body)}")
    data = body[_PACKET_OPTIONS : _PACKET_OPTIONS + captured]
    options = _options(section.order, body[_PACKET_OPTIONS + (captured + 3) // 4 * 4 :])
    ns = (high << 32 | low) * 1_000_000_000 // one.units + one.offset * 1_000_000_000
    comment = options.get(_COMMENT, b"").decode(errors="replace")
    return Packet(number, ns, length, one.linktype, data, one.name, comment)


def _simple(section: _Section, body: bytes, number: int) -> Packet:
    """A packet without a time."""
    if len(body) < 4:
        raise NotASavefile(f"packet {number} is too short")
    one = _of(section, 0, number)
    length = struct.unpack_from(section.order + "I", body)[0]
    captured = min(length, one.snaplen or length, len(body) - 4)
    return Packet(number, 0, length, one.linktype, body[4 : 4 + captured], one.name)
