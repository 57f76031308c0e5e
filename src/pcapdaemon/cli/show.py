"""What the command line shows to people: tables and progress."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from pcapdaemon.cli.fleet import INTERFACES, OVER, SNAPLEN, Fleet
from pcapdaemon.core.limits import StopReason
from pcapdaemon.core.record import FAILURES, CaptureState, RequestState
from pcapdaemon.core.text import printable
from pcapdaemon.core.wire import to_wire

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def follow(api: Any, request_id: str) -> dict[str, Any]:
    """Show the progress of a request until it is finished, and return its record.

    Ctrl-C ends the request early, and what was captured is delivered.
    """
    found: dict[str, Any] = {}
    say, nodes = progress(live=False), Fleet()
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


def record(found: dict[str, Any], as_json: bool, to: Any = sys.stdout) -> None:
    """Show a daemon's record of a request.

    Exits with status 1 if the request was rejected or a capture failed.
    """
    if as_json:
        print(json.dumps(found), file=to)
    elif "captures" in found:
        results(found["captures"], False, to)
    else:
        print(f"{found['state']}: {_words(found)}", file=to)
    if found["state"] == RequestState.REJECTED or any(
        one["state"] in FAILURES for one in found.get("captures", [])
    ):
        raise typer.Exit(1)


def _words(found: dict[str, Any]) -> str:
    words = found.get("href") or found.get("detail")
    return str(words or json.dumps({k: v for k, v in found.items() if k not in ("id", "state")}))


def results(captures: list[dict[str, Any]], as_json: bool, to: Any) -> None:
    """Print captures as a table or JSON."""
    if as_json:
        print(json.dumps(captures))
        return
    rows = table("interface", "state", "packets", "bytes", "dropped", "stop reason", "where")
    for one in captures:
        rows.add_row(
            one["interface"], *_columns(one), printable(", ".join(_places(one)) or one["reason"])
        )
    wide(to).print(rows)
    for one in captures:
        for words in _past(one):
            errors.print(f"{one['interface']}: {words}", markup=False)
    for hint in dict.fromkeys(one["hint"] for one in captures if one["hint"]):
        errors.print(f"hint: {hint}", markup=False)


NOTHING_CAPTURED = 3
"""The exit status if no packet was captured, though nothing failed."""


def fail_if_lost(captures: list[dict[str, Any]]) -> None:
    """Exit with status 1 if a capture failed or ended with an error, or its savefile was lost.

    Exits with NOTHING_CAPTURED if there is no packet.
    """
    if any(
        one["state"] in FAILURES or one.get("stop_reason") == StopReason.ERROR for one in captures
    ):
        raise typer.Exit(1)
    if captures and not any(one["packets"] for one in captures):
        errors.print("no packet was captured; no savefile was written", markup=False)
        raise typer.Exit(NOTHING_CAPTURED)


def findings(found: Sequence[Any], as_json: bool) -> None:
    """Print the results of `check`; exit with status 1 if something is wrong."""
    if as_json:
        print(json.dumps([to_wire(finding) for finding in found]))
    for finding in [] if as_json else found:
        print(
            f"{'ok   ' if finding.good else 'WRONG'} {finding.subject}: {printable(finding.words)}"
        )
        if finding.hint:
            print(f"      hint: {finding.hint}")
    if not all(finding.good for finding in found):
        raise typer.Exit(1)


def interfaces(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print the interfaces of this host."""
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(box=None, header_style="")
    for column in ("name", "state", "linktype"):
        table.add_column(column, no_wrap=True)
    for column in ("addresses", "aliases"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            row["name"],
            row["state"],
            row["linktype"],
            "\n".join(row["addresses"]),
            "\n".join(row["aliases"]),
        )
    wide(sys.stdout).print(table)


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
        self._bars.stop()

    def show(self, nodes: Fleet) -> None:
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


