"""Keeps the local directory within limits by removing its oldest savefiles."""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import structlog

MODE = 0o640
"""The mode of savefiles. Files with another mode or of another user are never removed."""

FORMS, PACKED, ENCRYPTED = (".pcap", ".pcapng"), ("", ".gz", ".zst"), ("", ".age")
SUFFIXES = tuple(form + packed + end for form in FORMS for packed in PACKED for end in ENCRYPTED)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """Most bytes of all savefiles, bytes that stay free, most seconds of age; 0 is no limit."""

    maxbytes: int = 0
    minfree: int = 0
    maxage: int = 0


@dataclass(frozen=True, slots=True)
class _File:
    at: float
    name: str
    size: int


def make_room(directory: int, limits: Limits, size: int) -> None:
    """Remove the oldest savefiles until there is room for one of `size` bytes. Blocks.

    `directory` is the directory's file descriptor. Raises OSError with ENOSPC if nothing can make
    enough room.
    """
    if not any((limits.maxbytes, limits.minfree, limits.maxage)):
        return
    files = sorted(_savefiles(directory), key=lambda one: one.at)
    total = sum(one.size for one in files)
    if _never_fits(directory, limits, total, size):
        raise _no_room(limits, size)
    removed = 0
    for one in files:
        old = limits.maxage and time.time() - one.at > limits.maxage
        if not old and not _is_short(directory, limits, total, size):
            break
        with suppress(FileNotFoundError):
            os.unlink(one.name, dir_fd=directory)
        total, removed = total - one.size, removed + 1
    if removed:
        log.info("old savefiles removed", destination="local", files=removed)
    if _is_short(directory, limits, total, size):
        raise _no_room(limits, size)


def _no_room(limits: Limits, size: int) -> OSError:
    words = (
        f"no room for {size} bytes within [general] localmaxbytes = {limits.maxbytes} and"
        f" localminfree = {limits.minfree}"
    )
    return OSError(errno.ENOSPC, words)


def _never_fits(directory: int, limits: Limits, total: int, size: int) -> bool:
    """Return whether even the removal of all savefiles would not make enough room."""
    disk = os.fstatvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    return bool(
        (limits.maxbytes and size > limits.maxbytes)
        or (limits.minfree and free + total < limits.minfree + size)
    )


def _is_short(directory: int, limits: Limits, total: int, size: int) -> bool:
    if limits.maxbytes and total + size > limits.maxbytes:
        return True
    if not limits.minfree:
        return False
    disk = os.fstatvfs(directory)
    return disk.f_bavail * disk.f_frsize < limits.minfree + size


def _savefiles(directory: int) -> Iterator[_File]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.name.endswith(SUFFIXES):
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # another delivery removed it
                continue
            ours = found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == MODE
            if ours and stat.S_ISREG(found.st_mode):
                yield _File(found.st_mtime, entry.name, found.st_size)
