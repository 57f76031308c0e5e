"""The contract of a destination of savefiles."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.request import CaptureRequest, Problem
from pcapdaemon.core.section import Section
from pcapdaemon.savefile.savefile import Savefile


@dataclass(frozen=True, slots=True)
class SavefileInfo:
    """What a destination needs to know about a savefile.

    `file_name` is one safe path component. `request` caused the capture. `again` means that an
    earlier delivery may have succeeded without anybody knowing.
    """

    id: str
    interface: str
    file_name: str
    tags: str
    request: CaptureRequest
    again: bool = False


class Destination(ABC):
    """One place where savefiles go.

    The delivery calls `deliver` in the event loop, for several savefiles at a time. It must not
    block the loop.

    `deliver` receives a reader of its own, at the beginning of the savefile, and may close it. The
    reader is also closed when nobody waits any more; reading then raises ValueError. `deliver`
    returns a receipt once the whole savefile is safely stored. It raises DeliveryFailed if a retry
    may help, and DeliveryRefused if a retry never will, in words that contain no secret. In both
    cases it must leave nothing half-done behind.

    `deliver` is called again for a savefile that is already stored if an answer was lost or the
    process ended before that was known. The savefile must then still be stored only once.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Section]]
    HEEDED: ClassVar[tuple[str, ...]] = ()
    """Fields of a request that this destination uses: equal requests differ in none of them."""

    directory: Path | None = None
    """The directory that `prepare` makes, if it stores savefiles in one."""

    @abstractmethod
    def __init__(self, settings: Any) -> None: ...

    def prepare(self) -> None:  # noqa: B027  # few destinations need it
        """Make what is missing, before the first delivery. `check` does not call it. Blocks."""

    @abstractmethod
    async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt: ...

    async def fetch(self, where: str) -> Savefile | None:
        """Return a savefile that it stored, by its receipt, or None if it can't.

        The caller closes it.
        """
        return None

    def objections(self, request: CaptureRequest) -> list[Problem]:
        """Return what the request asks of this destination and the configuration forbids.

        Called before anything is captured.
        """
        return []

    @abstractmethod
    async def check(self) -> str:
        """Return what prevents a delivery now, in words for a person; empty if nothing does."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where savefiles go, for people; it contains no secrets."""
