"""What is known of the fleet from its results: the nodes, and the requests on them. Pure.

Whoever can send to the place for results decides what is in here. So it is bounded in numbers and
in bytes, and everything in it has been checked by `reading.py`.
"""

import json
from collections import Counter, OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from pcapdaemon.core.cloudevents import decode
from pcapdaemon.core.record import RequestState
from pcapdaemon.core.request import ON_THE_WIRE
from pcapdaemon.core.text import printable
from pcapdaemon.core.wire import MALFORMED
from pcapdaemon.fleet import reading
from pcapdaemon.fleet.followed import Followed

MOST_NODES = 10_000
MOST_REQUESTS = 10_000
MOST_BYTES = 128 << 20
"""Most bytes of requests, and of nodes, about. The oldest are forgotten first."""

LARGEST_RESULT = 256 << 10
LARGEST_PRESENCE = 64 << 10
"""Longer results and answers are ignored."""

OF_RECORD, OF_CAPTURE = 3000, 1500
"""Bytes that a record and each of its captures take, besides what the node sent."""

CLOCK_COUNTS = 600.0
"""Seconds after which what a message showed of a clock counts no longer."""

SILENT_AFTER = 90.0
"""Seconds after which a node that sends nothing is shown as silent."""

ABOUT_REQUEST = (ON_THE_WIRE["capture_filter"], "cause")
"""Facts about a request that some of its results have."""


@dataclass(slots=True)
class NodeSeen:
    """A node. Times are seconds since the epoch, by this node's clock.

    `presence` is its last answer to `list`. `clock` is by how many seconds its clock seems to be
    ahead of this one; what messages take on their way makes it look behind. `changed` is the number
    of the last change.
    """

    name: str
    seen_at: float
    presence: dict[str, Any] = field(default_factory=dict)
    clock: float | None = None
    clock_at: float = 0.0
    changed: int = 0
    size: int = 0

    def as_json(self, now: float) -> dict[str, Any]:
        """Return its last answer to `list`, and whether it was heard of lately."""
        alive = now - self.seen_at < SILENT_AFTER
        state = {"node": self.name, "seen_at": self.seen_at, "alive": alive, "clock": self.clock}
        return {**self.presence, **state}


@dataclass(slots=True)
class RequestSeen:
    """A request and what its nodes reported. `sizes` are the bytes of what is kept of each."""

    id: str
    seen_at: float
    followed: Followed = field(default_factory=Followed)
    about: dict[str, Any] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    changed: int = 0

    def summary(self) -> dict[str, Any]:
        """Return it in one line, for the API."""
        records = self.followed.records.values()
        captures = [one for record in records for one in record.get("captures") or ()]
        return {
            "id": self.id,
            "seen_at": self.seen_at,
            "nodes": len(records),
            "states": Counter(record["state"] for record in records),
            "packets": sum(one.get("packets", 0) for one in captures),
            "bytes": sum(one.get("bytes", 0) for one in captures),
            "files": sum(bool(one.get("file_name")) for one in captures),
            **self.about,
        }


class FleetState:
    """The nodes and requests that were heard of, the last ones first to stay.

    `change` counts the changes, so that a reader can ask for what is newer than what it has.
    """

    def __init__(self) -> None:
        self.nodes: OrderedDict[str, NodeSeen] = OrderedDict()
        self.requests: OrderedDict[str, RequestSeen] = OrderedDict()
        self.change = 0
        self.ignored = 0
        self._size = self._of_nodes = 0

    def on_result(self, body: bytes, now: float, tick: float) -> None:
        """Note a result. `now` is seconds since the epoch, and `tick` seconds of a steady clock.

        What is no result, or too long, is ignored and counted.
        """
        found = decode(body) if len(body) <= LARGEST_RESULT else None
        if found is None:
            self.ignored += 1
            return
        kind, data = found
        names = {name: printable(str(data[name]))[:255] for name in ("node", "id")}
        self.change += 1
        node = self._node(names["node"], now)
        _note_clock(node, _sent_at(body), now)
        try:
            if kind == RequestState.LIST:
                self._note_presence(node, data, len(body))
            elif names["id"]:
                self._note_request(kind, {**data, **names}, len(body), now, tick)
        except RecursionError:  # nested deeper than anything that a node sends
            self.ignored += 1
        self._trim()

    def expect(self, request_id: str, now: float) -> None:
        """Note a request that was sent, before a node has answered."""
        self.change += 1
        request = self.requests.setdefault(request_id, RequestSeen(request_id, now))
        request.changed = self.change

    def look(self, tick: float) -> None:
        """Mark requests on nodes that went silent."""
        for request in self.requests.values():
            before = dict(request.summary()["states"])
            request.followed.look(tick)
            if request.summary()["states"] != before:
                self.change += 1
                request.changed = self.change

    def since(self, change: int, now: float) -> dict[str, Any]:
        """Return the nodes and requests that are newer than a change, and the newest change."""
        return {
            "change": self.change,
            "nodes": [one.as_json(now) for one in self.nodes.values() if one.changed > change],
            "requests": [one.summary() for one in self.requests.values() if one.changed > change],
        }

    def _node(self, name: str, now: float) -> NodeSeen:
        node = self.nodes.setdefault(name, NodeSeen(name, now))
        self.nodes.move_to_end(name)
        node.seen_at, node.changed = now, self.change
        return node

    def _note_presence(self, node: NodeSeen, data: Mapping[str, Any], size: int) -> None:
        try:
            presence = reading.presence(data) if size <= LARGEST_PRESENCE else None
        except ValidationError:
            presence = None
        if presence is None:
            self.ignored += 1
            return
        node.presence = presence
        self._of_nodes += size - node.size
        node.size = size

    def _note_request(
        self, kind: str, data: Mapping[str, Any], size: int, now: float, tick: float
    ) -> None:
        name = str(data["id"])
        request = self.requests.setdefault(name, RequestSeen(name, now))
        self.requests.move_to_end(name)
        node, records = str(data["node"]), request.followed.records
        before = len(records.get(node, {}).get("captures", ()))
        request.followed.on_result(kind, data, tick)
        request.changed = self.change
        for word in ABOUT_REQUEST:
            if word in data and word not in request.about:
                with suppress(ValidationError):
                    request.about.update(reading.about({word: data[word]}))
        more = max(0, len(records.get(node, {}).get("captures", ())) - before)
        # a record keeps texts of several results, but only numbers of a progress
        grown = OF_CAPTURE * more + (size if kind != "progress" or more else 0)
        grown += 0 if node in request.sizes else OF_RECORD
        self._size += grown
        request.sizes[node] = request.sizes.get(node, 0) + grown

    def _trim(self) -> None:
        while len(self.nodes) > MOST_NODES or self._of_nodes > MOST_BYTES:
            self._of_nodes -= self.nodes.popitem(last=False)[1].size
        while self.requests and (len(self.requests) > MOST_REQUESTS or self._size > MOST_BYTES):
            self._size -= sum(self.requests.popitem(last=False)[1].sizes.values())


def _sent_at(body: bytes) -> float | None:
    try:
        return datetime.fromisoformat(json.loads(body)["time"]).timestamp()
    except MALFORMED:
        return None


def _note_clock(node: NodeSeen, sent_at: float | None, now: float) -> None:
    """Note the difference of two clocks that the fastest message of the last minutes shows."""
    if sent_at is None:
        return
    seen = round(sent_at - now, 6)
    if node.clock is None or seen >= node.clock or now - node.clock_at > CLOCK_COUNTS:
        node.clock, node.clock_at = seen, now
