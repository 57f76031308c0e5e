"""Lists what requests can be aimed at on this node, for `pcapdaemon targets`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pcapdaemon.core.target import Asked, matches
from pcapdaemon.targets import cgroups
from pcapdaemon.targets.lookup import NOT_ALLOWED, Look
from pcapdaemon.targets.namespaces import Namespaces, is_own
from pcapdaemon.targets.settings import TargetSettings

UNITS = (".service", ".scope", ".socket")


def listed(settings: TargetSettings) -> list[dict[str, Any]]:
    """Return a row for each pod, namespace, and unit with a namespace of its own.

    Processes are not listed: there are too many. Blocks for some milliseconds.
    """
    asked = Asked(
        pods=("*",), netns=_names(Path(settings.netns)), units=_units(Path(settings.cgroup))
    )
    look, rows = Look(asked, settings.model_copy(update={"allow": ("*",)})), []
    namespaces = Namespaces(Path(settings.netns))
    for place in look.places():
        before = len(look.refused)
        found = look.interfaces_of(place, namespaces)
        why = "; ".join(one.reason for one in look.refused[before:])
        if not matches(place.target.label, settings.allow):
            found, why = [], NOT_ALLOWED
        rows.append(
            {
                "target": place.target.label,
                "interfaces": [one.name for one in found],
                "container": list(place.target.containers),
                "uid": place.target.uid,
                "reason": why,
            }
        )
    return rows


def _names(directory: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(os.listdir(directory)))
    except OSError:
        return ()


def _units(mount: Path) -> tuple[str, ...]:
    """Return the units that run in a network namespace of their own."""
    return tuple(sorted({group.name for group in _groups(mount) if _is_apart(group)}))


def _groups(mount: Path) -> Iterator[Path]:
    for tree in cgroups.roots(mount)[:1]:
        yield from cgroups.find(tree, lambda name: name.endswith(UNITS), skip_pods=True)


def _is_apart(group: Path) -> bool:
    pids = cgroups.processes(group)
    return bool(pids) and not cgroups.container_of(group.name) and is_own(pids[0]) is False
