"""Savefiles in a local directory: complete under their names, or not there at all."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from pcapdaemon.core.errors import DeliveryFailed, DeliveryRefused
from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.section import Section
from pcapdaemon.core.units import Bytes, Time
from pcapdaemon.destinations.base import Destination, SavefileInfo
from pcapdaemon.destinations.local_limits import MODE, Limits, make_room
from pcapdaemon.files import opened_directory
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.threads import InTurn, run_in_thread

MOST_NAMES = 1000
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEVER = {errno.ENAMETOOLONG, errno.EINVAL}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}


class LocalSettings(Section):
    """The keys of `[general]` that concern the local directory."""

    writelocal: bool = Field(False, description="Write savefiles to `localdir`.")
    localdir: str = Field(
        "./captures",
        pattern=r"^[^\x00]+$",
        description=(
            "The directory for savefiles. If it is missing, its last component is created, and"
            " only at start."
        ),
    )
    localmaxbytes: Bytes = Field(
        0,
        ge=0,
        description=(
            "Most bytes of all savefiles in `localdir`: the oldest are removed for a new one. Only"
            " savefiles of the daemon's own user are counted and removed. 0: any number."
        ),
    )
    localminfree: Bytes = Field(
        0,
        ge=0,
        description=(
            "Bytes that stay free on the disk of `localdir`: the oldest savefiles are removed for a"
            " new one. 0: none."
        ),
    )
    localmaxage: Time = Field(
        0, ge=0, description="Savefiles older than this many seconds are removed. 0: never."
    )

    @property
    def limits(self) -> Limits:
        """The limits of the directory."""
        return Limits(self.localmaxbytes, self.localminfree, self.localmaxage)


class LocalDirectory(Destination):
    """Writes each savefile under a hidden name, syncs it, then renames it.

    It never touches an existing file. If a file with the same name and the same bytes exists, an
    earlier delivery wrote it without knowing that it had succeeded, and it counts as this savefile.

    The directory is opened again for each file and never created then: if a file system is not
    mounted, its mount point must not be filled in its place. A retry helps once it is mounted or
    the disk has room again.
    """

    name = "local"
    Settings = LocalSettings

    directory: Path

    def __init__(self, settings: LocalSettings) -> None:
        self.directory, self._limits = Path(settings.localdir).absolute(), settings.limits
        self._writing = InTurn()

    def prepare(self) -> None:
        """Make the directory."""
        with contextlib.suppress(OSError):  # each delivery reports it
            self.directory.mkdir(mode=0o750, exist_ok=True)

    @property
    def address(self) -> str:
        """The directory's path."""
        return str(self.directory)

    async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
        """Write a savefile in a thread, because a disk may hang."""
        return Receipt(
            await self._writing.run(info.file_name, self._write, savefile, info.file_name)
        )

    async def fetch(self, where: str) -> Savefile | None:
        """Open a savefile in a thread, unless it is gone or not in this directory."""
        return await run_in_thread(_savefile_at, self.directory, where)

    async def check(self) -> str:
        """Create a file, and remove it again."""
        return await run_in_thread(self._try)

    def _write(self, savefile: Savefile, name: str) -> str:
        try:
            with savefile, opened_directory(self.directory) as directory:
                if there := _find(directory, savefile, name):
                    return str(self.directory / there)
                make_room(directory, self._limits, savefile.size)
                return str(self.directory / _store(directory, savefile, name))
        except OSError as error:
            number, words = error.errno or 0, error.strerror or str(error)
        # raised outside of `except`: else it would refer to the first error, whose frames hold the
        # savefile's memory
        kind = DeliveryRefused if number in _NEVER else DeliveryFailed
        raise kind(f"{self.directory}: {words}")

    def _try(self) -> str:
        try:
            with opened_directory(self.directory) as directory, _hidden_file(directory, "check"):
                return ""
        except OSError as error:
            return f"{self.directory}: {os.strerror(error.errno or 0)}"


def _savefile_at(directory: Path, where: str) -> Savefile | None:
    path = Path(where)
    try:
        if path.parent != directory.absolute() or not stat.S_ISREG(path.lstat().st_mode):
            return None
        return Savefile.on_disk(path)
    except OSError:
        return None


def _find(directory: int, savefile: Savefile, name: str) -> str | None:
    """Return the name of this savefile if an earlier delivery already wrote it."""
    for number in range(MOST_NAMES):
        try:
            file = os.open(_numbered(name, number), _READ, dir_fd=directory)
        except FileNotFoundError:
            return None
        except OSError:  # a link, or not readable: it is somebody else's
            continue
        try:
            if _same(file, savefile):
                os.fsync(directory)  # the earlier process may have ended before it synced
                return _numbered(name, number)
        finally:
            os.close(file)
    return None


def _same(file: int, savefile: Savefile) -> bool:
    there = os.fstat(file)
    if not stat.S_ISREG(there.st_mode) or there.st_size != savefile.size:
        return False
    at = 0
    for view in savefile.views():
        if os.pread(file, len(view), at) != view:
            return False
        at += len(view)
    return True


def _store(directory: int, savefile: Savefile, name: str) -> str:
    with _hidden_file(directory, name) as (descriptor, hidden):
        savefile.write_to(descriptor)
        os.fsync(descriptor)
        name = _give_name(directory, hidden, name)
    os.fsync(directory)
    return name


@contextlib.contextmanager
def _hidden_file(directory: int, name: str) -> Iterator[tuple[int, str]]:
    """Create a file with a hidden name, and remove that name at the end.

    `directory` is the directory's file descriptor. The file remains if it has got its own name.
    """
    hidden = f".{name[:200]}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(hidden, flags, MODE, dir_fd=directory)
    try:
        os.fchmod(descriptor, MODE)  # whatever the umask says
        yield descriptor, hidden
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hidden, dir_fd=directory)


def _give_name(directory: int, hidden: str, name: str) -> str:
    """Give the file its name, or `name-1.pcap` and so on if that exists; return the name."""
    for number in range(MOST_NAMES):
        free = _numbered(name, number)
        try:
            _rename_unless_there(directory, hidden, free)
            return free
        except FileExistsError:
            continue
    words = f"{name} and {MOST_NAMES - 1} numbered names exist; change [general] filename"
    raise OSError(errno.EEXIST, words)


def _numbered(name: str, number: int) -> str:
    stem, dot, extension = name.rpartition(".pcap" if ".pcap" in name else ".")
    return f"{stem}-{number}{dot}{extension}" if number else name


def _rename_unless_there(directory: int, hidden: str, name: str) -> None:
    # rename(2) would replace an existing file; link(2) refuses, even if that file is a link
    try:
        os.link(hidden, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE, dir_fd=directory))
        try:
            os.rename(hidden, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            os.unlink(name, dir_fd=directory)
            raise
