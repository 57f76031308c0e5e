"""Handles that are open before a request comes.

Opening an interface takes 8 to 20 ms, because the kernel waits for readers of its lists when a
buffer is set up. Setting the filter of an open one takes a fraction of a millisecond.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence

import structlog

from pcapdaemon.capture.live import CaptureSettings, Spare
from pcapdaemon.core.errors import Busy, CaptureRefused
from pcapdaemon.core.interface import Interface
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.threads import started

log = structlog.get_logger()

TRY_EVERY = 5.0
"""Seconds between attempts to open what could not be opened."""

MOST_OF_BUDGET = 4
"""The buffers of all of them take at most this part of the memory: a quarter."""


class Ready(Mapping[str, Interface]):
    """One open handle for each of some interfaces. A thread replaces those that were taken.

    As a mapping, it has the interfaces that are open now, so that nobody needs to look for them.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._settings = CaptureSettings()
        self._wanted: tuple[str, ...] = ()
        self._there: dict[str, Spare] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._there)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._there))

    def __getitem__(self, name: str) -> Interface:
        spare = self._there[name]
        if spare.found is None or not spare.is_usable:
            raise KeyError(name)
        return spare.found

    def configure(self, names: Sequence[str], settings: CaptureSettings) -> None:
        """Keep handles of these interfaces, opened with these settings. Does not block."""
        with self._changed:
            self._wanted, self._settings = tuple(names), settings
            if names and self._thread is None:
                # without room for a thread, each capture opens its interface itself
                self._thread = started(self._work, "pcapdaemon-ready")
            self._changed.notify()

    def take(self, name: str, settings: CaptureSettings) -> Spare | None:
        """Return the open handle of an interface, which the caller must adopt or close.

        Another is opened when the caller calls `replace` of it.
        """
        with self._changed:
            spare = self._there.pop(name, None)
        if spare is None:
            return None
        if spare.settings == settings and spare.is_usable:
            return spare
        spare.close()
        self._refill()
        return None

    def _refill(self) -> None:
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Close all handles. Blocks for some 25 ms each."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread:
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                unfit, missing = self._unfit(), self._missing()
                if self._closing:
                    unfit, missing = list(self._there), []
                dropped = [self._there.pop(name) for name in unfit]
            for spare in dropped:
                spare.close()
            if self._closing:
                return
            opened = [self._open(name) for name in missing]
            with self._changed:
                refused = not all(opened)
                has_work = self._is_closing if refused else self._has_work
                self._changed.wait_for(has_work, TRY_EVERY)

    def _is_closing(self) -> bool:
        return self._closing

    def _has_work(self) -> bool:
        return self._closing or bool(self._unfit() or self._missing())

    def _unfit(self) -> list[str]:
        return [
            name
            for name, spare in self._there.items()
            if name not in self._wanted or spare.settings != self._settings or not spare.is_usable
        ]

    def _missing(self) -> list[str]:
        return [name for name in self._wanted if name not in self._there]

    def _open(self, name: str) -> bool:
        with self._changed:
            settings, held = self._settings, sum(one.buffer for one in self._there.values())
        if held + settings.buffer > self._budget.limit // MOST_OF_BUDGET:
            return False
        try:
            spare = Spare(name, self._budget, settings, replace=self._refill)
        except (CaptureRefused, Busy, OSError):
            return False
        except Exception:  # a bug must not end the thread
            log.exception("an interface could not be opened in advance", interface=name)
            return False
        with self._changed:
            self._there[name] = spare
        return True
