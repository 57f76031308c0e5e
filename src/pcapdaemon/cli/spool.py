"""The commands `pcapdaemon spool ...`.

They read the directory of the spool, and leave orders in it for the daemon that uses it.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcapdaemon.cli.failing import fail
from pcapdaemon.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from pcapdaemon.delivery.spool import Spool

app = typer.Typer(help="Manage savefiles that are not delivered yet.", no_args_is_help=True)
SpoolNames = Annotated[
    list[str] | None,
    typer.Argument(help="Names or request ids, as `list` shows them. By default all."),
]


@app.command("list")
def spool_list(config_file: ConfigOption = None, json_: JsonOption = False) -> None:
    """List the savefiles in the spool with their size, age and pending destinations.

    Example: pcapdaemon spool list --config pcapdaemon.toml
    """
    from pcapdaemon.cli import show

    show.spool(_spool(config_file), json_)


@app.command("retry")
def spool_retry(names: SpoolNames = None, config_file: ConfigOption = None) -> None:
    """Have the daemon retry deliveries now, including those that a destination refused.

    Example: pcapdaemon spool retry --config pcapdaemon.toml
    """
    spool = _spool(config_file)
    for name in _chosen(spool, names):
        spool.order("retry", name)
        print(f"{name}: will be retried now, or when a daemon starts")


@app.command("drop")
def spool_drop(
    names: Annotated[list[str], typer.Argument(help="Names or request ids, as `list` shows them.")],
    config_file: ConfigOption = None,
) -> None:
    """Remove savefiles from the spool; the daemon reports them to their requesters as lost.

    Example: pcapdaemon spool drop 01KAS7Q0J3T8M2N5V6X9Z1B4CD --config pcapdaemon.toml
    """
    spool = _spool(config_file)
    for name in _chosen(spool, names):
        spool.order("drop", name)
        print(f"{name}: will be dropped now, or when a daemon starts")


def _spool(config_file: Path | None) -> "Spool":
    from pcapdaemon import config, tables
    from pcapdaemon.delivery.spool import Spool, SpoolSettings

    values = tables.read(config_file) if config_file else {}
    settings = config.section("spool", SpoolSettings, values, str(config_file or "command line"))
    if not settings.dir or not Path(settings.dir).is_dir():
        fail(
            2,
            [
                f"[spool] dir: {settings.dir}: no such directory"
                if settings.dir
                else f"{config_file or 'no --config'}: [spool] dir is not set"
            ],
            "pass the daemon's configuration with --config; a daemon without a spool has none",
        )
    return Spool(settings, lock=False)


def _chosen(spool: "Spool", names: list[str] | None) -> list[str]:
    there = {
        name: manifest["ids"] if isinstance(manifest, dict) else []
        for name, manifest in spool.manifests()
    }
    unknown = [
        one for one in names or () if not any(one in (name, *ids) for name, ids in there.items())
    ]
    if unknown:
        fail(
            1,
            [f"{one}: not in the spool {spool.directory}" for one in unknown],
            "run 'pcapdaemon spool list' to list its savefiles",
        )
    return [name for name, ids in there.items() if not names or {name, *ids} & set(names)]
