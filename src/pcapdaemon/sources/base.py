"""What a source of requests is, and the one place that connects again."""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Annotated, Any, ClassVar, Self

import stamina
import structlog
from pydantic import Field

from pcapdaemon.answers import Answer
from pcapdaemon.errors import NotConnected
from pcapdaemon.events import Publish, SourceConnected, SourceDisconnected
from pcapdaemon.section import Section

log = structlog.get_logger()

LONGEST_PAUSE = 1.5
"""Seconds between two tries to connect, at most, and a third more at random."""

Places = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)]
"""Several channels, topics or queues for results."""


class Verdict(Enum):
    """What the engine has decided about a message; a source does with it what its bus can do."""

    TAKEN = auto()
    """Accepted: captures run. DONE follows when they are delivered."""
    DONE = auto()
    """Nothing more will come of it here, nor should it anywhere else: refused, too old, seen before, or finished."""
    BAD = auto()
    """It is no request that any node could obey; it was answered."""
    ELSEWHERE = auto()
    """It is for another node: whoever can have it may have it."""
    BUSY = auto()
    """This node can't now; where `Message.returnable` it comes again later."""


@dataclass(frozen=True, slots=True)
class Message:
    """A raw body with its origin, and what can be done with it.

    The engine calls `settle` once (TAKEN first, then DONE, counts as once), and never asks which source it is; `answer` at most
    once, before that. Both are called in the event loop and return at once; `None` says that the source has no such thing.
    `sent_at` is the broker's time, `arrived_at` this node's, in seconds since the epoch; `key` tells this message from all
    others where it has no id.
    `returnable` messages come again after BUSY; `until_done` ones after a crash of the daemon before DONE.
    """

    body: bytes
    source: str
    sent_at: float | None = None
    key: str = ""
    settle: Callable[[Verdict], None] | None = None
    answer: Callable[[Answer], None] | None = None
    returnable: bool = False
    until_done: bool = False
    arrived_at: float = field(default_factory=time.time)


class Source(ABC):
    """One origin of messages. All methods are called by `pump`, one at a time, in the event loop, and may wait.

    `connect` returns when messages that are sent from now on will be received. `receive` returns the next message and
    must not lose one when it is cancelled between two. Both raise NotConnected, with words for the log, when there is no
    connection: then `close` is called, and `connect` again after a while. `close` may be called in any state; it carries out
    verdicts that were given before, as far as it can within seconds.
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


class Bus(Source):
    """A source on which nodes can answer and people can send."""

    settings: Any
    node: str
    answer: Callable[[Answer], None] | None = None
    """What messages are answered by; set by whoever sends results."""

    @property
    def places(self) -> tuple[str, ...]:
        """Where results go: channels, topics or queues; the first is meant where a request names none."""
        results = self.settings.results
        return (results,) if isinstance(results, str) else tuple(results or ())

    @abstractmethod
    async def send(self, body: bytes, to: str | None = None) -> int | None:
        """Send a message where requests go, or `to` somewhere else; the number of receivers, if the bus knows.

        Connects by itself. Raises NotConnected.
        """

    async def tell(self, place: str, body: bytes) -> None:
        """Send a result to one of `places`; raises NotConnected."""
        await self.send(body, place)

    @classmethod
    @abstractmethod
    def of_answers(cls, settings: Any, node: str, place: str) -> Self:
        """A source with the same server that hears the results at one of `places`, in place of the requests."""


async def pump(source: Source, take: Callable[[Message], None], publish: Publish) -> None:
    """Hand every message of a source to `take`, for ever; connect again with back-off and jitter whenever it is lost.

    Cancelled, it leaves the source open: verdicts on its messages may still come. Whoever cancels closes it then.
    """
    pause = 0.1
    while True:
        connected_at = time.monotonic()
        try:
            await _connect(source, publish)
            connected_at = time.monotonic()
            while True:
                take(await source.receive())
        except NotConnected as error:
            publish(SourceDisconnected(source.name, str(error)))
        except Exception as error:  # a defect of one source must not take the others, and the captures, along
            log.exception("a source failed in an unforeseen way", source=source.name)
            publish(SourceDisconnected(source.name, f"internal error: {type(error).__name__}"))
        await close(source)
        # a server that takes connections and drops them must not be hammered
        pause = min(pause * 2, LONGEST_PAUSE) if time.monotonic() - connected_at < 10 else 0.1
        await asyncio.sleep(pause * random.uniform(1, 1.3))  # noqa: S311  # jitter


async def end(task: "asyncio.Task[None]") -> None:
    """Cancel a pump and wait for its end; ask again where a client library swallows it (seen with redis-py 8.1 on a read)."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.2)


async def close(source: Source) -> None:
    """Close a source; it is being thrown away, so that fails only in the log."""
    try:
        await source.close()
    except Exception:
        log.exception("a source could not be closed", source=source.name)


async def _connect(source: Source, publish: Publish) -> None:
    told = ""
    async for attempt in stamina.retry_context(
        on=NotConnected, attempts=None, timeout=None, wait_initial=0.2, wait_max=LONGEST_PAUSE, wait_jitter=0.3
    ):
        with attempt:
            try:
                await source.connect()
            except NotConnected as error:
                await close(source)
                if str(error) != told:
                    publish(SourceDisconnected(source.name, str(error)))
                told = str(error)
                raise
    publish(SourceConnected(source.name))
