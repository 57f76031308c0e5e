"""Follows a file to which another program appends lines, over rotations and restarts.

A file is left only when its path leads to another file and it has no more lines. A program may
still write to the old one for a while, so that is read for LEAVING seconds more.
"""

import json
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pcapdaemon.core.errors import NotConnected
from pcapdaemon.core.wire import MALFORMED
from pcapdaemon.sources.base import Message, Source
from pcapdaemon.threads import run_in_thread
from pcapdaemon.triggers.alert import MAX_ALERTS
from pcapdaemon.triggers.settings import TriggerSettings

POLL_EVERY = 0.1
"""Seconds between two looks at a file that has no more lines."""

LEAVING = 5.0
MOST_LEFT = 4
"""Most files that are left and still read."""

WRITE_EVERY = 1.0
"""Seconds between two notes of the position, which a crash may lose."""

GIVE_UP_AFTER = 2.0
"""Seconds that closing waits for a read in progress."""

_CHUNK = 256 * 1024
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""How a file is opened: opening a pipe does not block."""

Wanted = Callable[[bytes], bool]
"""Returns whether a line matters; the others cost no more than this."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file, which keeps its device and inode when it is renamed."""

    device: int
    inode: int
    offset: int


class _Lines:
    """An open file, read line by line."""

    def __init__(self, path: str, offset: int = 0, at_end: bool = False) -> None:
        self._descriptor = os.open(path, _OPEN)
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._descriptor)
            raise OSError(f"{path}: not a regular file")
        self.device, self.inode = found.st_dev, found.st_ino
        self._offset = found.st_size if at_end else offset
        self._rest, self._skipping = b"", False
        self.leave_at = 0.0

    @property
    def position(self) -> Position:
        """The place after the last whole line."""
        return Position(self.device, self.inode, self._offset - len(self._rest))

    def read(self) -> list[tuple[bytes, Position]] | None:
        """Return further whole lines, each with the place after it; None at the end."""
        if os.fstat(self._descriptor).st_size < self._offset:  # it was truncated
            self._offset, self._rest, self._skipping = 0, b"", False
        chunk = os.pread(self._descriptor, _CHUNK, self._offset)
        if not chunk:
            return None
        at = self._offset - len(self._rest)
        self._offset += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        found = []
        for line in lines:
            at += len(line) + 1
            if not self._skipping:
                found.append((line, Position(self.device, self.inode, at)))
            self._skipping = False
        if len(self._rest) > MAX_ALERTS:
            self._rest, self._skipping = b"", True
        return found

    def close(self) -> bytes:
        """Close it, and return what it has after its last line."""
        os.close(self._descriptor)
        return b"" if self._skipping else self._rest


class Follower:
    """The lines of the file at a path, which may be a pattern with `%Y`, `%m`, `%d` and `%H`.

    It begins at `start` if that is given, otherwise at the end of a file that is there, and at the
    beginning of one that comes later. All methods block, and raise OSError.
    """

    def __init__(self, path: str, start: Position | None = None) -> None:
        self._path, self._start = path, start
        self._lines: _Lines | None = None
        self._left: deque[_Lines] = deque()
        self._first = True

    def begin(self) -> None:
        """Open the file, if it is there; the directory must be."""
        path = self._now()
        os.stat(os.path.dirname(path) or ".")
        start, self._start = self._start, None
        if start and (old := _find(path, start)):
            self._lines = _Lines(old, start.offset)
        elif os.path.exists(path):
            self._lines = _Lines(path, at_end=self._first and start is None)
        self._first = False

    @property
    def position(self) -> Position | None:
        """The place after the last whole line; None without a file."""
        return self._lines.position if self._lines else None

    def read(self) -> list[tuple[bytes, Position]] | None:
        """Return the whole lines that came, each with the place after it; None if nothing came.

        Between two calls, the file may be rotated once.
        """
        found = self._of_left()
        lines = self._lines.read() if self._lines else None
        if lines is None and self._is_another():
            lines = self._lines.read() if self._lines else []
            if not lines:
                self._leave()
        return found + (lines or []) if found or lines is not None else None

    def close(self) -> None:
        """Close all files."""
        for lines in (self._lines, *self._left):
            if lines:
                lines.close()
        self._lines = None
        self._left.clear()

    def _now(self) -> str:
        return time.strftime(self._path) if "%" in self._path else self._path

    def _is_another(self) -> bool:
        try:
            found = os.stat(self._now())
        except FileNotFoundError:
            return False
        lines = self._lines
        return lines is None or (found.st_dev, found.st_ino) != (lines.device, lines.inode)

    def _leave(self) -> None:
        if self._lines:
            self._lines.leave_at = time.monotonic() + LEAVING
            self._left.append(self._lines)
        self._lines = None
        with suppress(FileNotFoundError):
            self._lines = _Lines(self._now())

    def _of_left(self) -> list[tuple[bytes, Position]]:
        found: list[tuple[bytes, Position]] = []
        for lines in self._left:
            while (more := lines.read()) is not None:
                found += more
        while self._left and (
            len(self._left) > MOST_LEFT or time.monotonic() > self._left[0].leave_at
        ):
            last = self._left.popleft()
            position = last.position
            if rest := last.close():
                found.append((rest, position))
        return found


