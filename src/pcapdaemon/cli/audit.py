"""The commands `pcapdaemon audit ...`: check and read an audit log."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pcapdaemon.cli.failing import fail
from pcapdaemon.cli.options import JsonOption

app = typer.Typer(help="Check and read an audit log.", no_args_is_help=True)
Files = Annotated[
    list[Path], typer.Argument(help="Files of the log, in the order in which they were written.")
]


@app.command("verify")
def audit_verify(
    files: Files,
    head: Annotated[
        str, typer.Option(help="The hash that the last line must have, as the log said.")
    ] = "",
    json_: JsonOption = False,
) -> None:
    """Check that no line was changed or removed. The status is 1 if one was.

    The end of the log can be cut off without a trace in it. So compare the last line with the hash
    that the daemon's log says every hour and at its end, with --head.

    Example: pcapdaemon audit verify /var/log/audit.jsonl.* /var/log/audit.jsonl
    """
    from pcapdaemon.audit.chain import verify

    _refuse_missing(files)
    found = verify((str(file), _lines(file)) for file in files)
    problem = found.broken or ("" if found.lines else "there is no line of an audit log")
    if not problem and head and head != found.chain.head:
        problem = f"the last line has the hash {found.chain.head}, not {head}"
    if json_:
        facts = {"lines": found.lines, "first": found.first, "last": found.chain.number}
        print(json.dumps({**facts, "head": found.chain.head, "problem": problem, "cut": found.cut}))
    else:
        print(f"{found.lines} lines, {found.first} to {found.chain.number}")
        print(f"hash of the last line: {found.chain.head}")
        for where in found.cut:
            print(f"{where}: a crash left it unfinished")
    if problem:
        fail(1, [problem], "the lines before it are as they were written")


@app.command("show")
def audit_show(
    files: Files,
    requester: Annotated[str, typer.Option(help="Only lines of this requester.")] = "",
    event: Annotated[str, typer.Option(help="Only what happened so, for example refused.")] = "",
    id_: Annotated[str, typer.Option("--id", help="Only lines of this request.")] = "",
    json_: JsonOption = False,
) -> None:
    """Show the lines of an audit log.

    Example: pcapdaemon audit show /var/lib/pcapdaemon/audit.jsonl --requester oncall
    """
    from pcapdaemon.audit.chain import shown

    _refuse_missing(files)
    given = {"requester": requester, "event": event, "id": id_}
    search = {name: value for name, value in given.items() if value}
    for file in files:
        for line in shown(_lines(file), search):
            print(json.dumps(line) if json_ else _words(line))


def _words(line: dict[str, object]) -> str:
    from pcapdaemon.core.text import printable

    known = ("at", "event", "requester", "id")
    rest = {name: line[name] for name in line if name not in (*known, "seq", "prev", "node")}
    facts = " ".join(f"{name}={json.dumps(value)}" for name, value in rest.items() if value)
    start = " ".join(str(line.get(name) or "-") for name in known)
    return printable(f"{start} {facts}")


def _lines(file: Path) -> Iterator[bytes]:
    from pcapdaemon.audit.chain import LONGEST_LINE

    with file.open("rb") as opened:
        while line := opened.readline(LONGEST_LINE + 1):
            yield line


def _refuse_missing(files: list[Path]) -> None:
    if missing := [f"{file}: no such file" for file in files if not file.is_file()]:
        fail(1, missing)
