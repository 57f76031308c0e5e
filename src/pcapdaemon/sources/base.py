"""The contract of a source of requests."""

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
"""One or more channels, topics or queues for results."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it arrived: its raw body, its origin, and how to settle and answer it.

    The engine calls `settle` once (TAKEN and then DONE count as one) and never checks which source
    a message came from. It calls `answer` at most once, before `settle`. Both are called in the
    event loop and return at once. `None` means that the source can't do this.

    `sent_at` is the broker's time and `arrived_at` this node's, in seconds since the epoch. `key`
    identifies the message if its request has no id. A `returnable` message is redelivered after
    BUSY. An `until_done` message is redelivered if the daemon crashes before DONE. `stream` is a
    descriptor that the packets are written to as they come, in place of delivering a savefile, and
    `exclude` matches those that must not be. `requester` is who sent it, if the way that it came
    says so, and `signed_by` the fingerprint of the key that signed it.
    """

    body: bytes
    source: str
    sent_at: float | None = None
    key: str = ""
    settle: Callable[[Verdict], None] | None = None
    answer: Callable[[Answer], None] | None = None
    returnable: bool = False
    until_done: bool = False
    stream: int = 0
    exclude: str = ""
    requester: str = ""
    signed_by: str = ""
    arrived_at: float = field(default_factory=time.time)


class Source(ABC):
    """One origin of messages.

    `pump` calls all methods, one at a time, in the event loop. They may wait.

    `connect` returns once messages that are sent from now on will be received. `receive` returns
    the next message. Cancelling it between two messages must lose none. Both raise NotConnected,
    with a reason for the log, if there is no connection. `pump` then calls `close`, waits, and
    calls `connect` again. `close` may be called in any state. It carries out the verdicts that were
    given before, as far as it can within seconds.
    """

    name: str
    Settings: ClassVar[type[Section]]
    settings: Any
    """Its section. It is replaced when credentials change; each `connect` uses the current one."""

    whole: bool = False
    """Whether a message in an envelope of another service comes with it, because it is an alert."""

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
        """Return whether a request may be redelivered after the node restarts."""
        return False

    @property
    @abstractmethod
    def address(self) -> str:
        """The address that it listens on, for people; it contains no secrets."""


class Bus(Source):
    """A source on which nodes can send answers and people can send requests."""

    node: str
    hears_all: ClassVar[bool] = True
    """Whether several can read the same results, so that reading them takes them from nobody."""

    answer: Callable[[Answer], None] | None = None
    """Answers a message; whoever sends results sets it."""

    @property
    def places(self) -> tuple[str, ...]:
        """The channels, topics or queues for results.

        The first is used if a request names none.
        """
        results = self.settings.results
        return (results,) if isinstance(results, str) else tuple(results or ())

    @abstractmethod
    async def send(self, body: bytes, to: str | None = None) -> int | None:
        """Send a message to where requests go, or to `to`.

        Returns the number of receivers, if the bus knows it. Connects if necessary. Raises
        NotConnected.
        """

    async def tell(self, place: str, body: bytes) -> None:
        """Send a result to one of `places`.

        Raises NotConnected, or ResultRefused if this result can never be sent there.
        """
        await self.send(body, place)

    async def check(self, place: str) -> str:
        """Return why results can't be sent to one of `places`, or "" if they can, as far as known.

        It sends nothing. Raises NotConnected if the server can't be reached.
        """
        return ""

    @classmethod
    @abstractmethod
    def of_answers(cls, settings: Any, node: str, place: str) -> Self:
        """Return a source on the same server that receives the results sent to `place`.

        It receives no requests.
        """
