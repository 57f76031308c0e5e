"""The command line; the only file that prints. Data goes to stdout, everything else to stderr; status 0, 1 or 2."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from pcapdaemon import __version__, config, legacy
from pcapdaemon.errors import ConfigError, PcapdaemonError
from pcapdaemon.text import printable

app = typer.Typer(
    name="pcapdaemon",
    help="Packet captures on request, for a whole fleet.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[Path | None, typer.Option("--config", help="The configuration file (TOML).", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Interfaces = Annotated[list[str] | None, typer.Option("--interface", "-i", help="An interface; may be repeated.")]
Aliases = Annotated[list[str] | None, typer.Option("--alias", help="An alias from the configuration; may be repeated.")]
Bpf = Annotated[str | None, typer.Option("--bpf", help="Capture filter, see pcap-filter(7).", show_default=False)]
Snap = Annotated[int | None, typer.Option("--snap", "-s", help="Snapshot length in bytes.", min=0, show_default=False)]
Packets = Annotated[int | None, typer.Option("--packets", "-c", help="Stop after so many packets.", min=1, show_default=False)]
Timeout = Annotated[int | None, typer.Option(help="Idle timeout in seconds.", min=0, show_default=False)]
Duration = Annotated[int | None, typer.Option(help="Stop after so many seconds.", min=0, show_default=False)]
Bytes = Annotated[int | None, typer.Option("--bytes", help="Stop at this size of the savefile.", min=0, show_default=False)]
Customer = Annotated[str | None, typer.Option(help="Becomes a tag.", show_default=False)]
AlertId = Annotated[int | None, typer.Option("--alertid", help="Becomes a tag.", show_default=False)]
Tags = Annotated[str | None, typer.Option(help="Comma separated.", show_default=False)]
Id = Annotated[str | None, typer.Option("--id", help="Names the request; made up where absent.", show_default=False)]


MESSAGE_OPTIONS = (
    *("node", "nodere", "interface", "alias", "bpf", "snap", "packets", "timeout", "duration", "bytes"),
    *("customer", "alertid", "tags", "id"),
)


def main() -> None:
    """The entry point of the command `pcapdaemon`."""
    commands = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    with _mistakes_in_words():
        sys.argv[1:] = legacy.translate(sys.argv[1:], commands)
        app()


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(f"pcapdaemon {__version__}")
        raise typer.Exit


@app.command()
def run(
    config_file: ConfigOption = None,
    redisnode: Annotated[str | None, typer.Option(help="Host of the Redis server.", show_default=False)] = None,
    redisport: Annotated[int | None, typer.Option(help="Port of the Redis server.", show_default=False)] = None,
    redischannel: Annotated[str | None, typer.Option(help="Redis channel to subscribe to.", show_default=False)] = None,
    writelocal: Annotated[bool | None, typer.Option(help="Write savefiles to --destdir.", show_default=False)] = None,
    destdir: Annotated[str | None, typer.Option(help="The directory for savefiles.", show_default=False)] = None,
    maxpackets: Annotated[int | None, typer.Option(help="Most packets of a capture.", show_default=False)] = None,
    upload: Annotated[bool | None, typer.Option(help="Upload to CloudShark.", show_default=False)] = None,
    cshost: Annotated[str | None, typer.Option(help="Host of CloudShark.", show_default=False)] = None,
    csscheme: Annotated[str | None, typer.Option(help="http or https.", show_default=False)] = None,
    csport: Annotated[int | None, typer.Option(help="Port of CloudShark.", show_default=False)] = None,
    cstoken: Annotated[str | None, typer.Option(help="API token of CloudShark.", show_default=False)] = None,
    cstimeout: Annotated[int | None, typer.Option(help="Timeout of uploads, seconds.", show_default=False)] = None,
    panic: Annotated[bool, typer.Option(help="Does nothing: it belonged to a library that is gone.")] = False,
) -> None:
    """Run the daemon; without a configuration: HTTP on 127.0.0.1:8723, savefiles under ./captures.

    Example: pcapdaemon run --config /etc/pcapdaemon/pcapdaemon.toml
    """
    from pcapdaemon.daemon import Daemon

    flags = {k: v for k, v in locals().items() if k in legacy.TEXT | legacy.NUMBERS | legacy.SWITCHES and v is not None}
    embedded = config_file is None and not {k for k, v in flags.items() if v is not False}

    def load() -> config.Settings:
        values = config.EMBEDDED if embedded else config.read(config_file) if config_file else {}
        origin = str(config_file) if config_file else "command line"
        return config.validate(config.merge(values, legacy.overrides(flags, values)), origin)

    def announce(settings: config.Settings, daemon: Daemon) -> None:
        if embedded and daemon.api:
            url = f"http://127.0.0.1:{daemon.api.port}/captures"
            request = json.dumps({"node": "any", "interface": ["lo"], "packets": 10})
            errors.print(f"listening on http://127.0.0.1:{daemon.api.port} (documentation: /docs)")
            errors.print(f"savefiles go to {Path('captures').absolute()}")
            errors.print(f"try: curl -H 'Content-Type: application/json' -d '{request}' '{url}?wait=1'")

    asyncio.run(Daemon(load, announce).run())


@app.command()
def capture(
    interface: Interfaces = None,
    alias: Aliases = None,
    bpf: Bpf = None,
    snap: Snap = None,
    packets: Packets = None,
    timeout: Timeout = None,
    duration: Duration = None,
    bytes_: Bytes = None,
    customer: Customer = None,
    alertid: AlertId = None,
    tags: Tags = None,
    write: Annotated[
        str | None, typer.Option("-w", "--write", help="The savefile; - is stdout. Written at the end.", show_default=False)
    ] = None,
    id_: Id = None,
    config_file: ConfigOption = None,
    json_: JsonOption = False,
) -> None:
    """Capture now, on this host, under the configuration's limits; Ctrl-C ends it and keeps what is there.

    Example: pcapdaemon capture -i lo --packets 10 -w - | tcpdump -nr -
    """
    from pcapdaemon import now

    message = _message(locals())
    settings = _settings_or_local(config_file)
    if write == "-" and sys.stdout.isatty():
        _fail(2, ["a savefile on a terminal helps nobody"], "pipe it: ... -w - | tcpdump -nr -")
    results = asyncio.run(now.capture({**message, "node": "any"}, settings, write, _progress()))
    _show_results(results, json_ and write != "-", sys.stderr if write == "-" else sys.stdout)
    if any(result["state"] in ("failed", "lost") for result in results):
        raise typer.Exit(1)


@app.command()
def check(
    config_file: ConfigOption = None,
    request: Annotated[Path | None, typer.Option(help="A request's file; its filter is tried out.", show_default=False)] = None,
    json_: JsonOption = False,
) -> None:
    """Say all that is wrong with the configuration, permissions, interfaces, servers and a request.

    Example: pcapdaemon check --config pcapdaemon.toml --request request.json
    """
    from pcapdaemon import check as checks

    settings = config.validate(config.read(config_file) if config_file else config.EMBEDDED, str(config_file or "default"))

    async def findings() -> list[checks.Finding]:
        return [finding async for finding in checks.check(settings, request)]

    found = asyncio.run(findings())
    if json_:
        print(json.dumps([{"subject": f.subject, "good": f.good, "words": f.words, "hint": f.hint} for f in found]))
    for finding in [] if json_ else found:
        print(f"{'ok   ' if finding.good else 'WRONG'} {finding.subject}: {printable(finding.words)}")
        if finding.hint:
            print(f"      hint: {finding.hint}")
    if not all(finding.good for finding in found):
        raise typer.Exit(1)


@app.command()
def interfaces(config_file: ConfigOption = None, json_: JsonOption = False) -> None:
    """List the interfaces of this host with state, linktype, addresses and aliases.

    Example: pcapdaemon interfaces --json
    """
    from pcapdaemon.capture import describe_interfaces

    aliases = _settings_or_local(config_file).aliases
    rows = [
        {**row, "aliases": [alias for alias, names in aliases.items() if row["name"] in names]} for row in describe_interfaces()
    ]
    if json_:
        print(json.dumps(rows))
        return
    table = Table(box=None, header_style="")
    for column in ("name", "state", "linktype"):
        table.add_column(column, no_wrap=True)
    for column in ("addresses", "aliases"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(row["name"], row["state"], row["linktype"], "\n".join(row["addresses"]), "\n".join(row["aliases"]))
    _wide(sys.stdout).print(table)


@app.command()
def request(
    node: Annotated[str | None, typer.Option(help="The node's name, or any.", show_default=False)] = None,
    nodere: Annotated[str | None, typer.Option(help="RE2 expression for nodes' names.", show_default=False)] = None,
    interface: Interfaces = None,
    alias: Aliases = None,
    bpf: Bpf = None,
    snap: Snap = None,
    packets: Packets = None,
    timeout: Timeout = None,
    duration: Duration = None,
    bytes_: Bytes = None,
    customer: Customer = None,
    alertid: AlertId = None,
    tags: Tags = None,
    id_: Id = None,
    message: Annotated[str | None, typer.Option(help="A file with the request as JSON; - is stdin.", show_default=False)] = None,
    url: Annotated[str, typer.Option(help="The daemon's API.")] = "http://127.0.0.1:8723",
    token_file: Annotated[Path | None, typer.Option(help="File with the API's token.", show_default=False)] = None,
    redis: Annotated[str | None, typer.Option(help="redis://... to publish on Redis instead.", show_default=False)] = None,
    channel: Annotated[str, typer.Option(help="The Redis channel.")] = "capture",
    wait: Annotated[bool, typer.Option(help="Wait for the result.")] = True,
    json_: JsonOption = False,
) -> None:
    """Send a request to a daemon, by HTTP or over Redis, and show what becomes of it.

    Example: pcapdaemon request --node any -i eth0 --bpf 'port 53' --packets 100
    """
    from pcapdaemon import client

    body = {**_message_file(message), **_message(locals())}
    if redis:
        heard = client.publish(redis, channel, json.dumps(body).encode())
        words = {"published": True, "subscribers": heard, "channel": channel}
        print(
            json.dumps(words) if json_ else f"published on {channel}: {heard} subscriber(s) heard it; Redis brings no answer back"
        )
        raise typer.Exit(0 if heard else 1)
    api = client.ApiClient(url, token_file.read_text().strip() if token_file else "")
    record = api.submit({"node": "any", **body} if not {"node", "nodere"} & body.keys() else body)
    if record["state"] == "running" and wait:
        record = _follow(api, record["id"])
    _show_record(record, json_)


def _follow(api: Any, request_id: str) -> dict[str, Any]:
    """Show a request's progress until it is over; Ctrl-C ends it early, and what is there is delivered."""
    record: dict[str, Any] = {}
    show = _progress()
    while not record or record["state"] == "running":
        try:
            for record in api.follow(request_id):
                show(record["captures"])
        except KeyboardInterrupt:
            errors.print("stopping; what was captured is delivered")
            api.stop(request_id)
    return record


