"""The commands that read a daemon's records: `pcapdaemon list`, `status` and `get`."""

import json
import os
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcapdaemon.cli import options
from pcapdaemon.cli.failing import fail
from pcapdaemon.core.errors import PcapdaemonError

if TYPE_CHECKING:
    from pcapdaemon.cli.client import ApiClient

Identity = Annotated[str, typer.Argument(metavar="ID", help="Id of the request.")]


def list_(
    cause: Annotated[
        str | None, typer.Option(help="System, id or URL, or a part of the title.")
    ] = None,
    customer: Annotated[str | None, typer.Option(help="The customer.")] = None,
    tag: Annotated[str | None, typer.Option(help="One of the request's tags.")] = None,
    since: Annotated[str | None, typer.Option(help="Received since then, RFC 3339.")] = None,
    limit: Annotated[int, typer.Option(help="Most requests.", min=1, max=1000)] = 20,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    config_file: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """List the last requests of a daemon, newest first, or those that are looked for.

    Example: pcapdaemon list --cause alertmanager --since 2026-01-31T12:00:00Z
    """
    from pcapdaemon.cli import show
    from pcapdaemon.core.fields import problem_of_moment

    if since and (wrong := problem_of_moment(since)):
        fail(2, [f"--since {since}: {wrong}"])
    search = {"cause": cause, "customer": customer, "tag": tag, "since": since, "limit": limit}
    found = _api(config_file, url, token_file).records(
        {name: value for name, value in search.items() if value is not None}
    )
    if json_:
        print(json.dumps(found))
    else:
        show.records(found)


def status(
    request_id: Identity,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    config_file: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Show what became of a request.

    Example: pcapdaemon status alert-1
    """
    from pcapdaemon.cli import show

    show.record(_api(config_file, url, token_file).record(request_id), json_)


def get(
    request_id: Identity,
    write: Annotated[
        str | None,
        typer.Option("-w", "--write", help="The file; - is stdout. By default its own name, here."),
    ] = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    config_file: options.ConfigOption = None,
) -> None:
    """Fetch the savefiles of a request from a daemon.

    Example: pcapdaemon get alert-1 -w alert.pcap
    """
    api = _api(config_file, url, token_file)
    for target in fetch(api, api.record(request_id), write):
        print(target)


def fetch(api: "ApiClient", record: dict[str, Any], write: str | None) -> list[Path]:
    """Fetch the savefiles of a request, and return where they are; `-` is stdout."""
    request_id, names = record["id"], _file_names(record)
    if not names:
        fail(1, [f"{request_id}: no savefile"], f"run 'pcapdaemon status {request_id}'")
    if write is not None and len(names) > 1:
        fail(2, [f"-w names one file, but the request has {len(names)}: {', '.join(names)}"])
    if write == "-":
        api.fetch(request_id, names[0], sys.stdout.buffer)
        return []
    problems, written = [], []
    for name in names:
        target = Path(write or name)
        if write is None and target.exists():
            fail(1, [f"{target}: exists already"], "name another file with -w")
        try:
            _fetch(api, request_id, name, target)
        except PcapdaemonError as error:
            problems.append(str(error))
        else:
            written.append(target)
    if problems:
        for target in written:
            print(target)
        fail(1, problems)
    return written


def refuse_unwritable(write: str) -> None:
    """Fail if a savefile can't be written to this file, before it is captured."""
    target = Path(write).resolve()
    if write == "-":
        return
    if target.is_dir():
        fail(2, [f"-w {write}: is a directory"], "name a file with -w")
    # a file is replaced, but a device or a pipe is written to
    place = target if target.exists() and not target.is_file() else target.parent
    if not os.access(place, os.W_OK):
        words = "this user may not write to it" if place.exists() else "no such directory"
        fail(2, [f"-w {write}: {place}: {words}"], "name another file with -w")


def _fetch(api: "ApiClient", request_id: str, name: str, target: Path) -> None:
    """Write a savefile to a file, which is replaced only when all of it is there."""
    if target.exists() and not target.is_file():  # a device or a pipe
        with target.open("wb") as file:
            api.fetch(request_id, name, file)
        return
    refuse_unwritable(str(target))
    place = target.resolve()
    with NamedTemporaryFile(dir=place.parent, prefix=".pcapdaemon-", delete=False) as part:
        try:
            api.fetch(request_id, name, part.file)
            part.flush()
            os.replace(part.name, place)
        except BaseException:
            os.unlink(part.name)
            raise


def _file_names(record: dict[str, Any]) -> list[str]:
    """Return the names of a request's savefiles, which are those of files in this directory."""
    from pcapdaemon.core.text import path_safe

    names = [one.get("file_name") or "" for one in record.get("captures", ())]
    if strange := [name for name in names if name and path_safe(name, 255) != name]:
        fail(1, [f"{strange[0]}: not the name of a savefile"])
    return [name for name in names if name]


def _api(config_file: Path | None, url: str | None, token_file: Path | None) -> "ApiClient":
    from pcapdaemon import tables
    from pcapdaemon.cli import client

    return client.api_of(tables.read(config_file) if config_file else {}, url or "", token_file)
