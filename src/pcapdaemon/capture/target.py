"""What is special about a capture that is aimed at a pod or something else of that kind."""

from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import Any

from pcapdaemon.core.interface import Interface, described
from pcapdaemon.core.limits import StopReason
from pcapdaemon.native.rtnetlink import traffic_of

NEARLY_NONE = 100
"""An interface that has sent less than this part of what it has received is one-sided."""


EMPTY_FOR = 5
"""Looks at a cgroup without processes after which its pod has ended."""


class Witness(Enum):
    """What a path says of a target."""

    THERE = auto()
    EMPTY = auto()
    GONE = auto()


def _state(path: Path) -> Witness:
    with suppress(OSError):
        empty = "populated 0" in (path / "cgroup.events").read_text()
        return Witness.EMPTY if empty else Witness.THERE
    return Witness.THERE if path.exists() else Witness.GONE


class Aim:
    """What a capture is aimed at, from the moment when it is armed."""

    def __init__(self, interface: Interface) -> None:
        self._name, self._target = interface.name, interface.target
        self._on_host = interface.target is not None and not interface.target.inside
        self._before, self._empty = (0, 0), 0

    def begin(self) -> None:
        """Remember what has passed the interface before."""
        self._before = self._traffic()

    def look(self) -> bool:
        """Return whether the target has ended; called once a second.

        A cgroup remains without processes after its pod, but also while a container restarts.
        """
        witnesses = self._target.witnesses if self._target else ()
        states = {_state(Path(one)) for one in witnesses}
        self._empty = self._empty + 1 if states and Witness.THERE not in states else 0
        return states == {Witness.GONE} or self._empty >= EMPTY_FOR

    def _traffic(self) -> tuple[int, int]:
        if self._on_host:
            with suppress(OSError):  # no descriptor is free: the packets matter more
                return traffic_of(self._name)
        return 0, 0

    def reason(self, reason: StopReason, error: str) -> StopReason:
        """Return why the capture ended. The interface of a target goes away with it.

        With an error, for example because it was renamed, it did not.
        """
        down = reason is StopReason.INTERFACE_DOWN and not error
        return StopReason.GONE if self._target and down else reason

    def facts(self) -> dict[str, Any]:
        """Return what the outcome says of the target."""
        if not self._target:
            return {}
        received, sent = self._traffic()
        from_it, to_it = received - self._before[0], sent - self._before[1]
        one_sided = from_it > 0 and to_it == 0 and sent * NEARLY_NONE < received
        return {"target": described([self._target]), "one_sided": one_sided}
