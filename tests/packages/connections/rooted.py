"""A connection of Ansible to a directory with a Debian in it, by chroot."""

import shutil
import subprocess
from typing import Any

from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: rooted
short_description: A directory with a root file system
description: Runs commands by chroot. The name of the host is the directory.
author: The pcapdaemon authors
options: {}
"""


class Connection(ConnectionBase):  # type: ignore[misc]
    """One directory."""

    transport = "rooted"
    has_pipelining = False

    def _connect(self) -> "Connection":
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: Any = None, sudoable: bool = True) -> Any:
        """Run a command, and return its status, stdout and stderr."""
        path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        words = ["env", "-i", path, "HOME=/root", "chroot", self._play_context.remote_addr]
        done = subprocess.run(
            [*words, "/bin/sh", "-c", cmd], input=in_data, capture_output=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copy a file to it."""
        shutil.copyfile(in_path, f"{self._play_context.remote_addr}/{out_path}")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copy a file from it."""
        shutil.copyfile(f"{self._play_context.remote_addr}/{in_path}", out_path)

    def close(self) -> None:
        """Do nothing."""
        self._connected = False
