"""What a source of requests is, and the one place that connects again."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar

import stamina
import structlog

from pcapdaemon.errors import NotConnected
from pcapdaemon.events import Publish, SourceConnected, SourceDisconnected
from pcapdaemon.request import Problem
from pcapdaemon.section import Section

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a message at once; `kind` is "accepted", "elsewhere" (not for this node), or a rejection's."""

    id: str
    kind: str
    problems: tuple[Problem, ...] = ()
    interfaces: tuple[str, ...] = ()
    hint: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """A raw body with its origin, and what can be done with it.

    The engine calls exactly one of `ack` (this node has taken or refused it) and `nack` (it is for another node: whoever
    can have it may have it), once, and never asks which source it is; `None` says that the source has no such thing.
    `answer` is called at most once, before that, and must not block; `None` says that the sender does not wait.
    """

    body: bytes
    source: str
    ack: Callable[[], Coroutine[Any, Any, None]] | None = None
    nack: Callable[[], Coroutine[Any, Any, None]] | None = None
    answer: Callable[[Answer], None] | None = None


class Source(ABC):
    """One origin of messages. All methods are called by `pump`, one at a time, in the event loop, and may wait.

    `connect` returns when messages that are sent from now on will be received. `receive` returns the next message and
    must not lose one when it is cancelled between two. Both raise NotConnected, with words for the log, when there is no
    connection: then `close` is called, and `connect` again after a while. `close` may be called in any state.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Section]]

    @abstractmethod
    def __init__(self, settings: Any, node: str) -> None: ...

    @abstractmethod
    async def connect(self) -> None: ...

    @abstractmethod
    async def receive(self) -> Message: ...

    @abstractmethod
    async def close(self) -> None: ...

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it listens, for people: no secrets."""


async def pump(source: Source, take: Callable[[Message], None], publish: Publish) -> None:
    """Hand every message of a source to `take`, for ever; connect again with back-off and jitter whenever it is lost."""
    while True:
        try:
            await _connect(source, publish)
            while True:
                take(await source.receive())
        except NotConnected as error:
            publish(SourceDisconnected(source.name, str(error)))
        except Exception as error:  # a defect of one source must not take the others, and the captures, along
            log.exception("a source failed in an unforeseen way", source=source.name)
            publish(SourceDisconnected(source.name, f"internal error: {type(error).__name__}"))
        finally:
            await _close(source)
        await asyncio.sleep(0.1)  # a server that takes connections and drops them must not be hammered


async def _close(source: Source) -> None:
    try:
        await source.close()
    except Exception:  # it is being thrown away; the pump must go on
        log.exception("a source could not be closed", source=source.name)


async def _connect(source: Source, publish: Publish) -> None:
    told = ""
    async for attempt in stamina.retry_context(
        on=NotConnected, attempts=None, timeout=None, wait_initial=0.2, wait_max=1.5, wait_jitter=0.3
    ):
        with attempt:
            try:
                await source.connect()
            except NotConnected as error:
                await _close(source)
                if str(error) != told:
                    publish(SourceDisconnected(source.name, str(error)))
                told = str(error)
                raise
    publish(SourceConnected(source.name))