def _find(path: str, start: Position) -> str | None:
    """Return the path of the file of a position, which may have been renamed, or None."""
    directory = os.path.dirname(os.path.realpath(path))
    with os.scandir(directory) as entries:
        for candidate in (path, *(entry.path for entry in entries)):
            with suppress(OSError):
                found = os.stat(candidate)
                if (found.st_dev, found.st_ino) == (start.device, start.inode):
                    return candidate if found.st_size >= start.offset else None
    return None


class FileSource(Source):
    """The lines of a file that matter, one message each."""

    Settings = TriggerSettings

    def __init__(
        self, settings: TriggerSettings, node: str, wanted: Wanted, directory: Path | None
    ) -> None:
        self.settings, self.name = settings, f"trigger:{settings.name}"
        self._wanted = wanted
        self._note = directory / f"trigger-{settings.name}.json" if directory else None
        self._ready: deque[tuple[bytes, Position]] = deque()
        self._follower: Follower | None = None
        self._returned = self._done = self._load()
        self._closed = threading.Event()
        self._using = threading.Lock()
        self._written = 0.0

    @property
    def address(self) -> str:
        """The path of the file."""
        return self.settings.file or ""

    async def connect(self) -> None:
        """Open the file, or wait for one in its directory."""
        self._closed = threading.Event()
        self._follower = Follower(self.address, self._done)
        try:
            await run_in_thread(self._follower.begin)
        except OSError as error:
            raise NotConnected(f"{self.address}: {error.strerror or error}") from None

    async def receive(self) -> Message:
        """Return the next line that matters. All earlier ones are done."""
        self._done = self._returned
        while not self._ready:
            if (follower := self._follower) is None:
                raise NotConnected(f"{self.address}: closed")
            try:
                self._ready.extend(await run_in_thread(self._read, follower, self._closed))
            except OSError as error:
                raise NotConnected(f"{self.address}: {error.strerror or error}") from None
        line, self._returned = self._ready.popleft()
        return Message(line, self.name)

    async def close(self) -> None:
        """Close the file, and note where to go on."""
        self._closed.set()
        self._ready.clear()
        self._returned = self._done
        follower, self._follower = self._follower, None
        with suppress(OSError):
            await run_in_thread(self._end, follower, self._done)

    def _read(self, follower: Follower, closed: threading.Event) -> list[tuple[bytes, Position]]:
        """Wait for lines that matter."""
        with self._using:
            while not closed.is_set():
                lines = follower.read()
                if found := [one for one in lines or () if self._wanted(one[0])]:
                    return found
                self._pass(follower.position)
                if lines is None:
                    closed.wait(POLL_EVERY)
            return []

    def _end(self, follower: Follower | None, position: Position | None) -> None:
        # a disk that hangs may keep the file open
        if follower and self._using.acquire(timeout=GIVE_UP_AFTER):
            try:
                follower.close()
            finally:
                self._using.release()
        self._write(position)

    def _pass(self, position: Position | None) -> None:
        """Note that nothing before this place matters any more."""
        if position is None or self._closed.is_set():
            return
        self._done = self._returned = position
        if time.monotonic() - self._written > WRITE_EVERY:
            self._written = time.monotonic()
            with suppress(OSError):
                self._write(position)

    def _load(self) -> Position | None:
        if self._note is None:
            return None
        try:
            found = json.loads(self._note.read_text())
            if found["file"] != self.address:
                return None
            return Position(*(int(found[name]) for name in ("device", "inode", "offset")))
        except (OSError, *MALFORMED):
            return None

    def _write(self, position: Position | None) -> None:
        if self._note is None or position is None:
            return
        self._note.parent.mkdir(parents=True, exist_ok=True)
        new = self._note.with_suffix(".new")
        new.write_text(json.dumps({"file": self.address, **asdict(position)}))
        new.replace(self._note)
