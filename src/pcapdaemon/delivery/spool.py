"""The spool: a directory that keeps savefiles until every destination has them.

A savefile is two files, `NAME.savefile` and its manifest `NAME.json`. NAME is a ULID, so names sort
by age. Both are written under a hidden name and synced before they are renamed. The manifest is
renamed last and makes the savefile complete. `NAME.retry` and `NAME.drop` are orders from the
command line. All methods block and must be called in a thread, unless they say otherwise.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from ulid import ULID

from pcapdaemon.core.errors import ConfigError, SpoolError
from pcapdaemon.core.policy import Seconds
from pcapdaemon.core.section import Section
from pcapdaemon.core.units import Bytes
from pcapdaemon.core.wire import MALFORMED
from pcapdaemon.delivery.parcel import began_to_wait
from pcapdaemon.files import opened_directory, opened_file, require_private
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.uptime import uptime

QUARANTINE = "quarantine"
LONGEST_MANIFEST = 1 << 20
"""Most bytes of a manifest. A longer one is damaged."""

_OURS = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}\.(?:json|savefile)")
_ORDER = re.compile(r"([0-9A-HJKMNP-TV-Z]{26})\.(retry|drop)")
_LOCK = ".lock"


class SpoolSettings(Section):
    """`[spool]`: where savefiles wait until they are delivered."""

    dir: str | None = Field(
        None,
        min_length=1,
        description=(
            "Directory of the spool. Each daemon needs its own. Absent: savefiles wait in memory"
            " only."
        ),
    )
    maxbytes: Bytes = Field(
        1 << 30,
        ge=1 << 20,
        description="Most bytes of all savefiles in it. If there are more, the oldest is lost.",
    )
    maxage: Seconds = Field(
        86400, description="Longest time in seconds that a savefile is kept. Then it is lost."
    )
    maxfiles: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Most savefiles in it. If there are more, the oldest is lost.",
    )
    eager: bool = Field(
        True,
        description=(
            "Write each savefile to the spool as soon as its capture ends, before the end is"
            " reported, so that even SIGKILL does not lose it. `false`: only if needed, because a"
            " destination fails for longer than `[delivery] memory_grace`, memory is running low,"
            " or the daemon is stopping."
        ),
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """A savefile in the spool: its bytes, and the uptime from which it waits."""

    size: int
    began: float


class Spool:
    """The spool in one directory, which a daemon locks.

    Raises ConfigError if the directory can't be used.
    """

    def __init__(self, settings: SpoolSettings, lock: bool = True) -> None:
        self.settings, self.directory = settings, Path(settings.dir or "").absolute()
        self.stored: dict[str, Stored] = {}
        """The savefiles in it by name, the oldest first. Changes need the lock `_changing`."""
        self._changing = threading.Lock()
        self._lock_file = -1
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            require_private(self.directory)
            if lock:
                self._lock_file = os.open(
                    self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                [f"[spool] dir: {self.directory}: another daemon uses it"],
                "give each daemon its own directory",
            ) from None
        except PermissionError as error:
            words = f"[spool] dir: {self.directory}: {error.strerror}"
            raise ConfigError(
                [words], "savefiles wait there, so only the daemon may write to it"
            ) from None
        except OSError as error:
            raise ConfigError([f"[spool] dir: {self.directory}: {error.strerror}"]) from None

    @property
    def size(self) -> int:
        """Bytes of all savefiles in it. Does not block."""
        return sum(stored.size for stored in list(self.stored.values()))

    def path(self, name: str) -> Path:
        """Return the path of a savefile's bytes. Does not block."""
        return self.directory / f"{name}.savefile"

    def overdue(self) -> list[str]:
        """Return the names of savefiles older than `maxage`. Does not block."""
        now = uptime()
        return [
            name
            for name, stored in list(self.stored.items())
            if now - stored.began > self.settings.maxage
        ]

    def in_the_way_of(self, size: int) -> list[str]:
        """Return the oldest savefiles that must be dropped to make room for this many bytes.

        Raises SpoolError if nothing can make enough room. Does not block.
        """
        if size > self.settings.maxbytes:
            raise SpoolError(
                f"{size} bytes are more than [spool] maxbytes = {self.settings.maxbytes}"
            )
        left, files, names = self.size + size, len(self.stored) + 1, []
        for name, stored in list(self.stored.items()):
            if left <= self.settings.maxbytes and files <= self.settings.maxfiles:
                break
            left, files = left - stored.size, files - 1
            names.append(name)
        return names

    def put(self, savefile: Savefile, manifest: Mapping[str, Any], began: float) -> str:
        """Write a savefile and its manifest, regardless of limits, and return its name.

        Raises SpoolError, and leaves no files behind then.
        """
        name = str(ULID())
        try:
            with opened_directory(self.directory) as directory:
                self._write(directory, f".{name}.savefile", savefile)
                self._write(directory, f".{name}.json", _Text(manifest))
                for suffix in ("savefile", "json"):
                    os.rename(
                        f".{name}.{suffix}",
                        f"{name}.{suffix}",
                        src_dir_fd=directory,
                        dst_dir_fd=directory,
                    )
                os.fsync(directory)
        except (OSError, ValueError) as error:  # ValueError: the caller stopped waiting
            self._unlink(name)
            self._unlink(f".{name}")
            raise SpoolError(
                f"{self.directory}: {os.strerror(getattr(error, 'errno', None) or errno.EIO)}"
            ) from None
        with self._changing:
            self.stored[name] = Stored(savefile.size, began)
        return name

    def note(self, name: str, manifest: Mapping[str, Any]) -> None:
        """Replace the manifest.

        If the disk fails, the old one is kept, and a crash can cause a second delivery.
        """
        with self._changing:
            if name not in self.stored:  # it was removed in the meantime
                return
            try:
                with opened_directory(self.directory) as directory:
                    self._write(directory, f".{name}.json", _Text(manifest))
                    os.rename(
                        f".{name}.json", f"{name}.json", src_dir_fd=directory, dst_dir_fd=directory
                    )
                    os.fsync(directory)
            except OSError:
                self._unlink(f".{name}")

    def remove(self, name: str) -> None:
        """Remove a savefile that is delivered or lost."""
        with self._changing:
            self.stored.pop(name, None)
            self._unlink(name)

    def quarantine(self, name: str) -> None:
        """Move files that can't be used to the quarantine directory, where people can see them."""
        if not name:
            return
        with self._changing:
            self.stored.pop(name, None)
        for file in (name, f"{name}.json", f"{name}.savefile"):
            with suppress(OSError):
                (self.directory / QUARANTINE).mkdir(mode=0o700, exist_ok=True)
                (self.directory / file).rename(self.directory / QUARANTINE / file)

    def manifests(self) -> Iterator[tuple[str, dict[str, Any] | str]]:
        """Yield names with their manifests, the oldest first.

        If a savefile can't be used, the reason replaces its manifest. Raises OSError.
        """
        for name in sorted(
            {
                entry.name.partition(".")[0]
                for entry in os.scandir(self.directory)
                if _OURS.fullmatch(entry.name)
            }
        ):
            try:
                manifest = manifest_of(self._read(f"{name}.json"))
                size = self._size(f"{name}.savefile")
                wrong = (
                    ""
                    if size == manifest["bytes"]
                    else f"incomplete: {size} bytes instead of {manifest['bytes']}"
                )
            except FileNotFoundError as error:
                wrong = f"{Path(error.filename).name} is missing"
            except (OSError, *MALFORMED) as error:
                wrong = f"{name}.json can't be read: {error}"
            yield name, wrong or manifest

    def load(self) -> list[tuple[str, dict[str, Any] | str]]:
        """Return the result of `manifests` at the start of a daemon, and fill `stored`.

        Removes what a crash left partially written.
        """
        try:
            self._remove_partial()
            found = list(self.manifests())
        except OSError as error:
            return [("", f"can't be read: {error.strerror}")]
        began = {name: began_to_wait(one) for name, one in found if isinstance(one, dict)}
        found.sort(key=lambda pair: began.get(pair[0], 0.0))
        for name, manifest in found:
            if isinstance(manifest, dict):
                self.stored[name] = Stored(manifest["bytes"], began[name])
        return found

    def strangers(self) -> list[str]:
        """Return the names of files that are not the spool's, or [] if it can't be read."""
        with suppress(OSError):
            return [entry.name for entry in os.scandir(self.directory) if not _is_ours(entry.name)]
        return []

    def _remove_partial(self) -> None:
        for entry in list(os.scandir(self.directory)):
            if entry.name.startswith(".") and _OURS.fullmatch(entry.name[1:]):
                (self.directory / entry.name).unlink(missing_ok=True)

    def _read(self, name: str) -> str:
        """Return the text of a manifest. Raises OSError if it is not a regular file."""
        with opened_file(self.directory / name) as file:
            return file.read(LONGEST_MANIFEST).decode()

    def _size(self, name: str) -> int:
        with opened_file(self.directory / name) as file:
            return os.fstat(file.fileno()).st_size

    def orders(self) -> list[tuple[str, str]]:
        """Return new orders from the command line as ("retry" or "drop", name), each once."""
        found = []
        with suppress(OSError):
            for entry in list(os.scandir(self.directory)):
                if order := _ORDER.fullmatch(entry.name):
                    (self.directory / entry.name).unlink(missing_ok=True)
                    found.append((order[2], order[1]))
        return found

    def order(self, verb: str, name: str) -> None:
        """Leave an order for the daemon that uses the directory; raises OSError."""
        (self.directory / f"{name}.{verb}").touch(mode=0o600)

    def close(self) -> None:
        """Release the lock, so that another daemon can use it. Does not block."""
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def _write(self, directory: int, name: str, content: "Savefile | _Text") -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=directory)
        try:
            content.write_to(descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _unlink(self, name: str) -> None:
        # the manifest first: without it the other file is not a savefile of the spool
        for file in (f"{name}.json", f"{name}.savefile"):
            with suppress(OSError):
                (self.directory / file).unlink(missing_ok=True)


def manifest_of(text: str) -> dict[str, Any]:
    """Parse the parts of a manifest that a list needs.

    Raises one of MALFORMED.
    """
    manifest = json.loads(text)
    began_to_wait(manifest)  # raises too
    known = {"ids": list(map(str, manifest["ids"])), "pending": list(map(str, manifest["pending"]))}
    numbers = {"bytes": int(manifest["bytes"]), "since": float(manifest["since"])}
    return {
        **manifest,
        **known,
        **numbers,
        "stopped": {**manifest["stopped"], "file_name": str(manifest["stopped"]["file_name"])},
    }


class _Text:
    """A manifest as the bytes of a file."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        self._bytes = json.dumps(manifest).encode()

    def write_to(self, descriptor: int) -> None:
        """Write all of it to a descriptor; blocks."""
        done = 0
        while done < len(self._bytes):
            done += os.write(descriptor, self._bytes[done:])


def digest(savefile: Savefile) -> str:
    """Return the SHA-256 of a savefile's bytes in hexadecimal; blocks.

    Raises OSError if the savefile is on a disk that fails.
    """
    made = hashlib.sha256()
    for view in savefile.views():
        made.update(view)
    return made.hexdigest()


def age(stored: Mapping[str, Stored]) -> float:
    """Return how many seconds the oldest savefile has waited, or 0 without one."""
    return max((uptime() - one.began for one in list(stored.values())), default=0.0)


def _is_ours(name: str) -> bool:
    known = name in (_LOCK, QUARANTINE) or _ORDER.fullmatch(name)
    return bool(known or _OURS.fullmatch(name.removeprefix(".")))
