"""Collects the results of one request from several nodes.

It keeps a record of each node, with the words of the API. Pure.
"""

from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from pcapdaemon.core.outcome import Counts, Outcome, Receipt
from pcapdaemon.core.record import FAILURES, CaptureRecord, RequestRecord, RequestState
from pcapdaemon.core.request import ON_THE_WIRE
from pcapdaemon.core.wire import from_wire
from pcapdaemon.fleet import reading

OVER = frozenset(RequestState) - {RequestState.RUNNING}
"""States after which no more results are expected from a node."""

GOOD = OVER - {RequestState.REJECTED, RequestState.UNREACHABLE, RequestState.SILENT}
"""States in which a request ended well on a node."""

MOST_CAPTURES = 256
"""Most captures of a record. Whoever sends results decides how many there are."""

OF_ANSWER = ("limits", "warnings", "joined")
"""Facts about a request that only its answer contains."""

SNAPLEN, INTERFACES = ON_THE_WIRE["snaplen"], ON_THE_WIRE["interfaces"]


class Followed:
    """The records by node, made from the results that are received.

    After `silence` seconds without a result, no more are expected from a node.
    """

    def __init__(self, silence: float = 90.0) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self._growing: dict[str, RequestRecord] = {}
        self._received: dict[str, float] = {}
        self._silence = silence

    def on_result(self, kind: str, data: Mapping[str, Any], now: float) -> None:
        """Record a result; `now` is in seconds of any clock.

        Results that are malformed or have another version are ignored.
        """
        with suppress(KeyError, TypeError, ValueError, AttributeError, OverflowError):
            self._note(kind, data, now)

    def _note(self, kind: str, data: Mapping[str, Any], now: float) -> None:
        node = str(data["node"])
        self._received[node] = now
        record = self._growing.setdefault(node, RequestRecord(str(data["id"]), "", 0.0, node))
        if kind in OVER:
            problems = [
                f"{one['field']}: {one['message']}".removeprefix(": ")
                for one in data.get("problems", ())
            ]
            shown = (
                data
                if kind == RequestState.FINISHED
                else {**data, "state": kind, "problems": problems}
            )
            self.records[node] = reading.record({**record.as_json(), **shown})
            return
        if kind == "accepted":
            names = islice(data.get(INTERFACES, ()), MOST_CAPTURES)
            record.captures = [CaptureRecord(str(name)) for name in names]
        elif "interface" in data and len(record.captures) < MOST_CAPTURES:
            _note(record.capture(str(data["interface"])), kind, data)
        answer = data if kind == "accepted" else self.records.get(node, {})
        known = {name: answer[name] for name in OF_ANSWER if answer.get(name)}
        made = reading.record({**record.as_json(), **known})
        before = self.records.get(node, made)["state"]
        if kind != "accepted" and before in OVER and before != RequestState.SILENT:
            made["state"] = before  # a savefile left the spool after the end
        self.records[node] = made

    def failed(self, node: str, state: RequestState, problems: list[str]) -> None:
        """Record that a node rejected the request, or was not reached."""
        self.records[node] = reading.record(
            {"id": "", "node": node, "state": state, "problems": problems}
        )

    def look(self, now: float) -> None:
        """Mark nodes as silent that have sent no result for too long."""
        for node, record in self.records.items():
            if record["state"] not in OVER and now - self._received.get(node, now) > self._silence:
                record["state"], record["problems"] = (
                    RequestState.SILENT,
                    [f"it has sent no result for {self._silence:.0f} s"],
                )

    @property
    def over(self) -> bool:
        """Whether the request ended on all nodes that answered."""
        return all(record["state"] in OVER for record in self.records.values())

    @property
    def good(self) -> bool:
        """Whether at least one node answered, and none failed."""
        return bool(self.records) and all(is_good(record) for record in self.records.values())


def is_good(record: Mapping[str, Any]) -> bool:
    """Return whether a request ended well on a node, with no capture failed."""
    captures = record.get("captures") or ()
    return record["state"] in GOOD and not any(one["state"] in FAILURES for one in captures)


def _note(capture: CaptureRecord, kind: str, data: Mapping[str, Any]) -> None:
    match kind:
        case "started":
            capture.started(str(data["linktype"]), int(data[SNAPLEN]), float(data["started_at"]))
        case "progress":
            capture.counts = from_wire(Counts, data)
        case "captured":
            capture.stopped(
                from_wire(Outcome, data),
                str(data["file_name"]),
                str(data["sha256"]),
                data["pending"],
            )
        case "spooled":
            capture.spooled(data["pending"], str(data["reason"]))
        case "delivered":
            capture.reached(str(data["destination"]), from_wire(Receipt, data["receipt"]))
        case "failed" if data.get("destination"):
            capture.missed(str(data["destination"]), str(data["reason"]))
        case "failed":
            capture.failed(str(data["reason"]), str(data.get("hint", "")))
