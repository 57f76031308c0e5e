"""What several parts do with files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def opened_directory(path: Path) -> Iterator[int]:
    """A directory's descriptor for a while.

    What is done relative to it is done in one and the same directory.
    """
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)
