"""Whether a port of this host is held by a program that may see the API's token.

If the daemon does not run, any user of this host can listen on its port and wait for tokens.
"""

import ipaddress
import os
import pwd
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

from pcapdaemon.core.errors import PcapdaemonError
from pcapdaemon.sockets import Address, listeners, plain

ACCOUNTS_OF_PEOPLE = range(1000, 61184), range(65520, 2**32 - 1)
"""User ids of people, and nobody. By login.defs(5) and systemd, others belong to services."""


def refuse_strangers(url: str, token_file: Path) -> None:
    """Raise PcapdaemonError if another user listens at `url`, and that is on this host.

    Root, services, this user and those who can read the token file anyway are no strangers. What
    other hosts do is not checked here: use https for them.
    """
    parts = urlsplit(url)
    if parts.scheme != "http":
        return
    port = parts.port or 80
    for target in local_addresses(parts.hostname or ""):
        for uid in sorted(_listeners(target, port)):
            if _is_stranger(uid) and not _can_read(uid, token_file):
                raise PcapdaemonError(
                    f"{url}: user {_name(uid)} listens there, who can't read the token"
                    f" ({token_file}), so the token is not sent",
                    "check that the daemon runs, and who runs it",
                )


def local_addresses(host: str) -> set[Address]:
    """Return the addresses of a host that are this host's own."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()
    addresses = {plain(ipaddress.ip_address(str(one[4][0]).partition("%")[0])) for one in found}
    return {_reached(address) for address in addresses if _is_local(address)}


def _reached(address: Address) -> Address:
    # connect(2) takes the unspecified address for this host
    if not address.is_unspecified:
        return address
    return ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")


def _is_local(address: Address) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


def _listeners(target: Address, port: int) -> set[int]:
    """Return the users that a connection to an address of this host can reach.

    The kernel prefers a socket of the address itself to one of all addresses.
    """
    found = [(address, uid) for address, uid in listeners(port)]
    exact = {uid for address, uid in found if address == target}
    return exact or {uid for address, uid in found if address.is_unspecified}


def _is_stranger(uid: int) -> bool:
    return uid != os.geteuid() and any(uid in accounts for accounts in ACCOUNTS_OF_PEOPLE)


def _can_read(uid: int, file: Path) -> bool:
    """Return whether the modes of a file and of its directories let a user read it."""
    path = file.resolve()
    if not _may(uid, path, stat.S_IRUSR, stat.S_IRGRP, stat.S_IROTH):
        return False
    return all(
        _may(uid, parent, stat.S_IXUSR, stat.S_IXGRP, stat.S_IXOTH) for parent in path.parents
    )


def _may(uid: int, path: Path, owner: int, group: int, others: int) -> bool:
    status = path.stat()
    if uid == status.st_uid:
        return bool(status.st_mode & owner)
    return bool(status.st_mode & (group if status.st_gid in _groups(uid) else others))


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
