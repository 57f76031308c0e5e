"""All recorders of this node, as the configuration defines them."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pcapdaemon.capture.recorder import Recorder, RecorderSettings
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.events import Publish
from pcapdaemon.core.interface import RecordedRates, RecorderStatus
from pcapdaemon.core.node_events import RecorderChanged
from pcapdaemon.threads import call_in_loop, run_in_thread

LOOK_EVERY = 0.5
"""Seconds between checks whether a recorder that was removed or changed may end."""

Wanted = Mapping[str, RecorderSettings]


class Recorders:
    """The recorders by interface.

    A recorder that is removed or changed keeps running for the captures that read from it.
    `changing` is held by who exchanges them. `targets` are what their interfaces lead to.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._there: dict[str, Recorder] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.targets: Mapping[str, Any] = {}
        self.changing = asyncio.Lock()

    def get(self, interface: str) -> Recorder | None:
        """Return the recorder of an interface, or None."""
        return self._there.get(interface)

    def status(self) -> list[RecorderStatus]:
        """Return the state of each recorder."""
        return [
            replace(recorder.status(), target=self.targets.get(name))
            for name, recorder in self._there.items()
        ]

    def rates(self, interface: str) -> RecordedRates | None:
        """Return what a recorder has over time, or None without one. Blocks for milliseconds."""
        recorder = self._there.get(interface)
        return recorder.rates() if recorder else None

    async def make(self, wanted: Wanted, buffer: int, exclude: str = "") -> dict[str, Recorder]:
        """Make all configured recorders, and return them with the unchanged ones. Starts none.

        `buffer` is the bytes of the kernel's buffer. No recorder keeps what `exclude` matches.
        The memory of the recorders is taken here. Raises ConfigError if there is not enough.
        """
        same = {
            name
            for name in wanted
            if (kept := self._there.get(name))
            and (kept.settings, kept.exclude) == (wanted[name], exclude)
        }
        report = partial(call_in_loop, asyncio.get_running_loop(), self._report)
        found: dict[str, Recorder] = {}
        for name, settings in wanted.items():
            try:
                found[name] = (
                    self._there[name]
                    if name in same
                    else await run_in_thread(Recorder, settings, name, buffer, report, exclude)
                )
            except MemoryError as error:
                raise ConfigError([f"[[recorder]] {name}: {error}"], "lower its memory") from None
        return found

    def exchange(self, made: dict[str, Recorder], targets: Mapping[str, Any]) -> None:
        """Start the new recorders of these, and end all others.

        `targets` are what their interfaces lead to. The caller holds `changing` since `make`.
        """
        self.targets = targets
        for name, recorder in self._there.items():
            if made.get(name) is not recorder:
                task = asyncio.create_task(self._end(recorder))
                self._ending.add(task)
                task.add_done_callback(self._ending.discard)
        for name, recorder in made.items():
            if self._there.get(name) is not recorder:
                recorder.start()
        self._there = made

    async def close(self) -> None:
        """End all recorders."""
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*(run_in_thread(recorder.close) for recorder in self._there.values()))

    def _report(self, interface: str, reason: str) -> None:
        self._publish(RecorderChanged(interface, reason))

    async def _end(self, recorder: Recorder) -> None:
        while recorder.captures:  # noqa: ASYNC110  # no event reports it
            await asyncio.sleep(LOOK_EVERY)
        await run_in_thread(recorder.close)
