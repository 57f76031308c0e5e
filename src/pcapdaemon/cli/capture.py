"""One capture without a daemon, for `pcapdaemon capture`.

It uses the same engine, session and delivery as the daemon.
"""

import asyncio
import contextlib
import json
import os
import signal
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from pcapdaemon import destinations
from pcapdaemon.around import Around
from pcapdaemon.capture.interface import InterfaceSettings
from pcapdaemon.capture.session import Origins
from pcapdaemon.core.answers import Answer, AnswerKind
from pcapdaemon.core.errors import ConfigError, DeliveryRefused
from pcapdaemon.core.intake import targets_of
from pcapdaemon.core.limits import MAX_SNAPLEN
from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.section import Section
from pcapdaemon.core.text import path_safe
from pcapdaemon.delivery.delivery import Delivery
from pcapdaemon.destinations.base import Destination, SavefileInfo
from pcapdaemon.engine import Engine
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.results.history import History
from pcapdaemon.runs import Runs
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.settings import Settings, interfaces_of, node_name
from pcapdaemon.sources.base import Message
from pcapdaemon.targets.lookup import look_up
from pcapdaemon.targets.targets import Targets
from pcapdaemon.threads import run_in_thread

SHOW_EVERY = 0.25
"""Seconds between two updates of the progress."""

Show = Callable[[list[dict[str, Any]]], None]
"""Shows the records of captures."""


class GivenFile(Destination):
    """The file that the command line names, or stdout for `-`.

    The constructor opens it before anything is captured, and raises ConfigError if that fails.
    """

    name = "file"
    Settings = Section

    def __init__(self, settings: str) -> None:
        self._file = settings
        self._made = settings != "-" and not Path(settings).exists()
        try:
            self._descriptor = (
                1
                if settings == "-"
                else os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            )
        except OSError as error:
            raise ConfigError([f"{settings}: {os.strerror(error.errno or 0)}"]) from None

    @property
    def address(self) -> str:
        """The name of the file."""
        return self._file

    async def check(self) -> str:
        """Return "", because the file is already open."""
        return ""

    async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
        """Write the savefile; an error is not retried, because a person waits."""
        return Receipt(await run_in_thread(self._write, savefile))

    def close(self) -> None:
        """Remove the file if it was created here and is still empty."""
        if self._made and os.fstat(self._descriptor).st_size == 0:
            Path(self._file).unlink(missing_ok=True)

    def _write(self, savefile: Savefile) -> str:
        try:
            if self._file != "-" and stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                os.ftruncate(self._descriptor, 0)
            savefile.write_to(self._descriptor)
        except OSError as error:
            raise DeliveryRefused(f"{self._file}: {os.strerror(error.errno or 0)}") from None
        return "stdout" if self._file == "-" else self._file


SUFFIXES = {".gz": "gzip", ".zst": "zstd"}


def completed(message: dict[str, Any], words: list[str], write: str | None) -> dict[str, Any]:
    """Return a message with the filter in the trailing words, and the format of the file's name."""
    more: dict[str, Any] = {"bpf": " ".join(words)} if words else {}
    path = Path(write or "")
    if path.suffix in SUFFIXES:
        more["compress"] = SUFFIXES[path.suffix]
        path = path.with_suffix("")
    if path.suffix == ".pcapng":
        more["format"] = "pcapng"
    return {**more, **message}


def patience(settings: Settings) -> dict[str, Any]:
    """Return the limits of a capture at a terminal: whole packets, until a person ends it."""
    general = settings.general
    return {"snap": MAX_SNAPLEN, "timeout": general.maxtimeout, "duration": general.maxduration}


def contradiction(read: str | None, paced: bool, lookback: int | None, twice: Any) -> str:
    """Return what is wrong with the combination of these options, or ""."""
    if twice:
        return "give the capture filter as --bpf or as the last words, not both"
    if read == "-":
        return "--read -: standard input can't be played; name a file"
    if read and lookback:
        return "--lookback can't be used with --read, because a file has no recorder"
    return "--paced requires --read FILE" if paced and not read else ""


def replayed(
    message: dict[str, Any], settings: Settings, file: str, paced: bool
) -> tuple[dict[str, Any], Settings]:
    """Change a message and the settings to play a file in place of an interface.

    The capture ends with the file, unless it reaches a limit of the command line or a maximum of
    the configuration first.
    """
    name = (message.get("interface") or [path_safe(Path(file).name, 64)])[0]
    played = InterfaceSettings(name=name, replay=file, replay_pace="file" if paced else "fast")
    return {**patience(settings), **message, "interface": [name]}, replace(
        settings, interfaces=(*settings.interfaces, played)
    )


