"""Clean roots of Debian, in which packages are installed and used: no compiler, no libpcap.

`packaging/test` builds the packages and the root before.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"


class CleanRoot:
    """A directory with a small Debian, used by chroot."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def mount(self) -> None:
        """Mount what programs expect."""
        for kind, name in (("proc", "proc"), ("tmpfs", "tmp")):
            target = str(self.directory / name)
            subprocess.run(["mount", "-t", kind, kind, target], check=True)

    def unmount(self) -> None:
        """Unmount it."""
        for name in ("proc", "tmp"):
            subprocess.run(["umount", "--lazy", str(self.directory / name)], check=True)

    def run(self, *command: str, timeout: float = 300) -> str:
        """Run a command in it, and return what it prints."""
        done = subprocess.run(
            self.command(*command), check=False, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(self, *command: str) -> list[str]:
        """Return what runs a command in it, with nothing of this environment."""
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return ["env", "-i", path, "HOME=/root", "chroot", str(self.directory), *command]

    def bring(self, path: Path, to: str = "/root") -> str:
        """Copy a file or a directory into it, and return its path there."""
        subprocess.run(["cp", "-r", str(path), f"{self.directory}{to}/"], check=True)
        return f"{to}/{path.name}"


@pytest.fixture
def clean_root(tmp_path: Path) -> Iterator[CleanRoot]:
    directory = tmp_path / "root"
    directory.mkdir()
    for parent in directory.parents:
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)
    subprocess.run(
        ["tar", "-C", str(directory), "-xf", os.environ["PCAPDAEMON_TEST_ROOT"]], check=True
    )
    root = CleanRoot(directory)
    root.mount()
    assert not list((directory / "usr" / "bin").glob("*gcc*"))
    assert not list((directory / "usr" / "lib").rglob("libpcap*"))
    yield root
    root.unmount()


def built(pattern: str) -> Path:
    """Return the package of that pattern."""
    (found,) = DIST.glob(pattern)
    return found
