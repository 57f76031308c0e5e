"""Checks the directories that a daemon writes to, and makes none of them.

The daemon may run as another user. Everything here blocks.
"""

import tempfile
from contextlib import suppress
from pathlib import Path

from pcapdaemon.cli.finding import Finding
from pcapdaemon.delivery.spool import SpoolSettings
from pcapdaemon.files import require_private


def state_finding(directory: Path) -> Finding:
    """Check the directory of `[general] statedir`."""
    try:
        return Finding("state", True, _tried(directory))
    except OSError as error:
        words = f"{directory}: {error.strerror}: a restart would forget accepted requests"
        return Finding("state", False, words, "set [general] statedir to a writable directory")


def spool_finding(settings: SpoolSettings) -> Finding:
    """Check the directory of `[spool]`."""
    directory = Path(settings.dir or "").absolute()
    try:
        if directory.exists():
            require_private(directory)
        return Finding("spool", True, _tried(directory))
    except OSError as error:
        words = f"{settings.dir}: {error.strerror}: savefiles could wait in memory only"
        return Finding("spool", False, words, "set [spool] dir to a writable directory")


def _tried(directory: Path) -> str:
    """Return that a directory can be written to, or made. Raises OSError."""
    place = next(one for one in (directory, *directory.parents) if one.exists())
    with tempfile.TemporaryFile(dir=place):
        return f"{directory} {'can be written to' if place == directory else 'will be made'}"


def audit_finding(file: Path) -> Finding:
    """Check the file of `[audit]`."""
    hint = "set [audit] file to a file in a writable directory"
    try:
        if file.exists():
            file.open("ab").close()
        else:
            tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        return Finding("audit", False, f"{file}: {error.strerror}", hint)
    return Finding("audit", True, f"{file} can be written to")


def to_be_made(directory: Path | None, state: Path | None) -> str:
    """Return that a directory is missing and the daemon makes it, or ""."""
    if directory is None or directory.exists():
        return ""
    first = (state, *state.parents) if state else ()  # the daemon makes them first
    if not directory.parent.exists() and directory.parent not in first:
        return ""
    with suppress(OSError):
        return _tried(directory)
    return ""
