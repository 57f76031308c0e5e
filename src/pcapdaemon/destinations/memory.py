"""A destination inside the process, for tests and as the shortest example of the contract."""

from typing import Any

from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.section import Section
from pcapdaemon.destinations.base import Destination, SavefileInfo
from pcapdaemon.savefile.savefile import Savefile


class MemoryDestination(Destination):
    """Keeps a copy of each savefile in `savefiles`, by file name.

    While `errors` has any, each call of `deliver` raises the first and removes it.
    """

    name = "memory"
    Settings = Section

    def __init__(self, settings: Any = None) -> None:
        self.savefiles: dict[str, bytes] = {}
        self.errors: list[Exception] = []

    async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
        """Copy a savefile."""
        if self.errors:
            raise self.errors.pop(0)
        self.savefiles[info.file_name] = savefile.read()
        return Receipt(f"memory:{info.file_name}")

    async def check(self) -> str:
        """Report no problem."""
        return ""

    @property
    def address(self) -> str:
        """Always `memory`."""
        return "memory"