def _show_record(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(record))
    elif "captures" in record:
        _show_results(record["captures"], False, sys.stdout)
    else:
        print(f"{record['state']}: {record.get('href') or record.get('detail')}")
    if record["state"] == "rejected" or any(c["state"] in ("failed", "lost") for c in record.get("captures", [])):
        raise typer.Exit(1)


def _show_results(captures: list[dict[str, Any]], as_json: bool, to: Any) -> None:
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
    _wide(to).print(table)
    for hint in dict.fromkeys(one["hint"] for one in captures if one["hint"]):
        errors.print(f"hint: {hint}", markup=False)


def _progress() -> Any:
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


def _message(options: dict[str, Any]) -> dict[str, Any]:
    found = {name: options.get(name, options.get(f"{name}_")) for name in MESSAGE_OPTIONS}
    return {name: value for name, value in found.items() if value not in (None, [])}


def _message_file(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    try:
        body = json.loads(sys.stdin.read() if name == "-" else Path(name).read_text())
    except (OSError, ValueError) as error:
        _fail(2, [f"{name}: {error}"])
    if not isinstance(body, dict):
        _fail(2, [f"{name}: a JSON object is wanted"])
    return body


def _settings_or_local(path: Path | None) -> config.Settings:
    return config.validate(config.read(path) if path else config.EMBEDDED, str(path or "default"))


def _wide(to: Any) -> Console:
    return Console(file=to, highlight=False, markup=False, width=None if to.isatty() else 400)


@contextmanager
def _mistakes_in_words() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        _fail(2, error.problems, error.hint)
    except PcapdaemonError as error:
        _fail(1, str(error).split("\n"), error.hint)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough
        raise SystemExit(1) from None
    except OSError as error:
        _fail(1, [f"{error.filename}: {error.strerror}" if error.filename else str(error)])


def _fail(status: int, problems: list[str], hint: str = "") -> NoReturn:
    for problem in problems:
        errors.print(f"error: {printable(problem)}", markup=False)
    if hint:
        errors.print(f"hint: {hint}", markup=False)
    raise SystemExit(status)
