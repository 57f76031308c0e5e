"""Which interfaces of this host lead to which network namespace. Needs no privileges."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pcapdaemon.native.rtnetlink import Way, namespace_of_file, namespace_of_process, ways_out

PAIRS = ("veth", "netkit")
"""Kinds of interfaces that are one end of a pair."""

MOST_ASKED = 16
"""Most processes of a target whose namespace is asked for."""


class Namespaces:
    """The interfaces that lead to other network namespaces, as they are when it is made."""

    def __init__(self, named: Path) -> None:
        self._named = named
        self._ways: dict[int, list[Way]] = {}
        for way in ways_out():
            if way.kind in PAIRS:
                self._ways.setdefault(way.namespace, []).append(way)

    def ways_to(self, number: int | None) -> list[Way]:
        """Return the interfaces that lead to a namespace."""
        return self._ways.get(number, []) if number is not None else []

    def of_processes(self, pids: Sequence[int]) -> int | None:
        """Return the number of the namespace of these processes, or None if it has none here."""
        for pid in pids[:MOST_ASKED]:
            if (number := namespace_of_process(pid)) is not None:
                return number
        return None

    def of_file(self, path: Path) -> int | None:
        """Return the number of the namespace of a file. Raises OSError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return namespace_of_file(descriptor)
        finally:
            os.close(descriptor)

    def file_of(self, number: int | None, pids: Sequence[int]) -> str:
        """Return a file by which a namespace can be entered.

        One in the directory of named namespaces needs less privileges than that of a process.
        """
        for path in sorted(self._named.glob("*")) if number is not None else ():
            with suppress(OSError):
                if self.of_file(path) == number:
                    return str(path)
        return f"/proc/{pids[0]}/ns/net" if pids else ""


def is_own(pids: Sequence[int]) -> bool | None:
    """Return whether processes are in the namespace of this one, or None if they are hidden.

    /proc/PID/ns/net is not readable for others. These files are, and each namespace has its own.
    """
    with suppress(OSError):
        own = os.stat("/proc/self/net/dev")
        return any(os.path.samestat(own, os.stat(f"/proc/{pid}/net/dev")) for pid in pids[:1])
    return None
