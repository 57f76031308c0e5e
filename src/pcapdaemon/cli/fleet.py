"""What several nodes have told of one request, put together: a record of each, as the API has it. Pure."""

from collections.abc import Mapping
from typing import Any

OVER = ("finished", "rejected", "dryrun", "list", "cancelled", "elsewhere", "unreachable", "silent")
"""States after which nothing more is expected of a node."""

GOOD = ("finished", "dryrun", "list", "cancelled", "elsewhere")

_STATES = {"started": "running", "progress": "running", "captured": "delivering", "spooled": "spooled", "failed": "failed"}
_COUNTS = ("packets", "received", "dropped", "dropped_by_interface")


class Fleet:
    """Records by node, made of the results that are heard; after `silence` seconds without a word none is expected."""

    def __init__(self, silence: float = 90.0) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self._heard: dict[str, float] = {}
        self._silence = silence

    def on_result(self, kind: str, data: Mapping[str, Any], now: float) -> None:
        """Take note of one result."""
        node = str(data["node"])
        record = self.records.setdefault(node, {"id": data["id"], "node": node, "state": "running", "captures": []})
        self._heard[node] = now
        if kind == "finished":
            record.update(data)
        elif kind == "accepted":
            names = data.get("interfaces", ())
            record.update({**data, "captures": [capture_of(record, name) for name in names]})
        elif kind in OVER:
            words = [f"{one['field']}: {one['message']}".removeprefix(": ") for one in data.get("problems", ())]
            record.update({**data, "state": kind, "problems": words})
        elif "interface" in data:
            _note(capture_of(record, str(data["interface"])), kind, data)

    def look(self, now: float) -> None:
        """Expect nothing more of those who are silent."""
        for node, record in self.records.items():
            if record["state"] not in OVER and now - self._heard.get(node, now) > self._silence:
                record["state"], record["problems"] = "silent", [f"nothing was heard of it for {self._silence:.0f} s"]

    @property
    def over(self) -> bool:
        """Whether all nodes that were heard are done."""
        return all(record["state"] in OVER for record in self.records.values())

    @property
    def good(self) -> bool:
        """Whether there was one, and none failed."""
        return bool(self.records) and all(is_good(record) for record in self.records.values())


def is_good(record: Mapping[str, Any]) -> bool:
    """Whether a request came to something on a node."""
    captures = record.get("captures") or ()
    return record["state"] in GOOD and not any(one["state"] in ("failed", "lost") for one in captures)


def capture_of(record: dict[str, Any], interface: str) -> dict[str, Any]:
    """The capture on an interface, made at its first mention."""
    for capture in record["captures"]:
        if capture["interface"] == interface:
            found: dict[str, Any] = capture
            return found
    counts = dict.fromkeys((*_COUNTS, "size"), 0)
    made = {
        "interface": interface,
        "state": "starting",
        "counts": counts,
        "delivered": {},
        "error": "",
        "hint": "",
        "stop_reason": "",
    }
    record["captures"].append(made)
    return made


def _note(capture: dict[str, Any], kind: str, data: Mapping[str, Any]) -> None:
    if kind == "failed" and data.get("destination"):
        capture["state"], capture["error"] = "lost", f"{data['destination']}: {data['reason']}"
        return
    capture["state"] = _STATES.get(kind, capture["state"])
    capture["counts"].update({name: data[name] for name in _COUNTS if name in data})
    capture["counts"]["size"] = data.get("size", data.get("bytes", capture["counts"]["size"]))
    if kind == "delivered":
        capture["delivered"][data["destination"]] = data["receipt"]["where"]
    for name in ("linktype", "snaplen", "stop_reason", "file_name", "complete", "missing", "hint"):
        if name in data:
            capture[name] = data[name]
    if "reason" in data:
        capture["error"] = data["reason"]
