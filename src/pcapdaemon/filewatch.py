"""Notices when files that the configuration names are replaced: secrets and certificates."""

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

Identity = tuple[int, int, int, int] | None
"""The device, inode, size and time of change of a file; None if it can't be read."""

Files = Mapping[str, Mapping[str, Identity]]
"""By section of the configuration: its files, and the identity of each when it was read."""


def identity(file: str) -> Identity:
    """Return what differs after a file was replaced or written. Follows links."""
    try:
        found = os.stat(os.path.expanduser(os.path.expandvars(file)))
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def files_in(values: Any) -> Iterator[str]:
    """Yield the names of files in a section: of keys that end in `_file` or `location`."""
    for name, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict):
            yield from files_in(value)
        elif isinstance(value, str) and name.endswith(("_file", "location")):
            yield value


def differing(before: Files, now: Files) -> set[str]:
    """Return the sections whose files were other ones when they were read before."""
    return {section for section in before.keys() & now.keys() if before[section] != now[section]}


class FileWatch:
    """Compares files with what they were when the configuration was read."""

    def __init__(self, files: Files) -> None:
        self.configure(files)

    def configure(self, files: Files) -> None:
        """Watch these files from now on."""
        self._read = {section: dict(of_section) for section, of_section in files.items()}
        self._last: dict[str, Identity] = {}

    def changed(self) -> set[str]:
        """Return the sections with files that changed, and not since the previous call.

        So a file that is being written is not read yet. Each change is reported once. Blocks.
        """
        before, self._last = (
            self._last,
            {file: identity(file) for files in self._read.values() for file in files},
        )
        new = {
            (section, file)
            for section, files in self._read.items()
            for file, read in files.items()
            if self._last[file] not in (None, read) and self._last[file] == before.get(file)
        }
        for section, file in new:
            self._read[section][file] = self._last[file]
        return {section for section, _ in new}

    def report_again(self, sections: Collection[str]) -> None:
        """Report these sections once more, because what changed could not be applied."""
        for section in sections:
            self._read[section] = dict.fromkeys(self._read.get(section, {}), None)
