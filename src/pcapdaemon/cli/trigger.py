"""The command `pcapdaemon trigger`: passes alerts to a daemon, or shows what they would start."""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcapdaemon.cli import options
from pcapdaemon.cli.failing import fail
from pcapdaemon.core.errors import PcapdaemonError

if TYPE_CHECKING:
    from pcapdaemon.settings import Settings
    from pcapdaemon.triggers.alert import Alert
    from pcapdaemon.triggers.settings import TriggerSettings

TEST = "test"


def trigger(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[test] NAME [FILE]...",
            help="The trigger and files with alerts, by default stdin. With test, start nothing.",
        ),
    ],
    lines: Annotated[bool, typer.Option("--lines", help="Each line is a message.")] = False,
    read: Annotated[
        str | None,
        typer.Option(
            "-r", "--read", help="With test: count the packets of this savefile that would match."
        ),
    ] = None,
    url: options.Url = None,
    token_file: options.TokenFile = None,
    config_file: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Pass alerts to a daemon, as snmptrapd, journalctl or a script does.

    Examples: pcapdaemon trigger snmp < trap; pcapdaemon trigger test ids eve.json --lines
    """
    testing = words[0] == TEST and len(words) > 1
    name, *files = words[1:] if testing else words
    if read and not testing:
        fail(2, ["--read needs test"])
    messages = _messages(files, lines)
    if testing:
        _test(name, messages, config_file, read, json_)
    else:
        _send(name, messages, config_file, url, token_file, json_)


def _messages(files: list[str], lines: bool) -> Iterator[bytes]:
    """Yield each file as a whole, or each of its lines as it comes."""
    for name in files or ["-"]:
        try:
            with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as file:
                yield from (line for line in file if line.strip()) if lines else [file.read()]
        except OSError as error:
            fail(2, [f"{name}: {error.strerror}"])


def _send(
    name: str,
    messages: Iterator[bytes],
    config_file: Path | None,
    url: str | None,
    token_file: Path | None,
    json_: bool,
) -> None:
    from pcapdaemon import tables
    from pcapdaemon.cli import client

    values = tables.read(config_file) if config_file else {}
    api = client.api_of(values, url or "", token_file)
    missed = False
    for body in messages:
        try:
            found = api.alert(name, body)
        except PcapdaemonError as error:
            print(f"error: {error}", file=sys.stderr)
            missed = True
            continue
        for one in found:
            print(json.dumps(one) if json_ else _line(one))
            missed = missed or one["outcome"] in ("malformed", "refused", "busy")
    if missed:
        raise SystemExit(1)


def _line(found: dict[str, Any]) -> str:
    return ": ".join(filter(None, (found["outcome"], found["id"], found["reason"])))


def _test(
    name: str,
    messages: Iterator[bytes],
    config_file: Path | None,
    read: str | None,
    json_: bool,
) -> None:
    from pcapdaemon import config, tables
    from pcapdaemon.triggers.alert import NotAnAlert
    from pcapdaemon.triggers.message import alerts_of

    if config_file is None:
        fail(2, ["test needs --config FILE with the trigger"])
    settings = config.validate(tables.read(config_file), str(config_file))
    found = next((one for one in settings.trigger if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in settings.trigger) or "none"
        fail(2, [f"no trigger {name}; {config_file} has: {known}"])
    none = True
    for body in messages:
        try:
            alerts = alerts_of(body, found)
        except NotAnAlert as error:
            fail(1, [str(error)])
        for alert in alerts:
            none = False
            _show(asyncio.run(_tried(alert, found, settings, read)), json_)
    if none:
        fail(1, [f"no alert of kind {found.kind} was found"])


async def _tried(
    alert: "Alert", trigger: "TriggerSettings", settings: "Settings", read: str | None
) -> dict[str, Any]:
    """Return what an alert would start, by the names of the lines that are shown."""
    from pcapdaemon.triggers.message import Malformed, make

    found: dict[str, Any] = {
        "alert": alert.key,
        "match": {str(one): one(alert.fields) for one in trigger.matchers},
    }
    if alert.resolved:
        found["resolved"] = "ends its captures" if trigger.on_resolved == "stop" else "ignored"
        return found
    if not all(found["match"].values()):
        return found
    try:
        made = make(alert, trigger, time.time())
    except Malformed as error:
        return {**found, "malformed": str(error)}
    found |= {"message": made.fields, "notes": list(made.notes)}
    if trigger.send == "self":
        found["dryrun"] = await _dry_run(dict(made.fields), settings)
    if read:
        found["packets"] = await _packets(dict(made.fields), settings, read)
    return found


async def _dry_run(fields: dict[str, Any], settings: "Settings") -> str:
    from pcapdaemon.cli.capture import answer_of

    answer = await answer_of({**fields, "dryrun": True}, settings)
    if "limits" not in answer.details:
        return ": ".join(filter(None, (answer.kind, "; ".join(map(str, answer.problems)))))
    details = ", ".join(f"{name} {value}" for name, value in answer.details["limits"].items())
    lookback = answer.details["lookback"]
    return f"would capture on {', '.join(answer.interfaces)}: {details}, lookback {lookback:.3f}"


async def _packets(fields: dict[str, Any], settings: "Settings", read: str) -> int:
    """Return how many packets of a savefile match the filter of a message."""
    from pcapdaemon.cli.capture import capture, replayed

    kept = {name: value for name, value in fields.items() if name in ("bpf", "flow", "id")}
    message, played = replayed({"node": "any", **kept}, settings, read, paced=False)
    records = await capture(message, played, "/dev/null", lambda _: None)
    return sum(record["packets"] for record in records)


def _show(found: dict[str, Any], json_: bool) -> None:
    if json_:
        print(json.dumps(found))
        return
    print(f"alert: {found['alert']}")
    for words, fits in found["match"].items():
        print(f"  {'matches' if fits else 'does not match'}: {words}")
    for name in ("resolved", "malformed", "message", "dryrun", "packets"):
        if name in found:
            value = found[name]
            print(f"  {name}: {json.dumps(value) if isinstance(value, dict) else value}")
    for note in found.get("notes", ()):
        print(f"  note: {note}")
