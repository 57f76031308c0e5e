"""Remembers which requests this node accepted, so that none is captured twice.

It covers all sources and survives a restart.
"""

import asyncio
import json
import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import structlog

from pcapdaemon.core.answers import Answer, AnswerKind
from pcapdaemon.core.wire import MALFORMED
from pcapdaemon.threads import run_in_thread
from pcapdaemon.uptime import since, uptime

MOST = 10_000
"""Most requests that are remembered. If there are more, the oldest are forgotten.

The file has at most three times as many lines.
"""

WRITE_WITHIN = 2.0
"""Most seconds that an answer waits for the disk."""

ACCEPTED, ALERTS = "accepted.jsonl", "alerts.jsonl"
"""The files with the requests that were accepted, and with the alerts that started one."""

log = structlog.get_logger()


@dataclass(slots=True)
class Known:
    """A request that was accepted or, while `answer` is None, is being decided.

    `at` is an uptime. `kept` says that it must survive a restart, and `written` that it will.
    """

    at: float
    answer: Answer | None = None
    kept: bool = False
    written: bool = False
    decided: asyncio.Event = field(default_factory=asyncio.Event)


class Dedupe:
    """Remembers requests by key, in memory and, unless `directory` is None, in a file there.

    All methods except `_write` and `_kept` run in the event loop.
    """

    def __init__(
        self, directory: Path | None, now: Callable[[], float] = uptime, name: str = ACCEPTED
    ) -> None:
        self._path = directory / name if directory else None
        self._now = now
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._lock = threading.Lock()
        self._lines = 0
        if self._path:
            self._load(self._path)

    def answer_to(self, key: str, seconds: float) -> Answer | None:
        """Return the answer to a request with this key within the last `seconds`, or None."""
        known = self._known.get(key)
        return known.answer if known and self._now() - known.at < seconds else None

    async def claim(self, key: str, seconds: float) -> Answer | None:
        """Claim a key, or return the answer to a request with it within the last `seconds`.

        Returns None if the key was claimed. The caller must then call `decide`.

        Waits while another request with the same key is being decided.
        """
        while (known := self._known.get(key)) is not None:
            if known.answer is None:
                await known.decided.wait()
            elif self._now() - known.at < seconds:
                return known.answer
            else:
                break
        self._known[key] = Known(self._now())
        return None

    async def decide(self, key: str, answer: Answer | None, keep: bool = True) -> None:
        """Record the decision about a claimed key: the answer, or None if it was not accepted.

        After None, the key can be claimed again.

        With `keep`, it is also written to the file. This waits for the disk for at most
        WRITE_WITHIN seconds.
        """
        known = self._known.get(key)
        if known is None:
            return
        known.answer = answer
        if answer is None:
            del self._known[key]
        else:
            self._known.move_to_end(key)
            self._forget_the_oldest()
            known.decided.set()
            if keep:
                await self.keep(key)
            return
        known.decided.set()

    async def keep(self, key: str) -> None:
        """Write an accepted request to the file.

        If that fails, the log says so, and the request is remembered until the daemon ends.
        """
        known = self._known.get(key)
        if self._path is None or known is None or known.answer is None:
            return
        known.kept = True
        try:
            async with asyncio.timeout(WRITE_WITHIN):
                await run_in_thread(self._write, self._path, key, known)
        except (OSError, TimeoutError) as error:
            log.warning(
                "an accepted request may be captured again after a restart",
                file=str(self._path),
                reason=str(error),
            )

    def _forget_the_oldest(self) -> None:
        too_many = len(self._known) - MOST
        if too_many > 0:
            decided = (key for key, known in self._known.items() if known.answer is not None)
            for key in list(islice(decided, too_many)):
                del self._known[key]

    def _write(self, path: Path, key: str, known: Known) -> None:
        with self._lock:
            if known.written:  # with all of them, by another thread
                return
            rewrite = self._lines > 2 * MOST
            found = self._kept() if rewrite else [(key, known)]
            lines, self._lines = self._lines, 3 * MOST  # if it fails, the next one writes them all
            _put(path, "".join(_line(key, known) for key, known in found), rewrite)
            self._lines = len(found) if rewrite else lines + 1
            for _, one in found:
                one.written = True

    def _kept(self) -> list[tuple[str, Known]]:
        while True:
            try:
                known = list(self._known.items())
            except RuntimeError:  # the loop has changed it meanwhile
                continue
            return [one for one in known if one[1].kept]

    def _load(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_text(errors="replace") if path.exists() else ""
        except OSError as error:
            log.warning(
                "accepted requests are forgotten at a restart",
                file=str(path),
                reason=error.strerror,
            )
            return
        lines = text.splitlines()
        # a crash can leave a partial line that would corrupt the next one: rewrite the file
        self._lines = len(lines) if text.endswith("\n") or not text else 3 * MOST
        for line in lines[-MOST:]:
            # skip a partial line that a crash left, or one from another program
            with suppress(*MALFORMED):
                entry = json.loads(line)
                answer = Answer(
                    str(entry["id"]),
                    AnswerKind.ACCEPTED,
                    interfaces=tuple(map(str, entry["interfaces"])),
                )
                self._known[str(entry["key"])] = Known(self._uptime_of(entry), answer, True, True)

    def _uptime_of(self, entry: Mapping[str, float]) -> float:
        """Return when an entry was written, as an uptime.

        If the machine was started meanwhile, the wall clock decides. A time in the future is one
        that was wrong, and counts as now.
        """
        now = self._now()
        if entry.get("uptime", math.inf) <= now:
            return float(entry["uptime"])
        return now - max(0.0, time.time() - entry["at"])


def _put(path: Path, text: str, rewrite: bool) -> None:
    target = path.with_suffix(".new") if rewrite else path
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if rewrite else os.O_APPEND)
    descriptor = os.open(target, flags, 0o600)
    try:
        rest = memoryview(text.encode())
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)
    if rewrite:
        target.replace(path)


def can_remember(directory: Path | None) -> bool:
    """Return whether what was accepted survives a restart. The directory is made if it is missing.

    Blocks.
    """
    if directory is None:
        return False
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.R_OK | os.W_OK | os.X_OK)


def _line(key: str, known: Known) -> str:
    answer = known.answer or Answer("", AnswerKind.ACCEPTED)
    entry = {
        "key": key,
        "uptime": known.at,
        "at": time.time() - since(known.at),
        "id": answer.id,
        "interfaces": answer.interfaces,
    }
    return json.dumps(entry) + "\n"
