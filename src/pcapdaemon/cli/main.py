"""The command line; prints, as show.py and cli_spool.py do. Data to stdout, everything else to stderr; status 0, 1 or 2."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pcapdaemon import __version__
from pcapdaemon.cli import legacy
from pcapdaemon.cli import spool as cli_spool
from pcapdaemon.cli.failing import fail
from pcapdaemon.cli.options import (
    AlertId,
    Aliases,
    Bpf,
    Bytes,
    Compress,
    ConfigOption,
    Customer,
    Duration,
    FormatOption,
    Id,
    Interfaces,
    JsonOption,
    Lookback,
    Merge,
    Packets,
    Snap,
    Tags,
    Timeout,
    TokenFile,
    Urls,
)
from pcapdaemon.core.errors import ConfigError, PcapdaemonError

if TYPE_CHECKING:
    from pcapdaemon.config import Settings

app = typer.Typer(
    name="pcapdaemon",
    help="Packet captures on request, for a whole fleet.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
MESSAGE_OPTIONS = (
    *(
        "node",
        "nodere",
        "interface",
        "alias",
        "bpf",
        "snap",
        "packets",
        "timeout",
        "duration",
        "bytes",
    ),
    *(
        "customer",
        "alertid",
        "tags",
        "id",
        "labels",
        "dryrun",
        "comment",
        "reply_to",
        "lookback",
        "format",
        "compress",
        "merge",
    ),
)


def main() -> None:
    """The entry point of the command `pcapdaemon`."""
    commands = [
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback
    ]
    commands += [str(group.name) for group in app.registered_groups]
    with _mistakes_in_words():
        sys.argv[1:] = legacy.translate(sys.argv[1:], commands)
        app()


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"pcapdaemon {__version__}")
        raise typer.Exit


@app.command()
def run(
    config_file: ConfigOption = None,
    redisnode: Annotated[
        str | None, typer.Option(help="Host of the Redis server.", show_default=False)
    ] = None,
    redisport: Annotated[
        int | None, typer.Option(help="Port of the Redis server.", show_default=False)
    ] = None,
    redischannel: Annotated[
        str | None, typer.Option(help="Redis channel to subscribe to.", show_default=False)
    ] = None,
    writelocal: Annotated[
        bool | None, typer.Option(help="Write savefiles to --destdir.", show_default=False)
    ] = None,
    destdir: Annotated[
        str | None, typer.Option(help="The directory for savefiles.", show_default=False)
    ] = None,
    maxpackets: Annotated[
        int | None, typer.Option(help="Most packets of a capture.", show_default=False)
    ] = None,
    upload: Annotated[
        bool | None, typer.Option(help="Upload to CloudShark.", show_default=False)
    ] = None,
    cshost: Annotated[
        str | None, typer.Option(help="Host of CloudShark.", show_default=False)
    ] = None,
    csscheme: Annotated[str | None, typer.Option(help="http or https.", show_default=False)] = None,
    csport: Annotated[
        int | None, typer.Option(help="Port of CloudShark.", show_default=False)
    ] = None,
    cstoken: Annotated[
        str | None, typer.Option(help="API token of CloudShark.", show_default=False)
    ] = None,
    cstimeout: Annotated[
        int | None, typer.Option(help="Timeout of uploads, seconds.", show_default=False)
    ] = None,
    panic: Annotated[
        bool, typer.Option(help="Does nothing: it belonged to a library that is gone.")
    ] = False,
) -> None:
    """Run the daemon; without a configuration: HTTP on 127.0.0.1:8723, savefiles under ./captures.

    Example: pcapdaemon run --config /etc/pcapdaemon/pcapdaemon.toml
    """
    flags = {
        k: v
        for k, v in locals().items()
        if k in legacy.TEXT | legacy.NUMBERS | legacy.SWITCHES and v is not None
    }
    from pcapdaemon import config
    from pcapdaemon.daemon import Daemon

    embedded = config_file is None and not {k for k, v in flags.items() if v is not False}

    def load() -> "Settings":
        values = config.EMBEDDED if embedded else config.read(config_file) if config_file else {}
        origin = str(config_file) if config_file else "command line"
        return config.validate(config.merge(values, legacy.overrides(flags, values)), origin)

    def announce(_: "Settings", daemon: Daemon) -> None:
        if embedded and daemon.api:
            say = partial(print, file=sys.stderr)
            url = f"http://127.0.0.1:{daemon.api.port}/captures"
            request = json.dumps({"node": "any", "interface": ["lo"], "packets": 10})
            say(f"listening on http://127.0.0.1:{daemon.api.port} (documentation: /docs)")
            say(f"savefiles go to {Path('captures').absolute()}")
            say(f"try: curl -H 'Content-Type: application/json' -d '{request}' '{url}?wait=1'")

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
        str | None,
        typer.Option(
            "-w",
            "--write",
            help="The savefile; - is stdout. Written at the end.",
            show_default=False,
        ),
    ] = None,
    read: Annotated[
        str | None,
        typer.Option(
            "-r",
            "--read",
            help="Play this pcap or pcapng file instead of capturing; needs no privilege.",
            show_default=False,
        ),
    ] = None,
    paced: Annotated[
        bool, typer.Option(help="Play it at the pace of its packets, as if they came now.")
    ] = False,
    id_: Id = None,
    lookback: Lookback = None,
    format_: FormatOption = None,
    compress: Compress = None,
    merge: Merge = False,
    url: Urls = None,
    token_file: TokenFile = None,
    config_file: ConfigOption = None,
    json_: JsonOption = False,
) -> None:
    """Capture now, on this host, under the configuration's limits; Ctrl-C ends it and keeps what is there.

    With --lookback the daemon that runs is asked (--url, --config): its recorder alone knows what was before.

    With --read a file is played in place of an interface, to see what a capture would have caught.

    Example: pcapdaemon capture -i lo --packets 10 -w - | tcpdump -nr -
    """
    from pcapdaemon.cli import capture as once
    from pcapdaemon.cli import recorders as cli_recorders
    from pcapdaemon.cli import show

    message = _message(locals())
    if lookback:
        cli_recorders.capture(message, write, config_file, url, token_file, json_)
        return
    settings = _settings_or_local(config_file)
    if write == "-" and sys.stdout.isatty():
        fail(
            2,
            ["refusing to write a capture file to a terminal"],
            "pipe it: ... -w - | tcpdump -nr -",
        )
    if read:
        message, settings = once.replayed(message, settings, read, paced)
    results = asyncio.run(
        once.capture({**message, "node": "any"}, settings, write, show.progress())
    )
    show.results(results, json_ and write != "-", sys.stderr if write == "-" else sys.stdout)
    show.fail_if_lost(results)


@app.command()
def check(
    config_file: ConfigOption = None,
    request: Annotated[
        Path | None,
        typer.Option(help="A request's file; its filter is tried out.", show_default=False),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Say all that is wrong with the configuration, permissions, interfaces, servers and a request.

    Example: pcapdaemon check --config pcapdaemon.toml --request request.json
    """
    from pcapdaemon import config
    from pcapdaemon.cli import check as checks
    from pcapdaemon.cli import show

    settings = config.validate(
        config.read(config_file) if config_file else config.EMBEDDED, str(config_file or "default")
    )
    show.findings(asyncio.run(checks.found(settings, request)), json_)