async def capture(
    message: dict[str, Any], settings: Settings, write: str | None, show: Show
) -> list[dict[str, Any]]:
    """Capture and deliver for one request, and return the records of its captures.

    Raises ConfigError if the request is rejected.
    """
    _refuse_several(message, settings, write)
    streamed = write == "-" and _can_stream(message, settings)
    file = GivenFile(write) if write is not None else None
    try:
        return await _capture(
            json.dumps(message).encode(),
            settings,
            {"file": file} if file else destinations.prepared(settings.destinations),
            show,
            1 if streamed else 0,
        )
    finally:
        if file:
            file.close()


async def _capture(
    body: bytes,
    settings: Settings,
    to: Mapping[str, Destination],
    show: Show,
    stream: int,
) -> list[dict[str, Any]]:
    history = History()
    engine = _engine(settings, history, to)
    with _stopped_by_signals(partial(engine.runs.stop_all, shutdown=False)):
        answer = await _answer(engine, body, stream)
        if answer.kind is not AnswerKind.ACCEPTED:
            raise ConfigError([str(problem) for problem in answer.problems], answer.hint)
        await _watch(history, engine, answer.id, show)
    captures = history.requests[answer.id].as_json()["captures"]
    show(captures)
    return list(captures)


async def answer_of(message: dict[str, Any], settings: Settings) -> Answer:
    """Return the answer to a message that captures nothing: a dry run."""
    return await _answer(_engine(settings, History(), {}), json.dumps(message).encode())


def _engine(settings: Settings, history: History, to: Mapping[str, Destination]) -> Engine:
    delivery = Delivery(to, history.on_event, settings.delivery)
    budget = MemoryBudget(settings.general.memory)
    runs = Runs(settings, budget, delivery, history.on_event, Origins())
    return Engine(
        node_name(settings),
        settings,
        runs,
        history.on_event,
        Around(lambda: interfaces_of(settings), find_targets=Targets(settings.targets).find),
    )


async def _answer(engine: Engine, body: bytes, stream: int = 0) -> Answer:
    answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    engine.take(Message(body, "command line", answer=answered.set_result, stream=stream))
    return await answered


def _can_stream(message: Mapping[str, Any], settings: Settings) -> bool:
    """Return whether live packets become a pcap file, which needs nothing known at the end only."""
    if any(one.replay for one in settings.interfaces if one.name in _names(message, settings)):
        return False
    if settings.general.encrypt_to or message.get("encrypt_to"):
        return False
    form = message.get("format") or settings.general.format
    compress = message.get("compress") or settings.general.compress
    return (form, compress, bool(message.get("merge"))) == ("pcap", "none", False)


def _refuse_several(message: dict[str, Any], settings: Settings, write: str | None) -> None:
    names = _names(message, settings) if write is not None else set()
    if write is not None and len(names) > 1 and not message.get("merge"):
        problem = (
            f"-w names one file, but {len(names)} interfaces ({', '.join(sorted(names))}) need one"
            " each"
        )
        raise ConfigError(
            [problem],
            "remove -w to write one file per interface, or add --merge to write one pcapng file",
        )


def _names(message: Mapping[str, Any], settings: Settings) -> set[str]:
    """Return the interfaces that a message asks for."""
    if asked := targets_of(message, settings.profiles):
        return {one.name for one in look_up(asked, settings.targets).interfaces}
    aliased = (settings.aliases.get(alias, ()) for alias in message.get("alias", ()))
    return {*message.get("interface", ()), *chain.from_iterable(aliased)}


async def _watch(history: History, engine: Engine, request_id: str, show: Show) -> None:
    finished = asyncio.ensure_future(history.finished(request_id))
    while not finished.done():
        show(history.requests[request_id].as_json(engine.counts(request_id))["captures"])
        await asyncio.wait([finished], timeout=SHOW_EVERY)


@contextlib.contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    loop, numbers = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)
    seen: list[int] = []

    def on_signal(number: int) -> None:
        if seen:  # the reader of stdout may have stalled, or the disk
            os._exit(128 + number)
        seen.append(number)
        stop()

    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
