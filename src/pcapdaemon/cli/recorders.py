"""What the command line has of a running daemon's recorders: `pcapdaemon recorders`, and `pcapdaemon capture --lookback`."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from pcapdaemon import config
from pcapdaemon.cli import client, show
from pcapdaemon.cli.failing import fail
from pcapdaemon.cli.show import errors
from pcapdaemon.core.record import RequestState

REFRESH_EVERY = 1.0


def recorders(
    config_file: Path | None, urls: list[str] | None, token_file: Path | None, as_json: bool
) -> None:
    """Print them, or on a terminal show them until Ctrl-C."""
    apis = _apis(config_file, urls, token_file)
    if as_json:
        print(json.dumps([{"url": api.url, "recorders": api.recorders()} for api in apis]))
    elif sys.stdout.isatty():
        show.recorders_live(lambda: _rows(apis), REFRESH_EVERY)
    else:
        show.recorders(_rows(apis))


def capture(
    message: dict[str, Any],
    write: str | None,
    config_file: Path | None,
    urls: list[str] | None,
    token_file: Path | None,
    as_json: bool,
) -> None:
    """Have the daemon capture, from before now on; the savefile goes where it sends all, and to `write` as a copy."""
    api, *more = _apis(config_file, urls, token_file)
    if more:
        fail(2, ["--url: a capture is made by one daemon"], "'pcapdaemon request' asks several")
    record = api.submit({**message, "node": "any"})
    if record.get("state") == RequestState.RUNNING:
        record = show.follow(api, record["id"])
    if write is not None:
        _copy(record, write)
    show.record(record, as_json and write != "-", sys.stderr if write == "-" else sys.stdout)


def _copy(record: dict[str, Any], write: str) -> None:
    captures = [one for one in record.get("captures", []) if one["packets"]]
    places = [one["delivered"].get("local", {}).get("where") for one in captures]
    if len(places) != 1 or places[0] is None or not Path(places[0]).exists():
        why = (
            "no packets were captured"
            if not captures
            else "the daemon keeps no savefile on this host that could be copied"
        )
        errors.print(
            f"-w {write}: {why if len(captures) < 2 else 'several savefiles, and one name'}",
            markup=False,
        )
        return
    with (
        Path(places[0]).open("rb") as source,
        open(1 if write == "-" else write, "wb", closefd=write != "-") as copy,
    ):
        shutil.copyfileobj(source, copy)


def _apis(
    config_file: Path | None, urls: list[str] | None, token_file: Path | None
) -> list[client.ApiClient]:
    values = config.read(config_file) if config_file else {}
    return [client.api_of(values, one, token_file) for one in (urls or [""])]


def _rows(apis: list[client.ApiClient]) -> list[dict[str, Any]]:
    return [
        {**one, "at": time.monotonic(), "node": api.url if len(apis) > 1 else ""}
        for api in apis
        for one in api.recorders()
    ]
