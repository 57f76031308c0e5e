"""The files of an audit log. Everything here blocks."""

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pcapdaemon.audit.chain import LONGEST_LINE, Chain, end_of, shown
from pcapdaemon.audit.settings import AuditSettings

TAIL = 2 * LONGEST_LINE
"""Bytes at the end of a file in which its last line is looked for."""

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class AuditFile:
    """Appends lines. Raises OSError, and then nothing was appended as far as it knows."""

    def __init__(self, path: Path, settings: AuditSettings) -> None:
        self.path, self.settings = path, settings
        self._chain: Chain | None = None
        self._lock = -1

    @property
    def chain(self) -> Chain:
        """The number and hash of the last line; of none before the first `append`."""
        return self._chain or Chain()

    def append(self, several: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Append lines with these facts, and wait for the disk. Returns the lines."""
        if self._chain is None:
            self._take_lock()
            self._chain = self._continue()
        if self._is_full():
            return self._in_another(several)
        return self._write(several)

    def last(self, limit: int) -> list[dict[str, Any]]:
        """Return the last lines, oldest first, as far as they are in this file."""
        try:
            with _opened(self.path, os.O_RDONLY) as descriptor:
                size = os.fstat(descriptor).st_size
                data = os.pread(descriptor, TAIL, max(0, size - TAIL))
        except FileNotFoundError:
            return []
        return [*shown(data.splitlines(keepends=True), {})][-limit:]

    def close(self) -> None:
        """Let another process write the log."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take_lock(self) -> None:
        if self._lock >= 0:
            return
        name = self.path.with_name(f".{self.path.name}.lock")
        lock = os.open(name, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise OSError(f"another daemon writes {self.path}") from None
        self._lock = lock

    def _write(self, several: Sequence[Mapping[str, Any]]) -> list[bytes]:
        trial = Chain(self.chain.number, self.chain.head)
        lines = [trial.line(facts) for facts in several]
        is_new = not self.path.exists()
        with _opened(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as descriptor:
            start = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, b"".join(lines))
                if self.settings.sync:
                    os.fdatasync(descriptor)
            except OSError:
                # a part of a line would break the chain; if it can't be removed, it is ended first
                self._chain = None
                os.ftruncate(descriptor, start)
                raise
        self._chain = trial
        if is_new and self.settings.sync:
            self._sync_directory()
        return lines

    def _continue(self) -> Chain:
        """Return the end of the chain so far, and end a line that a crash cut."""
        try:
            with _opened(self.path, os.O_RDWR) as descriptor:
                size = os.fstat(descriptor).st_size
                data = os.pread(descriptor, TAIL, max(0, size - TAIL))
                if data and not data.endswith(b"\n"):
                    os.pwrite(descriptor, b"\n", size)
                    data += b"\n"
        except FileNotFoundError:
            data = b""
        if found := end_of(data.splitlines(keepends=True)):
            return found
        older = self._older()
        return self._end_of_older(older[-1]) if older else Chain()

    def _end_of_older(self, path: Path) -> Chain:
        with _opened(path, os.O_RDONLY) as descriptor:
            size = os.fstat(descriptor).st_size
            data = os.pread(descriptor, TAIL, max(0, size - TAIL))
        return end_of(data.splitlines(keepends=True)) or Chain()

    def _older(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}.{'[0-9]' * 12}"))

    def _is_full(self) -> bool:
        try:
            return self.path.stat().st_size >= self.settings.maxbytes
        except FileNotFoundError:
            return False

    def _in_another(self, several: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Move the file away, and begin another one that says so."""
        older = self.path.with_name(f"{self.path.name}.{self.chain.number:012}")
        with suppress(FileExistsError):
            os.link(self.path, older)
        if not self.path.samefile(older):  # it is, if a crash came before the next line
            raise FileExistsError(errno.EEXIST, "remove or rename it", str(older))
        self.path.unlink()
        files = self._older()
        dropped = files[: max(0, len(files) - self.settings.maxfiles)]
        names = {"dropped": [one.name for one in dropped]} if dropped else {}
        lines = self._write([{"event": "continued", "file": older.name, **names}, *several])
        for file in dropped:  # only when a line says so
            file.unlink(missing_ok=True)
        return lines

    def _sync_directory(self) -> None:
        with _opened(self.path.parent, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            os.fsync(descriptor)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | _FLAGS, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
