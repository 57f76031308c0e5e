"""Helpers for files that several packages use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened_directory(path: Path) -> Iterator[int]:
    """Open a directory, and close it at the end of the block.

    All operations relative to the descriptor use the same directory, even if it is renamed.
    """
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)
