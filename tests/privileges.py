"""Runs daemons as an ordinary user."""

import os
import stat
from pathlib import Path

from tests.servers import DaemonProcess

ROOT = Path(__file__).parents[1]


def capability(*names: str) -> list[str]:
    """Return what runs a command as an ordinary user with these capabilities alone."""
    sets = ",".join(["-all", *names])
    return [
        *reachable(),
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"),
        *(f"--inh-caps={sets}", f"--ambient-caps={sets}", f"--bounding-set={sets}"),
    ]


def reachable() -> list[str]:
    """Return what shows the project to an ordinary user although it is below a closed directory.

    /root is such a directory. It gets another root directory there, in a mount namespace.
    """
    closed = [parent for parent in ROOT.parents if not parent.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return []
    steps = (
        'keep=$(mktemp -d) && mount --bind "$0" "$keep" && mount -t tmpfs -o mode=755 tmpfs "$1"'
        ' && mkdir -p "$0" && mount --move "$keep" "$0" && cd / && shift && exec "$@"'
    )
    return ["unshare", "--mount", "sh", "-c", steps, str(ROOT), str(closed[-1])]


def opened_to_users(daemon: DaemonProcess) -> DaemonProcess:
    """Let an ordinary user use the directories of a daemon."""
    for directory in (daemon.directory, daemon.captures):
        os.chown(directory, 65534, 65534)
    for parent in daemon.directory.parents:
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)
    return daemon
