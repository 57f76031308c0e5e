"""A destination that is a dictionary on disk: one file for each savefile, named by its digest."""

import hashlib
from pathlib import Path

from pydantic import Field

from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.section import Section
from pcapdaemon.destinations.base import Destination, SavefileInfo
from pcapdaemon.savefile.savefile import Savefile


class DrawerSettings(Section):
    """`[drawer]`: where it is."""

    store: bool = Field(False, description="Put savefiles into the drawer.")
    path: str = Field(min_length=1, description="The directory.")


class Drawer(Destination):
    """Writes each savefile once."""

    name = "drawer"
    Settings = DrawerSettings
    HEEDED = ("folder",)

    def __init__(self, settings: DrawerSettings) -> None:
        self._path = Path(settings.path)

    @property
    def address(self) -> str:
        """The directory."""
        return str(self._path)

    async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
        """Write it."""
        content = savefile.read()
        file = self._path / hashlib.sha256(content).hexdigest()
        file.write_bytes(content)
        return Receipt(str(file), file.name)

    async def check(self) -> str:
        """The directory must be there."""
        return "" if self._path.is_dir() else f"{self._path}: no such directory"
