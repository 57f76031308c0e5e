"""The command line.

Data goes to stdout and everything else to stderr. The exit status is 0, 1, or 2 for a mistake in
the configuration or on the command line.
"""

import asyncio
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcapdaemon import __version__
from pcapdaemon.cli import audit as cli_audit
from pcapdaemon.cli import keys as cli_keys
from pcapdaemon.cli import legacy, options, records
from pcapdaemon.cli import policy as cli_policy
from pcapdaemon.cli import spool as cli_spool
from pcapdaemon.cli.extcap import extcap
from pcapdaemon.cli.failing import fail
from pcapdaemon.cli.mcp import mcp
from pcapdaemon.cli.merge import merge
from pcapdaemon.cli.request import message_of, request
from pcapdaemon.cli.run import run
from pcapdaemon.cli.sign import sign
from pcapdaemon.cli.trigger import trigger
from pcapdaemon.core.errors import ConfigError, PcapdaemonError

if TYPE_CHECKING:
    from pcapdaemon.settings import Settings

app = typer.Typer(
    name="pcapdaemon",
    help="Packet captures on request, for a whole fleet.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


def main() -> None:
    """The entry point of the command `pcapdaemon`."""
    commands = [
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback
    ]
    commands += [str(group.name) for group in app.registered_groups]
    closed = _reopen_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # an id may have characters that a locale lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    with _mistakes_in_words():
        sys.argv[1:] = legacy.translate(sys.argv[1:], commands)
        if closed and sys.argv[1:2] != ["run"]:
            fail(2, ["stdout is closed"], "redirect it to a file, or to /dev/null")
        app()


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from pcapdaemon.native.library import library

        print(f"pcapdaemon {__version__}, {library()}")
        raise typer.Exit


@app.command()
def capture(
    interface: options.Interfaces = None,
    alias: options.Aliases = None,
    pod: options.Pods = None,
    container: options.Containers = None,
    netns: options.Netns = None,
    process: options.ProcessNames = None,
    unit: options.UnitNames = None,
    inside: options.Inside = False,
    bpf: options.Bpf = None,
    snap: options.Snap = None,
    packets: options.Packets = None,
    timeout: options.Timeout = None,
    duration: options.Duration = None,
    bytes_: options.Bytes = None,
    customer: options.Customer = None,
    alertid: options.AlertId = None,
    tags: options.Tags = None,
    write: Annotated[
        str | None,
        typer.Option(
            "-w",
            "--write",
            help="The savefile, written at the end; - is stdout, written at once.",
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
        bool,
        typer.Option(help="Play the file at the pace of its packets, with current times."),
    ] = False,
    id_: options.Id = None,
    lookback: options.Lookback = None,
    format_: options.FormatOption = None,
    compress: options.Compress = None,
    merge: options.Merge = False,
    url: options.Urls = None,
    token_file: options.TokenFile = None,
    config_file: options.ConfigOption = None,
    json_: options.JsonOption = False,
    numeric: Annotated[
        bool, typer.Option("-n", help="Accepted because of tcpdump; it changes nothing.")
    ] = False,
    expression: Annotated[
        list[str] | None,
        typer.Argument(help="Capture filter, as for tcpdump, in place of --bpf."),
    ] = None,
) -> None:
    """Capture now on this host, until Ctrl-C or a limit. Packets are whole unless -s cuts them.

    The limits of --config apply. The status is 3 if no packet was captured.

    --lookback asks the running daemon (--url, --config), because only its recorder has earlier
    packets.

    --read plays a file in place of an interface, to see what a capture would have caught.

    Example: pcapdaemon capture -i eth0 -c 100 -w dns.pcapng udp port 53
    """
    from pcapdaemon.cli import capture as once
    from pcapdaemon.cli import recorders as cli_recorders
    from pcapdaemon.cli import show, watching

    message = once.completed(message_of(locals()), expression or [], write)
    if problem := once.contradiction(read, paced, lookback, bpf and expression):
        fail(2, [problem])
    if lookback:
        cli_recorders.capture(message, write, config_file, url, token_file, json_)
        return
    settings = _settings_or_local(config_file)
    message = {**(once.patience(settings) if read is None else {}), **message}
    if write == "-" and sys.stdout.isatty():
        fail(
            2,
            ["refusing to write a capture file to a terminal"],
            "pipe it to a program, for example: pcapdaemon capture ... -w - | tcpdump -nr -",
        )
    if read:
        message, settings = once.replayed(message, settings, read, paced)
    results = asyncio.run(
        once.capture({**message, "node": "any"}, settings, write, watching.progress())
    )
    show.results(results, json_, sys.stderr if write == "-" else sys.stdout)
    show.fail_if_lost(results)


@app.command()
def check(
    config_file: options.ConfigOption = None,
    request: Annotated[
        Path | None,
        typer.Option(help="A file with a request to check too.", show_default=False),
    ] = None,
    json_: options.JsonOption = False,
) -> None:
    """Check the configuration, permissions, interfaces and servers, and report all problems.

    Example: pcapdaemon check --config pcapdaemon.toml --request request.json
    """
    from pcapdaemon import config, tables
    from pcapdaemon.cli import check as checks
    from pcapdaemon.cli import show

    settings = config.validate(
        tables.read(config_file) if config_file else tables.EMBEDDED, str(config_file or "default")
    )
    show.findings(asyncio.run(checks.found(settings, request)), json_)


@app.command()
def interfaces(config_file: options.ConfigOption = None, json_: options.JsonOption = False) -> None:
    """List the interfaces of this host with their state, linktype, addresses and aliases.

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
def targets(config_file: options.ConfigOption = None, json_: options.JsonOption = False) -> None:
    """List what requests can be aimed at on this host besides interfaces, and how it is reached.

    Example: pcapdaemon targets
    """
    from pcapdaemon.cli import show
    from pcapdaemon.targets.listing import listed

    show.targets(listed(_settings_or_local(config_file).targets), json_)


app.command()(run)
app.command()(request)
app.command("list")(records.list_)
app.command()(records.status)
app.command()(records.get)
app.command()(merge)
app.command()(sign)
app.command()(extcap)
app.command()(mcp)
app.command()(trigger)
app.add_typer(cli_spool.app, name="spool")
app.add_typer(cli_keys.app, name="keys")
app.add_typer(cli_policy.app, name="policy")
app.add_typer(cli_audit.app, name="audit")


@app.command()
def recorders(
    url: options.Urls = None,
    token_file: options.TokenFile = None,
    config_file: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Show the recorders of a running daemon; on a terminal, until Ctrl-C.

    Example: pcapdaemon recorders --config pcapdaemon.toml
    """
    from pcapdaemon.cli import recorders as cli_recorders

    cli_recorders.recorders(config_file, url, token_file, json_)


sources_app = typer.Typer(help="Manage what nodes leave on a bus.", no_args_is_help=True)
app.add_typer(sources_app, name="sources")


@sources_app.command()
def prune(
    config_file: options.ConfigOption = None,
    idle: Annotated[float, typer.Option(help="Hours since a node last read.", min=0)] = 168,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be removed.")
    ] = False,
) -> None:
    """Remove the consumer groups of nodes that no longer read from the Redis stream.

    Example: pcapdaemon sources prune --config pcapdaemon.toml --dry-run
    """
    from pcapdaemon import config, tables
    from pcapdaemon.sources import redis_stream
    from pcapdaemon.sources.redis import RedisSettings

    bus = config.bus(
        "redis", tables.read(config_file) if config_file else {}, str(config_file or "default")
    )
    if not isinstance(bus.settings, RedisSettings) or bus.settings.stream is None:
        fail(2, ["[redis] stream is not set, and only a stream has consumer groups"])
    for name, seconds in asyncio.run(redis_stream.prune(bus.settings, idle * 3600, dry_run)):
        print(
            f"{'would be removed' if dry_run else 'removed'}: {name}, not read for"
            f" {seconds / 3600:.1f} hours"
        )


def _reopen_streams() -> bool:
    """Open /dev/null in place of closed standard streams; return whether stdout was closed.

    Otherwise the next file that is opened would take their place, and messages would go there.
    """
    closed = sys.stdout is None
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: SIM115  # it stays open
    return closed


def _settings_or_local(path: Path | None) -> "Settings":
    from pcapdaemon import config, tables

    return config.validate(tables.read(path) if path else tables.TERMINAL, str(path or "default"))


@contextmanager
def _mistakes_in_words() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        fail(2, error.problems, error.hint)
    except PcapdaemonError as error:
        fail(1, str(error).split("\n"), error.hint)
    except BrokenPipeError:
        # the reader of stdout is gone: avoid a second error when Python flushes it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        where = error.filename or ("the output" if full else "")
        fail(1, [": ".join(filter(None, (where, error.strerror or str(error))))])
