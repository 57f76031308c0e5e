"""The TCP sockets of this host and their users, from /proc/self/net (proc_pid_net(5))."""

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
End = tuple[Address, int]
"""An address and a port."""

TABLES = ("/proc/self/net/tcp", "/proc/self/net/tcp6")
"""A unit with ProcSubset=pid has no /proc/net."""

LISTENING, CONNECTED = ("0A",), ("01", "08")
"""Values of the column `st`: TCP_LISTEN; TCP_ESTABLISHED and TCP_CLOSE_WAIT.

Sockets in other states have lost their user: the kernel says root.
"""


def listeners(port: int) -> Iterator[tuple[Address, int]]:
    """Yield address and user of each socket that listens on a port."""
    for own, _, uid in _rows(LISTENING):
        if own[1] == port:
            yield own[0], uid


def user_of(own: tuple[str, int], other: tuple[str, int]) -> int | None:
    """Return the user whose socket has this address and port, and is connected to the other.

    Returns None if there is none on this host. Raises OSError if /proc can't be read. Blocks for a
    moment on a host with many sockets.
    """
    os.stat(TABLES[0])
    ends = _end(own), _end(other)
    return next((uid for here, there, uid in _rows(CONNECTED) if (here, there) == ends), None)


def plain(address: Address) -> Address:
    """Return the IPv4 address that is written as an IPv6 address; others unchanged."""
    return getattr(address, "ipv4_mapped", None) or address


def _end(given: tuple[str, int]) -> End:
    return plain(ipaddress.ip_address(given[0].partition("%")[0])), given[1]


def _rows(states: tuple[str, ...]) -> Iterator[tuple[End, End, int]]:
    """Yield both ends and the user of each socket that is in one of these states."""
    for table in TABLES:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:  # no /proc, or no IPv6
            continue
        for line in lines:
            fields = line.split()
            if fields[3] in states and fields[9] != "0":  # the inode: a process has it
                yield _read(fields[1]), _read(fields[2]), int(fields[7])


def _read(text: str) -> End:
    # each 32 bits are in the host's byte order, which is little-endian
    address, _, port = text.rpartition(":")
    words = [bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8)]
    return plain(ipaddress.ip_address(b"".join(words))), int(port, 16)
