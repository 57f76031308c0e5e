"""What the command line shows to people: tables, a line of progress. With cli.py the only file that prints."""

import json
import sys
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from pcapdaemon.text import printable

errors = Console(stderr=True, highlight=False, soft_wrap=True)


def follow(api: Any, request_id: str) -> dict[str, Any]:
    """Show a request's progress until it is over; Ctrl-C ends it early, and what is there is delivered."""
    found: dict[str, Any] = {}
    show = progress()
    while not found or found["state"] == "running":
        try:
            for found in api.follow(request_id):
                show(found["captures"])
        except KeyboardInterrupt:
            errors.print("stopping; what was captured is delivered")
            api.stop(request_id)
    return found


def record(found: dict[str, Any], as_json: bool) -> None:
    """What a daemon tells of a request; ends with status 1 where it came to nothing."""
    if as_json:
        print(json.dumps(found))
    elif "captures" in found:
        results(found["captures"], False, sys.stdout)
    else:
        print(f"{found['state']}: {found.get('href') or found.get('detail')}")
    if found["state"] == "rejected" or any(c["state"] in ("failed", "lost") for c in found.get("captures", [])):
        raise typer.Exit(1)


def results(captures: list[dict[str, Any]], as_json: bool, to: Any) -> None:
    """A table of captures, or JSON."""
    if as_json:
        print(json.dumps(captures))
        return
    table = Table("interface", "state", "packets", "bytes", "dropped", "stop reason", "where", box=None, header_style="")
    for one in captures:
        counts = one["counts"]
        where = ", ".join(one["delivered"].values()) or one["error"]
        dropped = str(counts["dropped"] + counts["dropped_by_interface"])
        table.add_row(
            one["interface"],
            one["state"],
            str(counts["packets"]),
            str(counts["size"]),
            dropped,
            one["stop_reason"],
            printable(where),
        )
    wide(to).print(table)
    for hint in dict.fromkeys(one["hint"] for one in captures if one["hint"]):
        errors.print(f"hint: {hint}", markup=False)


def progress() -> Any:
    """A function that says once where captures began, and on a terminal shows what they have on one line."""
    begun: set[str] = set()

    def show(captures: list[dict[str, Any]]) -> None:
        for one in captures:
            if one["state"] == "running" and one["interface"] not in begun:
                begun.add(one["interface"])
                errors.print(f"capturing on {one['interface']}, {one['linktype']}, snapshot length {one['snaplen']} bytes")
        if not sys.stderr.isatty():
            return
        parts = [f"{c['interface']}: {c['state']} {c['counts']['packets']} packets" for c in captures]
        sys.stderr.write("\r\033[K" + ", ".join(parts) if any(c["state"] == "running" for c in captures) else "\r\033[K")
        sys.stderr.flush()

    return show


def answers(found: list[dict[str, Any]], as_json: bool) -> None:
    """What nodes answered on a bus, a line for each; ends with status 1 where none did, or one refused."""
    if as_json:
        print(json.dumps(found))
    else:
        table = Table("node", "answer", "interfaces", "words", box=None, header_style="")
        for one in found:
            table.add_row(printable(one["node"]), one["kind"], ", ".join(one.get("interfaces", ())), printable(_words(one)))
        wide(sys.stdout).print(table)
    if not found or any(one["kind"] not in ("accepted", "dryrun", "list", "cancelled") for one in found):
        raise typer.Exit(1)


def answers_or_receivers(found: list[dict[str, Any]] | None, heard: int | None, address: str, as_json: bool) -> None:
    """What nodes answered; where nobody could answer, what is known of the sending."""
    if found is not None:
        answers(found, as_json)
        return
    if as_json:
        print(json.dumps({"sent": address, "subscribers": heard}))
    else:
        known = "" if heard is None else f": {heard} subscriber(s) heard it"
        print(f"sent to {address}{known}; no answer comes back without `results` in its section")
    if heard == 0:
        raise typer.Exit(1)


def _words(answer: dict[str, Any]) -> str:
    problems = [f"{p['field']}: {p['message']}".removeprefix(": ") for p in answer.get("problems", ())]
    joined = [f"joined {answer['joined']}"] if answer.get("joined") else []
    details = [json.dumps(answer["details"])] if answer.get("details") else []
    return "; ".join([*problems, *joined, *details, *answer.get("warnings", ())])


def wide(to: Any) -> Console:
    """A console that folds nothing where its output goes to a file or a program."""
    return Console(file=to, highlight=False, markup=False, width=None if to.isatty() else 400)
