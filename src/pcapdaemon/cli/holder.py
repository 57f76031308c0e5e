"""Whether a port of this host is held by a program that may see the API's token.

If the daemon does not run, any user of this host can listen on its port and wait for tokens.
"""

import os
import pwd
import stat
from pathlib import Path
from urllib.parse import urlsplit

from pcapdaemon.core.errors import PcapdaemonError

LISTENING = "0A"
"""TCP_LISTEN in the column `st` of /proc/net/tcp, see proc_pid_net(5)."""

ACCOUNTS_OF_PEOPLE = range(1000, 61184), range(65520, 2**32 - 1)
"""User ids of people, and nobody. By login.defs(5) and systemd, others belong to services."""


def refuse_strangers(url: str, token_file: Path) -> None:
    """Raise PcapdaemonError if another user listens on the loopback port of `url`.

    Root, services, this user and those who can read the token file anyway are no strangers. What
    other hosts do is not checked here: use https for them.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        return
    for uid in sorted(_listeners(parts.port or 80)):
        if _is_stranger(uid) and not _can_read(uid, token_file):
            raise PcapdaemonError(
                f"{url}: user {_name(uid)} listens there, who can't read the token"
                f" ({token_file}), so the token is not sent",
                "check that the daemon runs, and who runs it",
            )


def _listeners(port: int) -> set[int]:
    """Return the users that listen on a TCP port of this host, from /proc/net/tcp and tcp6."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:  # no /proc, or no IPv6
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(int(fields[7]))
    return found


def _is_stranger(uid: int) -> bool:
    return uid != os.geteuid() and any(uid in accounts for accounts in ACCOUNTS_OF_PEOPLE)


def _can_read(uid: int, file: Path) -> bool:
    """Return whether the mode of the file lets a user read it."""
    status = file.stat()
    if uid == status.st_uid:
        return bool(status.st_mode & stat.S_IRUSR)
    if status.st_gid in _groups(uid):
        return bool(status.st_mode & stat.S_IRGRP)
    return bool(status.st_mode & stat.S_IROTH)


def _groups(uid: int) -> list[int]:
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return []
    return os.getgrouplist(account.pw_name, account.pw_gid)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
