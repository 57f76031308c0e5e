"""A bus made of directories: each file in one is a request, each file in the other a result."""

import asyncio
import itertools
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from pcapdaemon.core.answers import Verdict
from pcapdaemon.core.errors import NotConnected
from pcapdaemon.core.section import Section
from pcapdaemon.sources.base import Bus, Message

LOOK_EVERY = 0.02
_numbers = itertools.count()


class FolderSettings(Section):
    """`[folder]`: its directories."""

    listen: bool = Field(False, description="Receive requests from a directory.")
    path: str = Field(min_length=1, description="The directory with a file for each message.")
    results: str | None = Field(None, description="The directory for results.")


class FolderBus(Bus):
    """Reads the files of a directory, oldest first, and deletes each once it is settled."""

    name = "folder"
    Settings = FolderSettings

    def __init__(self, settings: FolderSettings, node: str) -> None:
        self.settings, self.node = settings, node
        self._taken: set[str] = set()

    @property
    def address(self) -> str:
        """The directory's path."""
        return str(self.settings.path)

    async def connect(self) -> None:
        """Raise NotConnected if the directory is missing."""
        if not Path(self.settings.path).is_dir():
            raise NotConnected(f"{self.settings.path}: no such directory")

    async def receive(self) -> Message:
        """Return the next file that was not received yet."""
        while True:
            await self.connect()
            for file in sorted(Path(self.settings.path).glob("*.json")):
                if file.name not in self._taken:
                    self._taken.add(file.name)
                    return Message(
                        file.read_bytes(),
                        self.name,
                        key=file.name,
                        settle=self._settler(file),
                        answer=self.answer,
                    )
            await asyncio.sleep(LOOK_EVERY)

    async def close(self) -> None:
        """Receive the remaining files again after the next `connect`."""
        self._taken.clear()

    async def send(self, body: bytes, to: str | None = None) -> int | None:
        """Write a file."""
        directory = Path(to or self.settings.path)
        new = directory / f".{next(_numbers):06}"
        new.write_bytes(body)
        new.rename(directory / f"{new.name[1:]}.json")
        return None

    @classmethod
    def redelivers(cls, settings: Any) -> bool:
        """A file that was not settled is read again."""
        return True

    @classmethod
    def of_answers(cls, settings: FolderSettings, node: str, place: str) -> Self:
        """Return a source that receives the results."""
        return cls(settings.model_copy(update={"path": place, "results": None}), node)

    def _settler(self, file: Path) -> Any:
        def settle(verdict: Verdict) -> None:
            if verdict in (Verdict.DONE, Verdict.BAD):
                file.unlink(missing_ok=True)

        return settle
