"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The configuration file (TOML).", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Interfaces = Annotated[
    list[str] | None, typer.Option("--interface", "-i", help="Interface; may be repeated.")
]
Aliases = Annotated[
    list[str] | None,
    typer.Option("--alias", help="Alias from the configuration; may be repeated."),
]
Bpf = Annotated[
    str | None,
    typer.Option("--bpf", help="Capture filter, see pcap-filter(7).", show_default=False),
]
Snap = Annotated[
    int | None,
    typer.Option("--snap", "-s", help="Snapshot length in bytes.", min=0, show_default=False),
]
Packets = Annotated[
    int | None,
    typer.Option(
        "--packets", "-c", help="Stop after this many packets.", min=1, show_default=False
    ),
]
Timeout = Annotated[
    int | None, typer.Option(help="Idle timeout in seconds.", min=0, show_default=False)
]
Duration = Annotated[
    int | None, typer.Option(help="Stop after this many seconds.", min=0, show_default=False)
]
Bytes = Annotated[
    int | None,
    typer.Option("--bytes", help="Stop at this size of the savefile.", min=0, show_default=False),
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
        help="Begin this many seconds before now, if a recorder has them.",
        min=0,
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
TokenFile = Annotated[
    Path | None, typer.Option(help="File with the API's token.", show_default=False)
]
