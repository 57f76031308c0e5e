"""A savefile to deliver, with everything that is known about it.

In the spool, everything except the bytes is its manifest.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pcapdaemon.core.events import CaptureStopped
from pcapdaemon.core.limits import CaptureLimits
from pcapdaemon.core.node_events import SavefileResumed
from pcapdaemon.core.outcome import Outcome, Receipt
from pcapdaemon.core.request import CaptureRequest
from pcapdaemon.core.text import path_safe
from pcapdaemon.core.wire import from_wire, to_wire
from pcapdaemon.destinations.base import SavefileInfo
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.uptime import since, uptime

VERSION = 2
"""The version of the manifest. Files of other versions are quarantined unchanged."""


@dataclass(eq=False)
class Parcel:
    """A savefile to deliver.

    `ids` are the requests that it belongs to; `info.id` is the first. `pending` are the
    destinations that do not have it yet. `spool_name` is its name in the spool, or empty, and
    `not_spooled` is why it could not be stored there. `requester` is who asked, or empty. Times are
    seconds since the epoch, except `began`: the uptime from which it waits.
    """

    info: SavefileInfo
    stopped: CaptureStopped
    limits: CaptureLimits
    ids: tuple[str, ...]
    source: str
    received_at: float
    savefile: Savefile
    pending: list[str] = field(default_factory=list)
    delivered: dict[str, Receipt] = field(default_factory=dict)
    since: float = field(default_factory=time.time)
    began: float = field(default_factory=uptime)
    spool_name: str = ""
    not_spooled: str = ""
    requester: str = ""

    @property
    def size(self) -> int:
        """Bytes of the savefile."""
        return self.savefile.size

    def seal(self, sha256: str) -> None:
        """Add its digest to the event of the end of its capture."""
        self.stopped = replace(self.stopped, sha256=sha256)

    def resumed(self) -> SavefileResumed:
        """Return the event to publish if an earlier process captured it."""
        stopped = replace(self.stopped, pending=tuple(self.pending))
        return SavefileResumed(
            self.ids,
            self.source,
            self.received_at,
            self.info.request,
            stopped,
            tuple(self.delivered.items()),
            self.requester,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the manifest: everything except the bytes."""
        return {
            "version": VERSION,
            "id": self.info.id,
            "ids": self.ids,
            "source": self.source,
            "requester": self.requester,
            "received_at": self.received_at,
            "since": self.since,
            "waited": uptime() - self.began,
            "uptime": uptime(),
            "request": self.info.request.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "tags": self.info.tags,
            "limits": to_wire(self.limits),
            "stopped": self.stopped.as_json(),
            "bytes": self.size,
            "pending": self.pending,
            "delivered": to_wire(self.delivered),
        }

    @classmethod
    def of_json(cls, found: Mapping[str, Any], savefile: Savefile) -> "Parcel":
        """Restore a parcel from its manifest.

        Raises one of MALFORMED if it is not a result of `as_json`.
        """
        if found["version"] != VERSION:
            raise ValueError(f"unknown version {found['version']!r}")
        end, request = found["stopped"], CaptureRequest.model_validate(found["request"])
        info = SavefileInfo(
            str(found["id"]),
            str(end["interface"]),
            _one_component(str(end["file_name"])),
            str(found["tags"]),
            request,
        )
        outcome, pending = from_wire(Outcome, end), list(map(str, found["pending"]))
        stopped = CaptureStopped(
            info.id, info.interface, info.file_name, outcome, str(end["sha256"]), tuple(pending)
        )
        return cls(
            info,
            stopped,
            from_wire(CaptureLimits, found["limits"]),
            tuple(map(str, found["ids"])),
            str(found["source"]),
            float(found["received_at"]),
            savefile,
            pending,
            {name: from_wire(Receipt, receipt) for name, receipt in found["delivered"].items()},
            float(found["since"]),
            began_to_wait(found),
            requester=str(found.get("requester", "")),
        )


def began_to_wait(found: Mapping[str, Any]) -> float:
    """Return the uptime from which a savefile in the spool waits, by its manifest.

    The time for which the machine was off does not count. So no savefile is dropped as too old
    because a clock was wrong.
    """
    written = float(found.get("uptime", uptime()))
    return uptime() - since(written) - max(0.0, float(found.get("waited", 0.0)))


def _one_component(name: str) -> str:
    # The manifest may have been written by another: a path in it would be written to.
    if path_safe(name, 255) != name:
        raise ValueError(f"not the name of a savefile: {name!r}")
    return name
