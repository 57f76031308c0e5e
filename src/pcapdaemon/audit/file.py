"""The files of an audit log. Everything here blocks."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pcapdaemon.audit.chain import LONGEST_LINE, Chain, end_of
from pcapdaemon.audit.settings import AuditSettings

TAIL = 2 * LONGEST_LINE
"""Bytes at the end of a file in which its last line is looked for."""


class AuditFile:
    """Appends lines. Raises OSError, and then nothing was appended as far as it knows."""

    def __init__(self, path: Path, settings: AuditSettings) -> None:
        self.path, self.settings = path, settings
        self._chain: Chain | None = None

    @property
    def chain(self) -> Chain:
        """The end of the chain."""
        return self._chain or Chain()

    def append(self, several: Sequence[Mapping[str, Any]]) -> list[bytes]:
        """Append lines with these facts, and wait for the disk. Returns the lines."""
        if self._chain is None:
            self._chain = self._continue()
        lines = []
        if self._is_full():
            lines += self._write([self._begin_another()])
        return lines + self._write(several)

    def _write(self, several: Sequence[Mapping[str, Any]]) -> list[bytes]:
        chain = self.chain
        trial = Chain(chain.number, chain.head)
        lines = [trial.line(facts) for facts in several]
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.path, flags, 0o600)
        try:
            start = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, b"".join(lines))
                if self.settings.sync:
                    os.fdatasync(descriptor)
            except OSError:
                os.ftruncate(descriptor, start)  # a part of a line would break the chain
                raise
        finally:
            os.close(descriptor)
        self._chain = trial
        return lines

    def _continue(self) -> Chain:
        """Return the end of the chain that the file has, and end a line that a crash cut."""
        try:
            with self.path.open("rb+") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - TAIL))
                lines = file.read().splitlines(keepends=True)
                if lines and not lines[-1].endswith(b"\n"):
                    file.seek(0, os.SEEK_END)
                    file.write(b"\n")
                    lines[-1] = b"\n"
        except FileNotFoundError:
            return Chain()
        return end_of(lines) or Chain()

    def _is_full(self) -> bool:
        try:
            return self.path.stat().st_size >= self.settings.maxbytes
        except FileNotFoundError:
            return False

    def _begin_another(self) -> dict[str, Any]:
        """Move the file away, and return what the first line of the next one says."""
        older = self.path.with_name(f"{self.path.name}.{self.chain.number:012}")
        self.path.rename(older)
        files = sorted(self.path.parent.glob(f"{self.path.name}.{'[0-9]' * 12}"))
        dropped = files[: max(0, len(files) - self.settings.maxfiles)]
        for file in dropped:
            file.unlink()
        names = {"dropped": [one.name for one in dropped]} if dropped else {}
        return {"event": "continued", "file": older.name, **names}


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
