"""What a source of requests is."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field

from pcapdaemon.core.answers import Answer, Verdict
from pcapdaemon.core.section import Section

Places = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)
]
"""Several channels, topics or queues for results."""


@dataclass(frozen=True, slots=True)
class Message:
    """A raw body with its origin, and what can be done with it.

    The engine calls `settle` once (TAKEN first, then DONE, counts as once), and never asks which
    source it is; `answer` at most once, before that. Both are called in the event loop and return
    at once; `None` says that the source has no such thing. `sent_at` is the broker's time,
    `arrived_at` this node's, in seconds since the epoch; `key` identifies this message
    if it has no id. `returnable` messages are redelivered after BUSY; `until_done` ones after a
    crash of the daemon before DONE.
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
    """One origin of messages.

    All methods are called by `pump`, one at a time, in the event loop, and may wait.

    `connect` returns when messages that are sent from now on will be received. `receive` returns
    the next message and must not lose one when it is cancelled between two. Both raise
    NotConnected, with words for the log, when there is no connection: then `close` is called, and
    `connect` again after a while. `close` may be called in any state; it carries out verdicts that
    were given before, as far as it can within seconds.
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

    @classmethod
    def redelivers(cls, settings: Any) -> bool:
        """Whether a request may be handed out again after a restart of the node."""
        return False

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
        """Where results go: channels, topics or queues.

        The first is meant where a request names none.
        """
        results = self.settings.results
        return (results,) if isinstance(results, str) else tuple(results or ())

    @abstractmethod
    async def send(self, body: bytes, to: str | None = None) -> int | None:
        """Send a message where requests go, or `to` somewhere else.

        The number of receivers, if the bus knows.

        Connects by itself. Raises NotConnected.
        """

    async def tell(self, place: str, body: bytes) -> None:
        """Send a result to one of `places`; raises NotConnected."""
        await self.send(body, place)

    @classmethod
    @abstractmethod
    def of_answers(cls, settings: Any, node: str, place: str) -> Self:
        """Return a source on the same server that receives the results at one of `places`.

        In place of the requests.
        """
