"""The spool.

A directory where savefiles stand, with all that is known of them, until every destination has them.

One savefile is two files, `NAME.savefile` and `NAME.json`; NAME is a ULID, so that names sort by
age. Both are written under a hidden name and synced before they get their own; the JSON comes last,
and makes it whole. `NAME.retry` and `NAME.drop` are orders of the command line. Every method but
those that say so blocks, and is called in a thread.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import threading
import time
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
from pcapdaemon.files import opened_directory
from pcapdaemon.savefile.savefile import Savefile

QUARANTINE = "quarantine"
_OURS = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}\.(?:json|savefile)")
_ORDER = re.compile(r"([0-9A-HJKMNP-TV-Z]{26})\.(retry|drop)")
_LOCK = ".lock"


class SpoolSettings(Section):
    """`[spool]`: where savefiles stand that could not be delivered yet."""

    dir: str | None = Field(
        None,
        min_length=1,
        description=(
            "The directory; each daemon needs its own. Absent: savefiles wait in memory only."
        ),
    )
    maxbytes: int = Field(
        1 << 30,
        ge=1 << 20,
        description="Bytes of all savefiles in it; where more come the oldest is lost.",
    )
    maxage: Seconds = Field(
        86400, description="Longest time that a savefile is kept, in seconds. Then it is lost."
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
            "Write each savefile to the spool as soon as its capture has ended, before the end is"
            " reported, so that even SIGKILL does not lose it. `false`: only if needed (a"
            " destination fails for longer than `[delivery] memory_grace`, memory is short,"
            " shutdown)."
        ),
    )


@dataclass(frozen=True, slots=True)
class Stored:
    """A savefile in the spool: bytes, and since when it waits (seconds since the epoch)."""

    size: int
    since: float


class Spool:
    """One directory, locked while a daemon uses it.

    Raises ConfigError where it can't be used at all.
    """

    def __init__(self, settings: SpoolSettings, lock: bool = True) -> None:
        self.settings, self.directory = settings, Path(settings.dir or "").absolute()
        self.stored: dict[str, Stored] = {}
        """Return the savefiles in it by name, the oldest first.

        What changes files or this takes the lock.
        """
        self._changing = threading.Lock()
        self._lock_file = -1
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if lock:
                self._lock_file = os.open(
                    self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                [f"[spool] dir: {self.directory}: another daemon uses it"], "give each its own"
            ) from None
        except OSError as error:
            raise ConfigError([f"[spool] dir: {self.directory}: {error.strerror}"]) from None

    @property
    def size(self) -> int:
        """Bytes of all savefiles in it. Does not block."""
        return sum(stored.size for stored in list(self.stored.values()))

    def path(self, name: str) -> Path:
        """Where the savefile's bytes are. Does not block."""
        return self.directory / f"{name}.savefile"

    def overdue(self, now: float) -> list[str]:
        """Return the savefiles in it that are too old. Does not block."""
        return [
            name
            for name, stored in list(self.stored.items())
            if now - stored.since > self.settings.maxage
        ]

    def in_the_way_of(self, size: int) -> list[str]:
        """The oldest, which must go so that there is room for this many bytes more.

        Raises SpoolError. Does not block.
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

    def put(self, savefile: Savefile, manifest: Mapping[str, Any], since: float) -> str:
        """Write a savefile and its manifest, whatever the limits say; its name.

        Raises SpoolError and leaves nothing behind.
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
        except (
            OSError,
            ValueError,
        ) as error:  # ValueError: nobody waits any more, and the savefile was closed
            self._unlink(name)
            self._unlink(f".{name}")
            raise SpoolError(
                f"{self.directory}: {os.strerror(getattr(error, 'errno', None) or errno.EIO)}"
            ) from None
        with self._changing:
            self.stored[name] = Stored(savefile.size, since)
        return name

    def note(self, name: str, manifest: Mapping[str, Any]) -> None:
        """Change the manifest.

        If the disk fails, the old one is kept, and a crash can cause a second delivery.
        """
        with self._changing:
            if name not in self.stored:  # it was removed meanwhile
                return
            try:
                with opened_directory(self.directory) as directory:
                    self._write(directory, f".{name}.json", _Text(manifest))
                    os.rename(
                        f".{name}.json", f"{name}.json", src_dir_fd=directory, dst_dir_fd=directory
                    )
            except OSError:
                self._unlink(f".{name}")

    def remove(self, name: str) -> None:
        """Remove a savefile that is delivered or lost."""
        with self._changing:
            self.stored.pop(name, None)
            self._unlink(name)

    def quarantine(self, name: str) -> None:
        """Move what can't be used out of the way; a person may want to look at it."""
        if not name:
            return
        with self._changing:
            self.stored.pop(name, None)
        for file in (name, f"{name}.json", f"{name}.savefile"):
            with suppress(OSError):
                (self.directory / QUARANTINE).mkdir(mode=0o700, exist_ok=True)
                (self.directory / file).rename(self.directory / QUARANTINE / file)

    def manifests(self) -> Iterator[tuple[str, dict[str, Any] | str]]:
        """Names with their manifests, the oldest first.

        In place of a manifest why it can't be used. Raises OSError.
        """
        for name in sorted(
            {
                entry.name.partition(".")[0]
                for entry in os.scandir(self.directory)
                if _OURS.fullmatch(entry.name)
            }
        ):
            try:
                manifest = _manifest((self.directory / f"{name}.json").read_text())
                size = self.path(name).stat().st_size
                wrong = (
                    ""
                    if size == manifest["bytes"]
                    else f"incomplete: {size} bytes in place of {manifest['bytes']}"
                )
            except FileNotFoundError as error:
                wrong = f"{Path(error.filename).name} is missing"
            except (OSError, ValueError, KeyError, TypeError) as error:
                wrong = f"{name}.json can't be read: {error}"
            yield name, wrong or manifest

    def load(self) -> list[tuple[str, dict[str, Any] | str]]:
        """The same at the start of a daemon.

        Removes what a crash left half written, and reports foreign files.
        """
        try:
            found: list[tuple[str, dict[str, Any] | str]] = [*self._strangers(), *self.manifests()]
        except OSError as error:
            return [("", f"can't be read: {error.strerror}")]
        for name, manifest in found:
            if isinstance(manifest, dict):
                self.stored[name] = Stored(manifest["bytes"], manifest["since"])
        return found

    def _strangers(self) -> Iterator[tuple[str, str]]:
        for entry in list(os.scandir(self.directory)):
            if entry.name.startswith(".") and _OURS.fullmatch(entry.name[1:]):
                (self.directory / entry.name).unlink(missing_ok=True)
                yield entry.name, "half written, removed"
            elif (
                entry.name not in (_LOCK, QUARANTINE)
                and not _OURS.fullmatch(entry.name)
                and not _ORDER.fullmatch(entry.name)
            ):
                yield entry.name, "not from the spool"

    def orders(self) -> list[tuple[str, str]]:
        """Return new orders of the command line: ("retry" or "drop", name), each once."""
        found = []
        with suppress(OSError):
            for entry in list(os.scandir(self.directory)):
                if order := _ORDER.fullmatch(entry.name):
                    (self.directory / entry.name).unlink(missing_ok=True)
                    found.append((order[2], order[1]))
        return found

    def order(self, verb: str, name: str) -> None:
        """Tell the daemon that uses the directory; raises OSError."""
        (self.directory / f"{name}.{verb}").touch(mode=0o600)

    def close(self) -> None:
        """Let another daemon use it. Does not block."""
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
        # the JSON first: without it the rest is no savefile of the spool any more
        for file in (f"{name}.json", f"{name}.savefile"):
            with suppress(OSError):
                (self.directory / file).unlink(missing_ok=True)


def _manifest(text: str) -> dict[str, Any]:
    """Parse a manifest, as far as a list needs it; raise ValueError, KeyError or TypeError."""
    manifest = json.loads(text)
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
        """Write all of it."""
        done = 0
        while done < len(self._bytes):
            done += os.write(descriptor, self._bytes[done:])


def digest(savefile: Savefile) -> str:
    """The SHA-256 of a savefile's bytes, in hexadecimal.

    Raises OSError where it is on a disk that fails.
    """
    made = hashlib.sha256()
    for view in savefile.views():
        made.update(view)
    return made.hexdigest()


def age(stored: Mapping[str, Stored]) -> float:
    """Seconds for which the oldest waits; 0: there is none."""
    return max((time.time() - one.since for one in list(stored.values())), default=0.0)