@app.command()
def interfaces(config_file: ConfigOption = None, json_: JsonOption = False) -> None:
    """List the interfaces of this host with state, linktype, addresses and aliases.

    Example: pcapdaemon interfaces --json
    """
    from pcapdaemon.cli import show
    from pcapdaemon.native.interfaces import describe_interfaces

    aliases = _settings_or_local(config_file).aliases
    rows = [
        {**row, "aliases": [alias for alias, names in aliases.items() if row["name"] in names]}
        for row in describe_interfaces()
    ]
    show.interfaces(rows, json_)


@app.command()
def request(
    node: Annotated[
        str | None, typer.Option(help="The node's name, or any.", show_default=False)
    ] = None,
    nodere: Annotated[
        str | None, typer.Option(help="RE2 expression for nodes' names.", show_default=False)
    ] = None,
    interface: Interfaces = None,
    alias: Aliases = None,
    bpf: Bpf = None,
    snap: Snap = None,
    packets: Packets = None,
    timeout: Timeout = None,
    duration: Duration = None,
    bytes_: Bytes = None,
    lookback: Lookback = None,
    format_: FormatOption = None,
    compress: Compress = None,
    merge: Merge = False,
    customer: Customer = None,
    alertid: AlertId = None,
    tags: Tags = None,
    id_: Id = None,
    message: Annotated[
        str | None,
        typer.Option(help="A file with the request as JSON; - is stdin.", show_default=False),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label", help="NAME=GLOB: a label that the node must have; may be repeated."
        ),
    ] = None,
    dryrun: Annotated[
        bool, typer.Option(help="Capture nothing: have nodes say what they would do.")
    ] = False,
    cancel: Annotated[
        str | None, typer.Option(help="End the request of this id instead.", show_default=False)
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Have nodes list what runs instead.")
    ] = False,
    via: Annotated[
        str, typer.Option(help="http, or a bus as --config has it: kafka, redis, sqs.")
    ] = "http",
    config_file: ConfigOption = None,
    url: Urls = None,
    token_file: TokenFile = None,
    redis: Annotated[
        str | None, typer.Option(help="redis://... to publish on Redis without --config.")
    ] = None,
    channel: Annotated[str, typer.Option(help="The Redis channel, for --redis.")] = "capture",
    comment: Annotated[
        str | None, typer.Option(help="Goes along with the savefile.", show_default=False)
    ] = None,
    reply_to: Annotated[
        str | None, typer.Option("--reply-to", help="Where results go.", show_default=False)
    ] = None,
    wait: Annotated[
        float, typer.Option(help="How long to wait for nodes on a bus to answer, seconds.", min=0)
    ] = 5,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for anything.")] = False,
    json_: JsonOption = False,
) -> None:
    """Send a request by HTTP or over a bus, and show what becomes of it.

    Example: pcapdaemon request --node any -i eth0 --bpf 'port 53' --packets 100
    """
    from pcapdaemon.cli import request as requests

    order = {"cancel": cancel} if cancel else {"list": True} if list_ else {}
    body = {
        **_message_file(message),
        **_message({**locals(), "labels": _labels(labels), "dryrun": dryrun}),
        **order,
    }
    if redis:
        requests.by_bus(
            "redis",
            {"redis": {"url": redis, "channel": channel}},
            "command line",
            body,
            0 if no_wait else wait,
            json_,
        )
        return
    values, origin = requests.values_of(config_file)
    if via == "http":
        requests.by_http(values, url, token_file, body, not no_wait, json_)
    else:
        requests.by_bus(via, values, origin, body, 0 if no_wait else wait, json_)


