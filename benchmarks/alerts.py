"""What a trigger adds to a request, and what lines cost that are no alerts.

The peer of an alert is a plain request to the same daemon in the same run.
"""

import json
import statistics
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.report import Figure
from tests.helpers import Wire, eventually
from tests.servers import DaemonProcess

ROUNDS, LINES = 60, 500_000
_numbers = count()


def figures(wire: Wire, directory: Path) -> list[Figure]:
    """Measure alerts over HTTP, and followed files."""
    directory = directory / "alerts"  # with a log of its own
    directory.mkdir()
    request = {"interface": wire.far, "packets": 1, "duration": 60}
    ids, notices = directory / "eve.json", directory / "notice.log"
    for path in (ids, notices):
        path.touch()
    base: dict[str, Any] = {"flow": "required", "rate": 10_000, "request": request}
    sections: dict[str, dict[str, Any]] = {
        "general": {"rate": 0, "maxcaptures": 1024, "memory": 2**30},
        "interface 1": {"name": wire.far},
        "trigger 1": {**base, "name": "ids", "kind": "suricata", "file": str(ids)},
        "trigger 2": {
            **base,
            "name": "zeek",
            "kind": "zeek",
            "file": str(notices),
            "match": {"note": "Scan::*"},
        },
    }
    daemon = DaemonProcess(directory, sections).start()
    try:
        eventually(lambda: len(daemon.logged("source connected")) == 3)
        return [*_armed(daemon, wire), *_followed(daemon, ids, notices)]
    finally:
        daemon.stop()


def _armed(daemon: DaemonProcess, wire: Wire) -> list[Figure]:
    flow = {"proto": "udp", "src": "10.99.0.1", "sport": 9000, "dst": "10.99.0.2", "dport": 9}
    plain, alerts = [], []
    with httpx2.Client(base_url=f"http://127.0.0.1:{daemon.port}") as client:
        for _ in range(ROUNDS):
            message = {"node": "any", "interface": [wire.far], "packets": 1, "flow": flow}
            plain.append(_seconds(client, "/captures", message))
            alerts.append(_seconds(client, "/triggers/ids", _alert()))
    one, other = 1000 * statistics.median(plain), 1000 * statistics.median(alerts)
    return [
        Figure("from a request to armed, median", one, "ms"),
        Figure("from an alert to armed, median", other, "ms"),
        Figure("what an alert adds", other - one, "ms", most=5),
    ]


def _alert() -> dict[str, Any]:
    flow = {"src_ip": "10.99.0.1", "src_port": 9000, "dest_ip": "10.99.0.2", "dest_port": 9}
    return {
        "timestamp": datetime.now(UTC).isoformat(),
        "event_type": "alert",
        "flow_id": next(_numbers),
        **flow,
        "proto": "UDP",
        "alert": {"gid": 1, "signature_id": 1, "signature": "x", "severity": 1},
    }


def _seconds(client: httpx2.Client, path: str, body: dict[str, Any]) -> float:
    """Return how long the answer took. It comes when the capture is armed.

    The capture is ended then, and its interface is open again before the next request.
    """
    begun = time.monotonic()
    answer = client.post(path, json=body)
    taken = time.monotonic() - begun
    assert answer.is_success, answer.text
    found = answer.json()
    client.delete(f"/captures/{found.get('id') or found['alerts'][0]['id']}")
    time.sleep(0.2)
    return taken


def _followed(daemon: DaemonProcess, ids: Path, notices: Path) -> list[Figure]:
    flow = {**_alert(), "event_type": "flow", "alert": None, "padding": "x" * 500}
    del flow["alert"]
    notice = {"ts": 1.0, "note": "SSL::Other", "msg": "x" * 500, "src": "10.0.0.1"}
    return [
        _lines(daemon, ids, flow, "Suricata: lines that are no alerts", 50_000),
        _lines(daemon, notices, notice, "Zeek: notices that do not match", 20_000),
    ]


def _lines(
    daemon: DaemonProcess, path: Path, line: dict[str, Any], words: str, least: int
) -> Figure:
    text = json.dumps(line) + "\n"
    before = daemon.cpu()
    with path.open("a") as file:
        for _ in range(LINES // 1000):
            file.write(text * 1000)
    last = {"event_type": "alert", "ts": 1.0, "note": "Scan::Last", "flow_id": str(path)}
    judged = len(daemon.logged("alert without a capture"))
    with path.open("a") as file:
        file.write(json.dumps({**last, "alert": {}}) + "\n")
    eventually(lambda: len(daemon.logged("alert without a capture")) > judged, 120)
    return Figure(words, LINES / (daemon.cpu() - before), "1/s of CPU", least=least)
