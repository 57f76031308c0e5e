"""The command `pcapdaemon request`: its options, and the message made from them."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pcapdaemon.cli import options
from pcapdaemon.cli.failing import fail

MESSAGE_OPTIONS = (
    "profile",
    "node",
    "nodere",
    "interface",
    "alias",
    "pod",
    "container",
    "netns",
    "process",
    "unit",
    "inside",
    "bpf",
    "snap",
    "packets",
    "timeout",
    "duration",
    "bytes",
    "customer",
    "alertid",
    "tags",
    "id",
    "labels",
    "addresses",
    "dryrun",
    "comment",
    "reply_to",
    "lookback",
    "since",
    "until",
    "format",
    "compress",
    "sha256",
    "merge",
    "payload",
    "encrypt_to",
)


def request(
    node: Annotated[
        str | None, typer.Option(help="Name of the node, or any.", show_default=False)
    ] = None,
    nodere: Annotated[
        str | None, typer.Option(help="RE2 expression for names of nodes.", show_default=False)
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile of the node.", show_default=False)
    ] = None,
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
    flow: Annotated[
        str | None,
        typer.Option(
            help="The two ends of a flow, as 192.0.2.1:443,198.51.100.7.", show_default=False
        ),
    ] = None,
    lookback: options.Lookback = None,
    since: Annotated[
        str | None,
        typer.Option(help="Begin then, in RFC 3339, if a recorder has it.", show_default=False),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="End then, in RFC 3339.", show_default=False)
    ] = None,
    format_: options.FormatOption = None,
    compress: options.Compress = None,
    merge: options.Merge = False,
    sha256: Annotated[bool, typer.Option(help="Report the SHA-256 of the savefile.")] = False,
    customer: options.Customer = None,
    alertid: options.AlertId = None,
    tags: options.Tags = None,
    id_: options.Id = None,
    message: Annotated[
        str | None,
        typer.Option(help="File with the request as JSON; - is stdin.", show_default=False),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            "--label", help="Label that the node must have, as NAME=GLOB; may be repeated."
        ),
    ] = None,
    addresses: Annotated[
        list[str] | None,
        typer.Option(
            "--address", help="Address or network that the node must have; may be repeated."
        ),
    ] = None,
    dryrun: Annotated[
        bool, typer.Option(help="Capture nothing; nodes report what they would do.")
    ] = False,
    cancel: Annotated[
        str | None, typer.Option(help="End the request with this id instead.", show_default=False)
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the running requests of nodes instead.")
    ] = False,
    via: Annotated[
        str, typer.Option(help="http, or a bus from --config: kafka, redis, sqs.")
    ] = "http",
    config_file: options.ConfigOption = None,
    url: options.Urls = None,
    token_file: options.TokenFile = None,
    redis: Annotated[
        str | None, typer.Option(help="URL (redis://...) to publish on Redis without --config.")
    ] = None,
    channel: Annotated[str, typer.Option(help="Redis channel, for --redis.")] = "capture",
    payload: Annotated[
        str | None, typer.Option(help="full or headers.", show_default=False)
    ] = None,
    encrypt_to: Annotated[
        list[str] | None,
        typer.Option("--encrypt-to", help="Recipient of age; may be repeated."),
    ] = None,
    comment: Annotated[
        str | None, typer.Option(help="Comment that goes with the savefile.", show_default=False)
    ] = None,
    reply_to: Annotated[
        str | None, typer.Option("--reply-to", help="Place for results.", show_default=False)
    ] = None,
    wait: Annotated[
        float,
        typer.Option(help="How long to wait for answers from nodes on a bus, in seconds.", min=0),
    ] = 5,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Don't wait for answers or results.")
    ] = False,
    sign: options.Sign = None,
    write: Annotated[
        str | None,
        typer.Option(
            "-w",
            "--write",
            help="Fetch the savefile when it is finished; only over HTTP, from one daemon.",
            show_default=False,
        ),
    ] = None,
    json_: options.JsonOption = False,
) -> None:
    """Send a request over HTTP or a bus, and show the results.

    Example: pcapdaemon request --node any -i eth0 --bpf 'port 53' --packets 100
    """
    from pcapdaemon.cli import client, sending
    from pcapdaemon.cli.sign import sealing

    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # `timeout` ends a request like Ctrl-C
    seal = sealing(sign, config_file) if sign else client.as_it_is
    order = {"cancel": cancel} if cancel else {"list": True} if list_ else {}
    body = {
        **_message_file(message),
        **message_of({**locals(), "labels": _labels(labels), "dryrun": dryrun}),
        **({"flow": [end.strip() for end in flow.split(",")]} if flow else {}),
        **order,
    }
    if write and (redis or via != "http" or len(url or ()) > 1 or no_wait or order or dryrun):
        fail(2, ["-w needs a request to one daemon over HTTP, and to wait for its end"])
    if redis:
        sending.by_bus(
            "redis",
            {"redis": {"url": redis, "channel": channel}},
            "command line",
            body,
            0 if no_wait else wait,
            json_,
            seal,
        )
        return
    values, origin = sending.values_of(config_file)
    if via == "http":
        sending.by_http(values, url, token_file, body, not no_wait, json_, write, seal)
    else:
        sending.by_bus(via, values, origin, body, 0 if no_wait else wait, json_, seal)


def _labels(given: list[str] | None) -> dict[str, str] | None:
    if wrong := [label for label in given or () if "=" not in label]:
        fail(2, [f"--label {wrong[0]}: must be NAME=GLOB"])
    return dict(label.split("=", 1) for label in given or ()) or None


def message_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return the message made from the options of a command."""
    found = {name: given.get(name, given.get(f"{name}_")) for name in MESSAGE_OPTIONS}
    return {name: value for name, value in found.items() if value not in (None, [], False)}


def _message_file(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    try:
        body = json.loads(sys.stdin.read() if name == "-" else Path(name).read_text())
    except OSError as error:
        fail(2, [f"{name}: {error.strerror}"])
    except ValueError as error:
        fail(2, [f"{name}: is not JSON: {error}"])
    if not isinstance(body, dict):
        fail(2, [f"{name}: must be a JSON object"])
    return body
