"""What a destination of savefiles is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.request import CaptureRequest, Problem
from pcapdaemon.core.section import Section
from pcapdaemon.savefile.savefile import Savefile


@dataclass(frozen=True, slots=True)
class SavefileInfo:
    """What goes along with a savefile.

    Its name (one safe path component), its tags, and the request that caused it.

    `again` says that an earlier delivery may have succeeded though nobody knows.
    """

    id: str
    interface: str
    file_name: str
    tags: str
    request: CaptureRequest
    again: bool = False


class Destination(ABC):
    """One place where savefiles go.

    The delivery calls `deliver` in the event loop, for several savefiles at a time.

    `deliver` is given a reader of its own, at the beginning, which it may close, and which is
    closed when nobody waits any more: reading then raises ValueError. It returns a receipt when the
    savefile is safely there whole. It raises DeliveryFailed where trying again later may help,
    DeliveryRefused where it never will, in words that contain no secret; it must leave nothing
    half-done behind in either case. It is called again for a savefile that is there already where
    an answer was lost, or the process ended, before that was known: then there must still be one of
    them. It must not block the loop.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Section]]
    HEEDED: ClassVar[tuple[str, ...]] = ()
    """Fields of a request that this destination heeds: equal requests differ in none of them."""

    @abstractmethod
    def __init__(self, settings: Any) -> None: ...

    @abstractmethod
    async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt: ...

    def objections(self, request: CaptureRequest) -> list[Problem]:
        """What a request asks of this destination and the configuration does not allow.

        Asked before anything is captured.
        """
        return []

    @abstractmethod
    async def check(self) -> str:
        """Return the problems that prevent a delivery now, in words for a person."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where savefiles go, for people: no secrets."""
