"""The command `pcapdaemon run`, with the original's flags."""

import asyncio
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pcapdaemon.cli import legacy
from pcapdaemon.cli.options import ConfigOption

if TYPE_CHECKING:
    from pcapdaemon.settings import Settings


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
        str | None, typer.Option(help="Directory for savefiles.", show_default=False)
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
    csscheme: Annotated[
        str | None, typer.Option(help="Scheme of CloudShark: http or https.", show_default=False)
    ] = None,
    csport: Annotated[
        int | None, typer.Option(help="Port of CloudShark.", show_default=False)
    ] = None,
    cstoken: Annotated[
        str | None, typer.Option(help="API token of CloudShark.", show_default=False)
    ] = None,
    cstimeout: Annotated[
        int | None, typer.Option(help="Timeout of uploads in seconds.", show_default=False)
    ] = None,
    panic: Annotated[
        bool, typer.Option(help="Ignored; it was for a library that is no longer used.")
    ] = False,
) -> None:
    """Run the daemon.

    Without a configuration or flags, it serves HTTP on 127.0.0.1:8723 and writes savefiles to
    ./captures.

    Example: pcapdaemon run --config /etc/pcapdaemon/pcapdaemon.toml
    """
    flags = {
        k: v
        for k, v in locals().items()
        if k in legacy.TEXT | legacy.NUMBERS | legacy.SWITCHES and v is not None
    }
    # Otherwise structlog loads it, 3 MiB for tracebacks that the log has in its own form.
    sys.modules["rich"] = cast(Any, None)
    from pcapdaemon import config, tables
    from pcapdaemon.daemon import Daemon

    embedded = config_file is None and not {k for k, v in flags.items() if v is not False}

    values: dict[str, Any] = {}

    def load(read_again: bool = True) -> "Settings":
        nonlocal values
        if read_again:
            values = (
                tables.EMBEDDED if embedded else tables.read(config_file) if config_file else {}
            )
        origin = str(config_file) if config_file else "command line"
        return config.validate(tables.merge(values, legacy.overrides(flags, values)), origin)

    def announce(_: "Settings", daemon: Daemon) -> None:
        if embedded and daemon.api.port:
            say = partial(print, file=sys.stderr)
            url = f"http://127.0.0.1:{daemon.api.port}/captures"
            request = json.dumps({"node": "any", "interface": ["lo"], "packets": 10})
            say(f"listening on http://127.0.0.1:{daemon.api.port} (documentation: /docs)")
            say(f"savefiles go to {Path('captures').absolute()}")
            say(f"try: curl -H 'Content-Type: application/json' -d '{request}' '{url}?wait=1'")

    asyncio.run(Daemon(load, announce).run())
