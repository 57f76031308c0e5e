"""A destination that stores each savefile in a file named by its digest."""

import hashlib
from pathlib import Path

from pydantic import Field

from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.section import Section
from pcapdaemon.destinations.base import Destination, SavefileInfo
from pcapdaemon.savefile.savefile import Savefile


class DrawerSettings(Section):
    """`[drawer]`: its directory."""

    store: bool = Field(False, description="Put savefiles into the drawer.")
    path: str = Field(min_length=1, description="The directory.")


class Drawer(Destination):
    """Stores each savefile once."""

    name = "drawer"
    Settings = DrawerSettings
    HEEDED = ("folder",)

    def __init__(self, settings: DrawerSettings) -> None:
        self._path = Path(settings.path)

    @property
    def address(self) -> str:
        """The directory's path."""
        return str(self._path)

    async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
        """Write a savefile."""
        content = savefile.read()
        file = self._path / hashlib.sha256(content).hexdigest()
        file.write_bytes(content)
        return Receipt(str(file), file.name)

    async def check(self) -> str:
        """Report a missing directory."""
        return "" if self._path.is_dir() else f"{self._path}: no such directory"
