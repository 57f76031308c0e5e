"""What the command line shows while a request runs: progress on a terminal, lines elsewhere."""

import sys
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from pcapdaemon.cli.show import errors
from pcapdaemon.core.record import CaptureState, RequestState
from pcapdaemon.core.text import printable
from pcapdaemon.fleet.followed import OVER, SNAPLEN, Followed


def follow(api: Any, request_id: str) -> dict[str, Any]:
    """Show the progress of a request until it is finished, and return its record.

    Ctrl-C ends the request early, and what was captured is delivered.
    """
    found: dict[str, Any] = {}
    say, nodes = progress(live=False), Followed()
    with Watch() as watch:
        while not found or found["state"] == RequestState.RUNNING:
            try:
                for found in api.follow(request_id):
                    say(found["captures"])
                    nodes.records[found["node"]] = found
                    if errors.is_terminal:
                        watch.show(nodes)
            except KeyboardInterrupt:
                errors.print("stopping; what was captured is delivered")
                api.stop(request_id)
    return found


def progress(live: bool = True) -> Any:
    """Return a function that prints once for each capture that it began.

    On a terminal, if `live`, it also shows the counts of all captures on one line.
    """
    begun: set[str] = set()

    def show(captures: list[dict[str, Any]]) -> None:
        for one in captures:
            if one["state"] == CaptureState.RUNNING and one["interface"] not in begun:
                begun.add(one["interface"])
                errors.print(
                    f"capturing on {one['interface']}, {one['linktype']}, snapshot length"
                    f" {one[SNAPLEN]} bytes"
                )
        if not live or not sys.stderr.isatty():
            return
        parts = [f"{one['interface']}: {one['state']} {one['packets']} packets" for one in captures]
        running = any(one["state"] == CaptureState.RUNNING for one in captures)
        sys.stderr.write("\r\033[K" + ", ".join(parts) if running else "\r\033[K")
        sys.stderr.flush()

    return show


class Watch:
    """Shows the progress of nodes.

    On a terminal, it shows a progress bar for each node, otherwise it prints a line for each
    change.
    """

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.fields[node]}"),
            BarColumn(30),
            TextColumn("{task.fields[words]}"),
        )
        self._bars = Progress(*columns, console=errors, transient=True)
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, str] = {}

    def __enter__(self) -> "Watch":
        if errors.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if errors.is_terminal:  # it prints an empty line elsewhere
            self._bars.stop()

    def show(self, nodes: Followed) -> None:
        """Show the state of each node."""
        for name, record in list(nodes.records.items()):
            words = printable(
                ", ".join(f"{c['interface']} {c['state']}" for c in record["captures"])
                or record["state"]
            )
            packets = sum(capture["packets"] for capture in record["captures"])
            if errors.is_terminal:
                task = self._tasks.get(name)
                if task is None:
                    task = self._tasks[name] = self._bars.add_task(
                        "", total=1.0, node=printable(name), words=""
                    )
                self._bars.update(task, completed=_part(record), words=f"{words} {packets} packets")
            elif self._said.get(name) != words:
                self._said[name] = words
                errors.print(f"{printable(name)}: {words}", markup=False)


def _part(record: dict[str, Any]) -> float:
    """Return how much of a request is done, from 0 to 1, by its limit of packets or bytes."""
    if record["state"] in OVER:
        return 1.0
    limits, captures = record.get("limits") or {}, record["captures"]
    parts = [
        (
            max(
                capture["packets"] / limits.get("packets", 1e9),
                capture["bytes"] / limits.get("bytes", 1e12),
            )
            if capture["state"] in (CaptureState.STARTING, CaptureState.RUNNING)
            else 0.99
        )
        for capture in captures
    ]
    return sum(parts) / len(parts) if parts else 0.0
