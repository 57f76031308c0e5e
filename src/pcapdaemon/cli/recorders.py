"""The commands that use recorders of a running daemon.

They are `pcapdaemon recorders` and `pcapdaemon capture --lookback`.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pcapdaemon import tables
from pcapdaemon.cli import client, records, show, watching
from pcapdaemon.cli.failing import fail
from pcapdaemon.core.record import RequestState
from pcapdaemon.core.request import ON_THE_WIRE
from pcapdaemon.core.units import size_in_words

REFRESH_EVERY = 1.0
"""Seconds between two updates on a terminal."""

FILTER = ON_THE_WIRE["capture_filter"]


def recorders(
    config_file: Path | None, urls: list[str] | None, token_file: Path | None, as_json: bool
) -> None:
    """Print the state of the recorders; on a terminal, update it until Ctrl-C."""
    apis = _apis(config_file, urls, token_file)
    if as_json:
        print(json.dumps([{"url": api.url, "recorders": api.recorders()} for api in apis]))
    elif sys.stdout.isatty():
        _show_live(lambda: _rows(apis), REFRESH_EVERY)
    else:
        _show(_rows(apis))


def capture(
    message: dict[str, Any],
    write: str | None,
    config_file: Path | None,
    urls: list[str] | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Have the daemon capture, with packets from before now.

    The savefile goes to all destinations of the daemon, and is fetched from it to `write`.
    """
    api, *more = _apis(config_file, urls, token_file)
    if more:
        fail(
            2,
            ["--url: must be given only once, because one daemon captures"],
            "use 'pcapdaemon request' to ask several daemons",
        )
    if write is not None:
        records.refuse_unwritable(write)
    record = api.submit({**message, "node": "any"})
    if record.get("state") == RequestState.RUNNING:
        record = watching.follow(api, record["id"])
    try:
        if write is not None and any(one["file_name"] for one in record.get("captures", ())):
            records.fetch(api, record, write)
    finally:
        show.record(record, as_json, sys.stderr if write == "-" else sys.stdout)
    show.fail_if_lost(record["captures"])


def _apis(
    config_file: Path | None, urls: list[str] | None, token_file: Path | None
) -> list[client.ApiClient]:
    values = tables.read(config_file) if config_file else {}
    return [client.api_of(values, one, token_file) for one in (urls or [""])]


def _rows(apis: list[client.ApiClient]) -> list[dict[str, Any]]:
    return [
        {**one, "at": time.monotonic(), "node": api.url if len(apis) > 1 else ""}
        for api in apis
        for one in api.recorders()
    ]


def _show(
    found: list[dict[str, Any]], before: dict[tuple[str, str], dict[str, Any]] | None = None
) -> None:
    """Print the state of the recorders once."""
    show.wide(sys.stdout).print(_recorders(found, before or {}))


def _show_live(look: Callable[[], list[dict[str, Any]]], seconds: float) -> None:
    """Show the state of the recorders, and update it until Ctrl-C."""
    found, before = look(), {}
    console = Console(highlight=False, markup=False)
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(_recorders(found, {}, folds=True), console=console, auto_refresh=False) as live,
    ):
        while True:
            time.sleep(seconds)
            before, found = {(one["node"], one["interface"]): one for one in found}, look()
            live.update(_recorders(found, before, folds=True), refresh=True)


def _recorders(
    found: list[dict[str, Any]],
    before: dict[tuple[str, str], dict[str, Any]],
    folds: bool = False,
) -> Group:
    """Return a table of at most 80 columns, and below it what does not fit into that."""
    columns = "interface covered memory packets /s CPU% dropped captures".split()
    rows = show.table(*columns, gap=1, folds=folds)
    for one in found:
        rows.add_row(
            _name(one),
            f"{one['covered']:.1f}/{one['seconds']} s",
            size_in_words(one["bytes"]),
            str(one["packets"]),
            *_rates(one, before.get((one["node"], one["interface"]))),
            str(one["dropped"]),
            str(one["captures"]),
        )
    return Group(rows, *(Text(line, overflow="fold") for one in found for line in _notes(one)))


def _name(one: dict[str, Any]) -> str:
    pod = (one.get("target") or {}).get("pod", "")
    return " ".join(filter(None, (one["node"], one["interface"], pod)))


def _notes(one: dict[str, Any]) -> Iterator[str]:
    if not one["recording"]:
        yield f"{_name(one)}: does not record: {one['reason']}"
    if one[FILTER]:
        yield f"{_name(one)}: records only packets that match: {one[FILTER]}"


def _rates(one: dict[str, Any], before: dict[str, Any] | None) -> tuple[str, str]:
    if before is None or one["at"] <= before["at"]:
        return "", ""
    seconds = one["at"] - before["at"]
    return (
        f"{(one['packets'] - before['packets']) / seconds:.0f}",
        f"{(one['cpu'] - before['cpu']) / seconds * 100:.1f}",
    )
