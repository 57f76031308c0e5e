"""Keeps the records of requests that are over in a file, so that a restart does not forget them."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import structlog
from pydantic import TypeAdapter

from pcapdaemon.core.record import RequestRecord
from pcapdaemon.threads import run_in_thread

FILE_NAME = "records.jsonl"

MOST_LINES = 5000
"""Lines after which the file is written again with one line for each record."""

LONGEST_LINE = 1 << 20
"""Most bytes of a record in the file. Longer ones are forgotten at a restart."""

WRITE_EVERY = 1.0
"""Seconds between two writes; a crash loses what came in between."""

_RECORD = TypeAdapter(RequestRecord)

log = structlog.get_logger()


class Records:
    """The file. All methods but `load` run in the event loop; without a directory they do nothing.

    `changed` may be called for a record any number of times. The last line of an id counts.
    """

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / FILE_NAME if directory else None
        self._changed: dict[str, RequestRecord] = {}
        self._known: dict[str, str] = {}
        self._lines = 0
        self._news = asyncio.Event()

    def load(self) -> list[RequestRecord]:
        """Return the records of earlier processes, oldest first. Blocks."""
        found: dict[str, RequestRecord] = {}
        line = "\n"
        for line in _lines_of(self._path) if self._path else ():
            with suppress(ValueError):  # torn, or of another version
                record = _RECORD.validate_json(line)
                found.pop(record.id, None)
                found[record.id] = record
                self._known.pop(record.id, None)
                self._known[record.id] = line
            self._lines += 1
        if not line.endswith("\n"):  # torn: the next one must not be appended to it
            self._lines = MOST_LINES
        return list(found.values())

    def changed(self, record: RequestRecord) -> None:
        """Note that a record that is over, or waits in the spool, has changed."""
        if self._path:
            self._changed[record.id] = record
            self._news.set()

    def forgotten(self, request_id: str) -> None:
        """Forget a record that is not kept any more."""
        self._changed.pop(request_id, None)
        self._known.pop(request_id, None)

    async def keep(self) -> None:
        """Write what changes, until cancelled."""
        while True:
            await self._news.wait()
            await self.write()
            await asyncio.sleep(WRITE_EVERY)

    async def write(self) -> None:
        """Write what changed."""
        self._news.clear()
        changed, self._changed = self._changed, {}
        if self._path is None or not changed:
            return
        lines = {name: _line(record) for name, record in changed.items()}
        for name, line in lines.items():
            self._known.pop(name, None)
            self._known[name] = line
        whole = self._lines + len(lines) > MOST_LINES
        text = "".join((self._known if whole else lines).values())
        self._lines = len(self._known) if whole else self._lines + len(lines)
        try:
            await run_in_thread(_write, self._path, text, whole)
        except OSError as error:
            self._changed = {**changed, **self._changed}
            self._lines = MOST_LINES  # a part may have been written: the next write is whole
            reason = error.strerror or str(error)
            log.warning("records are forgotten at a restart", file=str(self._path), reason=reason)


def _lines_of(path: Path) -> list[str]:
    try:
        text = path.read_text(errors="replace")
    except OSError:  # none yet; a directory that can't be written is reported then
        return []
    *lines, torn = text.split("\n")
    return [*(f"{line}\n" for line in lines if line), *([torn] if torn else [])]


def _line(record: RequestRecord) -> str:
    line = _RECORD.dump_json(record).decode() + "\n"
    return line if len(line) <= LONGEST_LINE else ""


def _write(path: Path, text: str, whole: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    target = path.with_suffix(".new") if whole else path
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if whole else os.O_APPEND)
    with os.fdopen(os.open(target, flags, 0o600), "w") as file:
        file.write(text)
    if whole:
        target.replace(path)
