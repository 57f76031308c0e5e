"""A savefile on its way to its destinations, with all that is known of it, also as JSON for the spool."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pcapdaemon.core.events import CaptureStopped, SavefileResumed
from pcapdaemon.core.limits import CaptureLimits
from pcapdaemon.core.outcome import Content, Counts, Lookback, Receipt
from pcapdaemon.core.request import CaptureRequest
from pcapdaemon.destinations.base import SavefileInfo
from pcapdaemon.savefile.savefile import Savefile

VERSION = 1
"""Of the JSON; a file of another one is not touched."""


@dataclass(eq=False)
class Parcel:
    """One savefile; `ids` are the requests that want it, `info.id` the first; `pending` the destinations that lack it yet.

    `spool_name` is what it is called in the spool, once it stands there. Times are seconds since the epoch.
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
    spool_name: str = ""

    @property
    def size(self) -> int:
        """Bytes of the savefile."""
        return self.savefile.size

    def sealed(self, sha256: str) -> CaptureStopped:
        """The end of the capture with the digest of its savefile, and where that goes."""
        self.stopped = replace(self.stopped, sha256=sha256, pending=tuple(self.pending))
        return self.stopped

    def resumed(self) -> SavefileResumed:
        """What is told of it where an earlier process captured it."""
        stopped = replace(self.stopped, pending=tuple(self.pending))
        return SavefileResumed(self.ids, self.source, self.received_at, self.info.request, stopped, tuple(self.delivered.items()))

    def as_json(self) -> dict[str, Any]:
        """Everything but the bytes."""
        return {
            "version": VERSION,
            "ids": self.ids,
            "source": self.source,
            "received_at": self.received_at,
            "since": self.since,
            "request": self.info.request.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "tags": self.info.tags,
            "limits": asdict(self.limits),
            "stopped": asdict(self.stopped),
            "size": self.size,
            "pending": self.pending,
            "delivered": {name: asdict(receipt) for name, receipt in self.delivered.items()},
        }

    @classmethod
    def of_json(cls, found: Mapping[str, Any], savefile: Savefile) -> "Parcel":
        """The same again; raises ValueError, KeyError or TypeError where it is not what `as_json` made."""
        if found["version"] != VERSION:
            raise ValueError(f"version {found['version']!r} is not known here")
        end = dict(found["stopped"])
        counts, times, pending = Counts(**end.pop("counts")), tuple(map(float, end.pop("times"))), tuple(end.pop("pending"))
        lookback = Lookback(**found_lookback) if (found_lookback := end.pop("lookback", None)) else None
        content = Content(**found_content) if (found_content := end.pop("content", None)) else None
        stopped = CaptureStopped(
            **end, counts=counts, times=(times[0], times[1]), pending=pending, lookback=lookback, content=content
        )
        request = CaptureRequest.model_validate(found["request"])
        info = SavefileInfo(stopped.id, stopped.interface, stopped.file_name, str(found["tags"]), request)
        return cls(
            info,
            stopped,
            CaptureLimits(**found["limits"]),
            tuple(map(str, found["ids"])),
            str(found["source"]),
            float(found["received_at"]),
            savefile,
            list(map(str, found["pending"])),
            {name: Receipt(**receipt) for name, receipt in found["delivered"].items()},
            float(found["since"]),
        )
