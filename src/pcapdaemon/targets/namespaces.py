"""Which interfaces of this host lead to which network namespace. Needs no privileges."""

import os
from contextlib import suppress
from pathlib import Path

from pcapdaemon.native.rtnetlink import Way, namespace_of_file, namespace_of_process, ways_out

PAIRS = ("veth", "netkit")
"""Kinds of interfaces that are one end of a pair."""


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

    def of_file(self, path: Path) -> int | None:
        """Return the number of the namespace of a file. Raises OSError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return namespace_of_file(descriptor)
        finally:
            os.close(descriptor)

    def file_of(self, number: int | None) -> str:
        """Return the named file of a namespace, or "".

        Entering it needs less privileges than entering that of a process.
        """
        for path in sorted(self._named.glob("*")) if number is not None else ():
            with suppress(OSError):
                if self.of_file(path) == number:
                    return str(path)
        return ""


def is_own(pid: int) -> bool | None:
    """Return whether a process is in the namespace of this one, or None if it is hidden.

    /proc/PID/ns/net is not readable for others. These files are, and each namespace has its own.
    """
    with suppress(OSError):
        return os.path.samestat(os.stat("/proc/self/net/dev"), os.stat(f"/proc/{pid}/net/dev"))
    return None


def identity_of(pid: int) -> object:
    """Return something that only processes in the same namespace have in common.

    If a process is hidden, and no interface here leads to its namespace, it has nothing in common.
    """
    with suppress(OSError):
        found = os.stat(f"/proc/{pid}/net/dev")
        return found.st_dev, found.st_ino
    number = namespace_of_process(pid)
    return ("process", pid) if number is None else number


def is_own_file(path: Path) -> bool:
    """Return whether a file is that of the namespace of this process. Raises OSError."""
    return os.path.samestat(os.stat("/proc/self/ns/net"), path.stat())
