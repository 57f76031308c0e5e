"""Finds the processes of pods, containers and units in the tree of cgroups, see cgroups(7)."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

MOST_DIRECTORIES = 20_000
DEEPEST = 16
LEAF = 2
"""Links of a directory that has no directory in it."""

VERSION_1 = ("unified", "systemd", "pids", "memory")
"""Trees with the same groups, where the hierarchies of version 1 are mounted."""

_POD = re.compile(r"(?:^|-)pod([0-9a-f]{8}[0-9a-f_-]{24,28})(?:\.slice)?$")
_CONTAINER = re.compile(r"(?:^|-)([0-9a-f]{64})(?:\.scope)?$")
_OF_USERS = re.compile(r"user\.slice$|user@")
"""Groups in which ordinary users make others, with any names."""

_MONITOR = re.compile(r"conmon")
"""The process of CRI-O and Podman that watches a container is in the host's namespace."""


def pod_of(directory: str) -> str:
    """Return the uid of the pod that a cgroup is for, or "".

    The drivers of the kubelet name it `pod<uid>` and `kubepods-...-pod<uid>.slice`, the latter with
    underscores in place of dashes.
    """
    found = _POD.search(directory)
    return found[1].replace("_", "-") if found else ""


def container_of(directory: str) -> str:
    """Return the id of the container that a cgroup is for, or ""."""
    found = None if _MONITOR.search(directory) else _CONTAINER.search(directory)
    return found[1] if found else ""


def roots(mount: Path) -> list[Path]:
    """Return the trees in which to look, the most reliable first."""
    if (mount / "cgroup.controllers").exists():
        return [mount]
    return [tree for name in VERSION_1 if (tree := mount / name).is_dir()] or [mount]


def find(tree: Path, wanted: Callable[[str], bool], skip_pods: bool = False) -> list[Path]:
    """Return the directories whose names `wanted` accepts. Does not look into those.

    With `skip_pods`, does not look into the cgroups of pods either.
    """
    return [path for path in _below(tree, wanted, skip_pods) if wanted(path.name)]


def processes(directory: Path) -> list[int]:
    """Return the processes in a cgroup and those below it, the oldest of each first."""
    found = []
    for one in (directory, *_below(directory, _MONITOR.search)):
        if not _MONITOR.search(one.name):
            found += _members(one)
    return found


def containers(directory: Path) -> list[str]:
    """Return the ids of the containers in the cgroup of a pod."""
    return [found for one in _below(directory, bool) if (found := container_of(one.name))]


def _members(directory: Path) -> list[int]:
    try:
        text = (directory / "cgroup.procs").read_text()
    except OSError:  # it is gone meanwhile, or it is a threaded one
        return []
    # 0: a process of another PID namespace
    return [int(pid) for pid in text.split() if pid != "0"]


def _below(tree: Path, stop: Callable[[str], object], skip_pods: bool = False) -> Iterator[Path]:
    waiting = [(str(tree), 0)]
    seen = 0
    while waiting and seen < MOST_DIRECTORIES:
        path, depth = waiting.pop()
        for name in _directories(path):
            seen += 1
            yield Path(path, name)
            into = not (stop(name) or _OF_USERS.match(name) or (skip_pods and pod_of(name)))
            if into and depth < DEEPEST:
                waiting.append((f"{path}/{name}", depth + 1))


def _directories(path: str) -> list[str]:
    try:
        # A group has some 40 files. Its links say whether it has a directory.
        if os.stat(path).st_nlink == LEAF:
            return []
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
