"""What is special about a capture that is aimed at a pod or something else of that kind."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from pcapdaemon.core.interface import Interface
from pcapdaemon.core.limits import StopReason
from pcapdaemon.native.rtnetlink import traffic_of

NEARLY_NONE = 100
"""An interface that has sent less than this part of what it has received is one-sided."""


class Aim:
    """What a capture is aimed at, from the moment when it is armed."""

    def __init__(self, interface: Interface) -> None:
        self._name, self._target = interface.name, interface.target
        self._on_host = interface.target is not None and not interface.target.inside
        self._before = (0, 0)

    def begin(self) -> None:
        """Remember what has passed the interface before."""
        self._before = traffic_of(self._name) if self._on_host else (0, 0)

    @property
    def is_gone(self) -> bool:
        """Whether the target has ended. A cgroup may remain without processes."""
        if not self._target or not self._target.witness:
            return False
        place = Path(self._target.witness)
        with suppress(OSError):
            return "populated 0" in (place / "cgroup.events").read_text()
        return not place.exists()

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
        received, sent = traffic_of(self._name) if self._on_host else (0, 0)
        from_it, to_it = received - self._before[0], sent - self._before[1]
        one_sided = from_it > 0 and to_it == 0 and sent * NEARLY_NONE < received
        return {"target": self._target.as_json(), "one_sided": one_sided}
