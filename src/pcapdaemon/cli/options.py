"""Options that several commands share."""

import socket
from collections.abc import Callable
from glob import escape
from pathlib import Path
from typing import Annotated, Any

import typer

from pcapdaemon.core.units import in_bytes, in_seconds


def _of_units(parse: Callable[[Any], Any], name: str) -> Callable[[str], int]:
    """Return a parser of a number, or of a text with a unit, for an option."""

    def parser(text: str) -> int:
        try:
            number = int(text) if text.isascii() and text.isdigit() else int(parse(text))
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        return number

    parser.__name__ = name  # the help shows it as the kind of the value
    return parser


SECONDS, BYTES = _of_units(in_seconds, "time"), _of_units(in_bytes, "size")


def interface_names(incomplete: str) -> list[str]:
    """Return the interfaces of this host that begin so, for the completion of a shell."""
    names = ("any", *(name for _, name in socket.if_nameindex()))
    return [name for name in names if name.startswith(incomplete)]


def pod_names(incomplete: str) -> list[str]:
    """Return the pods of this host that begin so, for the completion of a shell."""
    from pcapdaemon.targets import pods  # few commands need it
    from pcapdaemon.targets.settings import TargetSettings

    found = pods.pods_in(Path(TargetSettings().logs), [f"{escape(incomplete)}*"])
    return sorted({pod.name for pod in found})


ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The configuration file (TOML).", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Sign = Annotated[
    str | None,
    typer.Option(
        "--sign",
        envvar="PCAPDAEMON_SIGN",
        help="Sign with an SSH key: agent, agent:SHA256:..., or the file of a private key.",
        show_default=False,
    ),
]
Interfaces = Annotated[
    list[str] | None,
    typer.Option(
        "--interface", "-i", help="Interface; may be repeated.", autocompletion=interface_names
    ),
]
Aliases = Annotated[
    list[str] | None,
    typer.Option("--alias", help="Alias from the configuration; may be repeated."),
]
Pods = Annotated[
    list[str] | None,
    typer.Option(
        "--pod",
        help="Kubernetes pod, as NAMESPACE/NAME, may have globs; may be repeated.",
        autocompletion=pod_names,
    ),
]
Containers = Annotated[
    list[str] | None,
    typer.Option(
        "--container", help="Name of a container of --pod, or a container's id; may be repeated."
    ),
]
Netns = Annotated[
    list[str] | None,
    typer.Option("--netns", help="Network namespace, as in /run/netns; may be repeated."),
]
ProcessNames = Annotated[
    list[str] | None,
    typer.Option("--process", help="Number or name of a process; may be repeated."),
]
UnitNames = Annotated[
    list[str] | None, typer.Option("--unit", help="Unit of systemd; may be repeated.")
]
Inside = Annotated[
    bool, typer.Option("--inside", help="Capture in the target's own network namespace.")
]
Bpf = Annotated[
    str | None,
    typer.Option("--bpf", help="Capture filter, see pcap-filter(7).", show_default=False),
]
Snap = Annotated[
    int | None,
    typer.Option(
        "--snap", "-s", help="Snapshot length.", parser=BYTES, metavar="SIZE", show_default=False
    ),
]
Packets = Annotated[
    int | None,
    typer.Option(
        "--packets", "-c", help="Stop after this many packets.", min=1, show_default=False
    ),
]
Timeout = Annotated[
    int | None,
    typer.Option(
        help="Stop when no packet comes for this long.",
        parser=SECONDS,
        metavar="TIME",
        show_default=False,
    ),
]
Duration = Annotated[
    int | None,
    typer.Option(help="Stop after this long.", parser=SECONDS, metavar="TIME", show_default=False),
]
Bytes = Annotated[
    int | None,
    typer.Option(
        "--bytes",
        help="Stop at this size of the savefile.",
        parser=BYTES,
        metavar="SIZE",
        show_default=False,
    ),
]
Customer = Annotated[str | None, typer.Option(help="Becomes a tag.", show_default=False)]
AlertId = Annotated[
    str | None, typer.Option("--alertid", help="Becomes a tag.", show_default=False)
]
Tags = Annotated[
    str | None, typer.Option(help="Comma-separated tags of the savefile.", show_default=False)
]
Id = Annotated[
    str | None,
    typer.Option("--id", help="Id of the request; by default generated.", show_default=False),
]
Lookback = Annotated[
    int | None,
    typer.Option(
        help="Begin this long before now, if a recorder has it.",
        parser=SECONDS,
        metavar="TIME",
        show_default=False,
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", help="Format of the savefile: pcap or pcapng.", show_default=False),
]
Compress = Annotated[
    str | None,
    typer.Option(
        "--compress", help="Compression of the savefile: none, gzip or zstd.", show_default=False
    ),
]
Merge = Annotated[bool, typer.Option("--merge", help="Write one pcapng file for all interfaces.")]
Urls = Annotated[
    list[str] | None,
    typer.Option(
        "--url",
        help="API of a daemon; may be repeated. By default that of --config.",
        show_default=False,
    ),
]
Url = Annotated[
    str | None,
    typer.Option("--url", help="API of a daemon. By default that of --config.", show_default=False),
]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with the API's token.", show_default=False)
]