def nodes(found: Fleet, as_json: bool) -> None:
    """Print the outcome of a request on each node.

    Exits with status 1 if no node answered, or the request failed on one.
    """
    if as_json:
        print(json.dumps(list(found.records.values())))
    else:
        shown = table(
            "node", "interface", "state", "packets", "bytes", "dropped", "stop reason", "where"
        )
        for record in found.records.values():
            for row in _rows(record):
                shown.add_row(*(printable(cell) for cell in row))
        wide(sys.stdout).print(shown)
    if not found.records:
        errors.print("error: no node answered", markup=False)
    if not found.good:
        raise typer.Exit(1)


def nodes_or_receivers(
    found: Fleet | None, receivers: int | None, address: str, as_json: bool
) -> None:
    """Print the outcome on each node or, if no result can arrive, that the message was sent."""
    if found is not None:
        nodes(found, as_json)
        return
    if as_json:
        print(json.dumps({"sent": address, "subscribers": receivers}))
    else:
        known = "" if receivers is None else f", received by {receivers} subscriber(s)"
        print(f"sent to {address}{known}; set `results` in its section to receive results")
    if receivers == 0:
        raise typer.Exit(1)


def spool(found: Any, as_json: bool) -> None:
    """Print the savefiles in the spool."""
    manifests = list(found.manifests())
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "name": name,
                        **(manifest if isinstance(manifest, dict) else {"wrong": manifest}),
                    }
                    for name, manifest in manifests
                ]
            )
        )
        return
    rows = table("name", "request", "file", "bytes", "since", "pending")
    for name, manifest in manifests:
        if isinstance(manifest, dict):
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest["since"]))
            file = manifest["stopped"]["file_name"]
            cells = [
                ", ".join(manifest["ids"]),
                file,
                str(manifest["bytes"]),
                since,
                ", ".join(manifest["pending"]),
            ]
        else:
            cells = ["", manifest, "", "", ""]
        rows.add_row(name, *(printable(cell) for cell in cells))
    wide(sys.stdout).print(rows)


def table(*columns: str) -> Table:
    """Return a table that folds long cells, because half of a path or URL is of no use."""
    table = Table(box=None, header_style="")
    for column in columns:
        table.add_column(
            column, overflow="fold", no_wrap=column in ("state", "packets", "bytes", "dropped")
        )
    return table


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


def _rows(record: dict[str, Any]) -> Iterator[list[str]]:
    words = [
        *record.get("problems", ()),
        *([f"joined {record['joined']}"] if record.get("joined") else []),
    ]
    if record["state"] != RequestState.FINISHED or not record["captures"]:
        found = {
            name: record[name]
            for name in (INTERFACES, "limits", "unavailable", "running")
            if name in record
        }
        if record["state"] in (RequestState.DRYRUN, RequestState.LIST):
            words.append(json.dumps(found))
        yield [
            str(record["node"]),
            "",
            record["state"],
            "",
            "",
            "",
            "",
            "; ".join([*words, *record.get("warnings", ())]),
        ]
        return
    for one in record["captures"]:
        why = [one["reason"]] if one["reason"] else []
        where = ", ".join([*_places(one), *why, *one.get("missing", ()), *_past(one)])
        yield [str(record["node"]), one["interface"], *_columns(one), where]


def _columns(capture: dict[str, Any]) -> list[str]:
    """Return the state, packets, bytes, dropped packets and stop reason."""
    dropped = capture["dropped"] + capture["dropped_by_interface"]
    numbers = [str(capture["packets"]), str(capture["bytes"]), str(dropped)]
    return [capture["state"], *numbers, capture.get("stop_reason", "")]


def _places(capture: dict[str, Any]) -> list[str]:
    return [receipt["where"] for receipt in capture["delivered"].values()]


def _past(capture: dict[str, Any]) -> list[str]:
    """Return what a savefile has from before its request, if the request asked for that."""
    past = capture.get("lookback")
    if not past:
        return []
    why = f": {past['reason']}" if past["reason"] else ""
    return [f"lookback {past['covered']:g} of {past['asked']} s, {past['packets']} packets{why}"]


def wide(to: Any) -> Console:
    """Return a console that does not fold output to a file or a program."""
    return Console(file=to, highlight=False, markup=False, width=None if to.isatty() else 400)
