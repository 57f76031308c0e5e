"""A savefile on its way to its destinations, with all that is known of it, also as JSON for the spool."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pcapdaemon.core.events import CaptureStopped, SavefileTakenUp
from pcapdaemon.core.limits import CaptureLimits
from pcapdaemon.core.outcome import Content, Counts, Lookback, Receipt
from pcapdaemon.core.request import CaptureRequest
from pcapdaemon.destinations.base import Facts
from pcapdaemon.savefile.savefile import Savefile

VERSION = 1
"""Of the JSON; a file of another one is not touched."""


@dataclass(eq=False)
class Parcel:
    """One savefile; `ids` are the requests that want it, `facts.id` the first; `owed` the destinations that lack it yet.

    `spool_name` is what it is called in the spool, once it stands there. Times are seconds since the epoch.
    """

    facts: Facts
    stopped: CaptureStopped
    limits: CaptureLimits
    ids: tuple[str, ...]
    source: str
    received_at: float
    savefile: Savefile
    owed: list[str] = field(default_factory=list)
    delivered: dict[str, Receipt] = field(default_factory=dict)
    since: float = field(default_factory=time.time)
    spool_name: str = ""

    @property
    def size(self) -> int:
        """Bytes of the savefile."""
        return self.savefile.size

    def sealed(self, sha256: str) -> CaptureStopped:
        """The end of the capture with the digest of its savefile, and where that goes."""
        self.stopped = replace(self.stopped, sha256=sha256, owed=tuple(self.owed))
        return self.stopped

    def taken_up(self) -> SavefileTakenUp:
        """What is told of it where an earlier process captured it."""
        stopped = replace(self.stopped, owed=tuple(self.owed))
        return SavefileTakenUp(
            self.ids, self.source, self.received_at, self.facts.request, stopped, tuple(self.delivered.items())
        )

    def as_json(self) -> dict[str, Any]:
        """Everything but the bytes."""
        return {
            "version": VERSION,
            "ids": self.ids,
            "source": self.source,
            "received_at": self.received_at,
            "since": self.since,
            "request": self.facts.request.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "tags": self.facts.tags,
            "limits": asdict(self.limits),
            "stopped": asdict(self.stopped),
            "size": self.size,
            "owed": self.owed,
            "delivered": {name: asdict(receipt) for name, receipt in self.delivered.items()},
        }

    @classmethod
    def of_json(cls, found: Mapping[str, Any], savefile: Savefile) -> "Parcel":
        """The same again; raises ValueError, KeyError or TypeError where it is not what `as_json` made."""
        if found["version"] != VERSION:
            raise ValueError(f"version {found['version']!r} is not known here")
        end = dict(found["stopped"])
        counts, times, owed = Counts(**end.pop("counts")), tuple(map(float, end.pop("times"))), tuple(end.pop("owed"))
        lookback = Lookback(**found_lookback) if (found_lookback := end.pop("lookback", None)) else None
        content = Content(**found_content) if (found_content := end.pop("content", None)) else None
        stopped = CaptureStopped(**end, counts=counts, times=(times[0], times[1]), owed=owed, lookback=lookback, content=content)
        request = CaptureRequest.model_validate(found["request"])
        facts = Facts(stopped.id, stopped.interface, stopped.file_name, str(found["tags"]), request)
        return cls(
            facts,
            stopped,
            CaptureLimits(**found["limits"]),
            tuple(map(str, found["ids"])),
            str(found["source"]),
            float(found["received_at"]),
            savefile,
            list(map(str, found["owed"])),
            {name: Receipt(**receipt) for name, receipt in found["delivered"].items()},
            float(found["since"]),
        )
