"""What the command line shows to people: tables and progress."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from pcapdaemon.core.limits import StopReason
from pcapdaemon.core.record import FAILURES, RequestState
from pcapdaemon.core.request import ON_THE_WIRE
from pcapdaemon.core.text import printable
from pcapdaemon.core.units import size_in_words
from pcapdaemon.core.wire import to_wire
from pcapdaemon.fleet.followed import Followed

NOTHING_CAPTURED = 3
"""The exit status if no packet was captured, though nothing failed."""

TIMES = (ON_THE_WIRE["duration"], ON_THE_WIRE["idle_timeout"])
"""Limits in seconds."""

LONGEST_LINE = 4096
"""Characters of a table's line; what is longer is cut."""

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def record(found: dict[str, Any], as_json: bool, to: Any = sys.stdout) -> None:
    """Show a daemon's record of a request, or its answer to a message that captures nothing.

    Exits with status 1 if the request was rejected or a capture failed, and with
    NOTHING_CAPTURED if the request is for another node.
    """
    if as_json:
        print(json.dumps(found), file=to)
    elif found.get("captures"):
        results(found["captures"], False, to)
    elif found["state"] == RequestState.LIST:
        _running(found["running"], to)
    else:
        print(*_words(found), sep="\n", file=to)
    captures = found.get("captures", [])
    if found["state"] == RequestState.REJECTED or any(one["state"] in FAILURES for one in captures):
        raise typer.Exit(1)
    if found["state"] == RequestState.ELSEWHERE:
        raise typer.Exit(NOTHING_CAPTURED)


def _words(found: dict[str, Any]) -> list[str]:
    """Return an answer that is no table, in words, one line for each."""
    if found["state"] == RequestState.DRYRUN:
        return _dry_run(found)
    words = found["href"] or found["detail"] or found["id"]
    return [f"{found['state']}: {words}", *(f"warning: {one}" for one in found["warnings"])]


def _dry_run(found: dict[str, Any]) -> list[str]:
    limits = ", ".join(f"{name} {_limit(name, value)}" for name, value in found["limits"].items())
    targets = {
        name: f" ({' '.join(next(iter(one.items())))})" for name, one in found["targets"].items()
    }
    names = (f"{name}{targets.get(name, '')}" for name in found["interface"])
    return [
        f"dryrun: it would capture on {', '.join(names)}",
        *([f"limits: {limits}"] if limits else []),
        *(f"unavailable: {name}: {reason}" for name, reason in found["unavailable"].items()),
        *(f"warning: {one}" for one in found["warnings"]),
    ]


def _limit(name: str, value: float) -> str:
    if name == ON_THE_WIRE["size"]:
        return size_in_words(int(value))
    return f"{value:g} s" if name in TIMES else f"{value:g}"


def _running(running: list[dict[str, Any]], to: Any) -> None:
    if not running:
        print("no request is running", file=to)
        return
    rows = table("request", "since", "interface", "packets", "size", "filter")
    for one in running:
        for name, counts in one["captures"].items():
            numbers = str(counts["packets"]), size_in_words(counts["bytes"])
            rows.add_row(one["id"], _moment(one["since"]), name, *numbers, one["bpf"])
    wide(to).print(rows)


def records(found: list[dict[str, Any]]) -> None:
    """Print one line for each capture of each request."""
    rows = table("request", "received", "state", "interface", "packets", "size", "where")
    for one in found:
        known = one["id"], _moment(one["received_at"])
        for capture in one["captures"]:
            state, packets, size, *_ = _columns(capture)
            where = ", ".join(_where(capture)) or capture["reason"]
            rows.add_row(*known, state, capture["interface"], packets, size, where)
        if not one["captures"]:
            rows.add_row(*known, one["state"], "", "", "", "; ".join(one["problems"]))
    wide(sys.stdout).print(rows)


