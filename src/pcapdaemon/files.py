"""Helpers for files that several packages use."""

import io
import os
import resource
import stat
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


@contextmanager
def opened_file(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading, and close it at the end of the block.

    Raises OSError if it is something else: opening a pipe would block, and a link leads elsewhere.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file", str(path))
        yield file


def require_private(directory: Path) -> None:
    """Raise PermissionError if others could write to a directory."""
    found = directory.stat()
    if found.st_uid not in (os.geteuid(), 0):
        raise PermissionError(0, f"belongs to another user (uid {found.st_uid})")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(0, f"others can write to it (mode {stat.S_IMODE(found.st_mode):o})")


MOST_DESCRIPTORS = 65536


def allow_descriptors() -> None:
    """Use as many descriptors as the system allows this process, up to MOST_DESCRIPTORS.

    The usual soft limit is 1024, which connections of clients alone could reach.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
