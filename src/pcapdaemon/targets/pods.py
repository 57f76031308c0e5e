"""The pods of this node, by the names of the directories in which the kubelet keeps their logs."""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pcapdaemon.core.target import matches
from pcapdaemon.targets import cgroups

_DIRECTORY = re.compile(r"([a-z0-9.-]+)_([a-z0-9.-]+)_([0-9a-f-]{32,36})")
"""NAMESPACE_NAME_UID: names of Kubernetes have no underscore."""

KUBELETS = "kubepods"
"""Part of the name of the group in which the kubelet has those of all pods."""

STARTING = 60.0
"""Seconds since the last change of its logs for which a pod without a process may be starting."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod whose logs are here. `containers` are the names of its containers."""

    name: str
    uid: str
    containers: tuple[str, ...]
    changed_at: float

    @property
    def is_new(self) -> bool:
        """Whether it may have no process yet. Later it is one that has ended."""
        return time.time() - self.changed_at < STARTING


def pods_in(logs: Path, globs: Sequence[str] = ("*",), uids: Sequence[str] = ()) -> list[Pod]:
    """Return the pods that one of the globs matches, or that have one of the uids, if given.

    Raises OSError if the directory can't be read.
    """
    try:
        names = sorted(os.listdir(logs))
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # no kubelet
        return []
    found = []
    for directory in names:
        if not (parts := _DIRECTORY.fullmatch(directory)):
            continue
        name, uid = f"{parts[1]}/{parts[2]}", parts[3]
        if uid in uids if uids else matches(name, globs):
            found += _pod(logs / directory, name, uid)
    return found


def groups_of(pods: Sequence[Pod], mount: Path) -> dict[str, Path]:
    """Return the cgroup of each of these pods that runs, by its uid."""
    wanted = {pod.uid for pod in pods}
    for tree in cgroups.roots(mount) if wanted else ():
        places = cgroups.find(tree, lambda name: cgroups.pod_of(name) in wanted, skip_pods=True)
        places = [place for place in places if KUBELETS in str(place.parent)]
        if places:
            # one that is empty is a remainder, and must not hide the other
            places.sort(key=lambda place: bool(cgroups.processes(place)))
            return {cgroups.pod_of(place.name): place for place in places}
    return {}


def _pod(directory: Path, name: str, uid: str) -> list[Pod]:
    try:
        changed_at = directory.stat().st_mtime
        containers = tuple(sorted(entry.name for entry in os.scandir(directory) if entry.is_dir()))
    except OSError:  # gone meanwhile
        return []
    return [Pod(name, uid, containers, changed_at)]