def _moment(at: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
    except (OverflowError, ValueError, OSError):  # no node sends such a time
        return "?"


def results(captures: list[dict[str, Any]], as_json: bool, to: Any) -> None:
    """Print captures as a table or JSON."""
    if as_json:
        print(json.dumps(captures), file=to)
        return
    rows = table("interface", "state", "packets", "size", "dropped", "stop reason", "where")
    for one in captures:
        rows.add_row(
            one["interface"], *_columns(one), printable(", ".join(_where(one)) or one["reason"])
        )
    wide(to).print(rows)
    for one in captures:
        for words in _past(one):
            errors.print(f"{one['interface']}: {words}", markup=False)
    for hint in dict.fromkeys(one["hint"] for one in captures if one["hint"]):
        errors.print(f"hint: {hint}", markup=False)


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
        word = ("warn " if finding.warns else "ok   ") if finding.good else "WRONG"
        print(f"{word} {finding.subject}: {printable(finding.words)}")
        if finding.hint:
            print(f"      hint: {finding.hint}")
    if not all(finding.good for finding in found):
        raise typer.Exit(1)


def interfaces(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print the interfaces of this host."""
    if as_json:
        print(json.dumps(rows))
        return
    shown = table("name", "state", "linktype", "addresses", "aliases")
    for row in rows:
        shown.add_row(
            row["name"],
            row["state"],
            row["linktype"],
            "\n".join(row["addresses"]),
            "\n".join(row["aliases"]),
        )
    wide(sys.stdout).print(shown)


def targets(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print what requests can be aimed at besides interfaces."""
    if as_json:
        print(json.dumps(rows))
        return
    shown = table("target", "interfaces", "containers", "why not")
    for row in rows:
        cells = (", ".join(row["interfaces"]), ", ".join(row["container"]), row["reason"])
        shown.add_row(*(printable(cell) for cell in (row["target"], *cells)))
    wide(sys.stdout).print(shown)


def nodes(found: Followed, as_json: bool, receivers: int | None = None) -> None:
    """Print the outcome of a request on each node.

    `receivers` is how many the bus passed it to, if that is known. Exits with status 1 if no node
    answered, or the request failed on one.
    """
    if as_json:
        print(json.dumps(list(found.records.values())))
    else:
        shown = table(
            "node", "interface", "state", "packets", "size", "dropped", "stop reason", "where"
        )
        for record in found.records.values():
            for row in _rows(record):
                shown.add_row(*(printable(cell) for cell in row))
        wide(sys.stdout).print(shown)
    if not found.records:
        _nobody(receivers)
    if not found.good:
        raise typer.Exit(1)


def _nobody(receivers: int | None) -> None:
    """Say why no node may have answered, as far as the bus knows it."""
    heard = "" if receivers is None else f"; {receivers} subscriber(s) received the request"
    errors.print(f"error: no node answered{heard}", markup=False)
    hint = (
        "no node listens there; check the address, and the channel"
        if receivers == 0
        else "only nodes that the request is for answer, if `results` is set in their section;"
        " 'pcapdaemon request --list' with the same options shows which nodes answer"
    )
    errors.print(f"hint: {hint}", markup=False)


def nodes_or_receivers(
    found: Followed | None, receivers: int | None, address: str, as_json: bool
) -> None:
    """Print the outcome on each node or, if no result can arrive, that the message was sent."""
    if found is not None:
        nodes(found, as_json, receivers)
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
    rows = table("name", "request", "file", "size", "since", "pending")
    for name, manifest in manifests:
        if isinstance(manifest, dict):
            file = manifest["stopped"]["file_name"]
            cells = [
                ", ".join(manifest["ids"]),
                file,
                size_in_words(manifest["bytes"]),
                _moment(manifest["since"]),
                ", ".join(manifest["pending"]),
            ]
        else:
            cells = ["", manifest, "", "", ""]
        rows.add_row(name, *(printable(cell) for cell in cells))
    wide(sys.stdout).print(rows)


def table(*columns: str, gap: int = 2, folds: bool = False) -> Table:
    """Return a table with long lines. A terminal wraps them, so that a path can be copied whole.

    With `folds`, what does not fit into a column goes on below, for what is redrawn.
    """
    made = Table(box=None, header_style="", padding=(0, gap, 0, 0), pad_edge=False)
    for column in columns:
        made.add_column(column, no_wrap=not folds, overflow="fold" if folds else "ignore")
    return made


def _rows(record: dict[str, Any]) -> Iterator[list[str]]:
    words = [*record["problems"], *([f"joined {record['joined']}"] if record["joined"] else [])]
    if record["state"] == RequestState.LIST:
        words += [f"{one['id']} on {', '.join(one['captures'])}" for one in record["running"]]
        words = words or ["no request is running"]
    elif record["state"] == RequestState.DRYRUN:
        words += _dry_run(record)
    else:
        words += record["warnings"]
    if record["state"] != RequestState.FINISHED or not record["captures"]:
        yield [record["node"], "", record["state"], "", "", "", "", "; ".join(words)]
        return
    for one in record["captures"]:
        why = [one["reason"]] if one["reason"] else []
        where = ", ".join([*_places(one), *why, *one["missing"], *_past(one)])
        yield [record["node"], one["interface"], *_columns(one), where]


def _columns(capture: dict[str, Any]) -> list[str]:
    """Return the state, packets, bytes, dropped packets and stop reason."""
    dropped = capture["dropped"] + capture["dropped_by_interface"]
    numbers = [str(capture["packets"]), size_in_words(capture["bytes"]), str(dropped)]
    return [capture["state"], *numbers, capture.get("stop_reason", "")]


def _places(capture: dict[str, Any]) -> list[str]:
    return [receipt["where"] for receipt in capture["delivered"].values()]


def _where(capture: dict[str, Any]) -> list[str]:
    """Return where the savefile is, and what it lacks."""
    return [*_places(capture), *(capture.get("missing") or ())]


def _past(capture: dict[str, Any]) -> list[str]:
    """Return what a savefile has from before its request, if the request asked for that."""
    past = capture.get("lookback")
    if not past:
        return []
    why = f": {past['reason']}" if past["reason"] else ""
    return [f"lookback {past['covered']:g} of {past['asked']:g} s, {past['packets']} packets{why}"]


def wide(to: Any) -> Console:
    """Return a console that leaves the wrapping of long lines to the terminal."""
    # without a height, rich takes a dumb terminal for one of 80 columns
    return Console(file=to, highlight=False, markup=False, width=LONGEST_LINE, height=25)