def _labels(options: list[str] | None) -> dict[str, str] | None:
    if wrong := [option for option in options or () if "=" not in option]:
        fail(2, [f"--label {wrong[0]}: NAME=GLOB is wanted"])
    return dict(option.split("=", 1) for option in options or ()) or None


app.add_typer(cli_spool.app, name="spool")


@app.command()
def recorders(
    url: Urls = None,
    token_file: TokenFile = None,
    config_file: ConfigOption = None,
    json_: JsonOption = False,
) -> None:
    """Show what the recorders of a running daemon have; on a terminal until Ctrl-C.

    Example: pcapdaemon recorders --config pcapdaemon.toml
    """
    from pcapdaemon.cli import recorders as cli_recorders

    cli_recorders.recorders(config_file, url, token_file, json_)


sources_app = typer.Typer(help="Look after what nodes leave on a bus.", no_args_is_help=True)
app.add_typer(sources_app, name="sources")


@sources_app.command()
def prune(
    config_file: ConfigOption = None,
    idle: Annotated[float, typer.Option(help="Hours since a node last read.", min=0)] = 168,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
) -> None:
    """Remove the consumer groups of nodes that are gone from the Redis stream.

    Example: pcapdaemon sources prune --config pcapdaemon.toml --dry-run
    """
    from pcapdaemon import config
    from pcapdaemon.sources import redis_stream
    from pcapdaemon.sources.redis import RedisSettings

    bus = config.bus(
        "redis", config.read(config_file) if config_file else {}, str(config_file or "default")
    )
    if not isinstance(bus.settings, RedisSettings) or bus.settings.stream is None:
        fail(2, ["[redis] stream is not set: only a stream has groups"])
    for name, seconds in asyncio.run(redis_stream.prune(bus.settings, idle * 3600, dry_run)):
        print(
            f"{'would be removed' if dry_run else 'removed'}: {name}, not read for {seconds / 3600:.1f} hours"
        )


def _message(options: dict[str, Any]) -> dict[str, Any]:
    found = {name: options.get(name, options.get(f"{name}_")) for name in MESSAGE_OPTIONS}
    return {name: value for name, value in found.items() if value not in (None, [], False)}


def _message_file(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    try:
        body = json.loads(sys.stdin.read() if name == "-" else Path(name).read_text())
    except (OSError, ValueError) as error:
        fail(2, [f"{name}: {error}"])
    if not isinstance(body, dict):
        fail(2, [f"{name}: a JSON object is wanted"])
    return body


def _settings_or_local(path: Path | None) -> "Settings":
    from pcapdaemon import config

    return config.validate(config.read(path) if path else config.EMBEDDED, str(path or "default"))


@contextmanager
def _mistakes_in_words() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        fail(2, error.problems, error.hint)
    except PcapdaemonError as error:
        fail(1, str(error).split("\n"), error.hint)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough
        raise SystemExit(1) from None
    except OSError as error:
        fail(1, [f"{error.filename}: {error.strerror}" if error.filename else str(error)])
