"""The commands `pcapdaemon keys ...`: who may send signed requests, and with which keys."""

import json
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pcapdaemon.cli.failing import fail
from pcapdaemon.cli.options import ConfigOption, JsonOption

if TYPE_CHECKING:
    from pcapdaemon.settings import Settings

app = typer.Typer(help="Manage the keys of requesters.", no_args_is_help=True)
NAME = Annotated[str, typer.Option("--name", help="Name of the requester.")]


@app.command("show")
def keys_show(config_file: ConfigOption = None, json_: JsonOption = False) -> None:
    """Show the requesters of a configuration, their keys, and what each may do.

    Example: pcapdaemon keys show --config pcapdaemon.toml
    """
    from pcapdaemon.cli import show
    from pcapdaemon.trust.requesters import Requesters, is_over

    settings = _settings(config_file)
    table = Requesters(settings.requester, settings.group)
    revoked = set(settings.trust.revoked)
    rows = []
    for one in table:
        own = [key for key, name in table.fingerprints.items() if one.name in name.split(", ")]
        rows.append(
            {
                "name": one.name,
                "keys": [f"{key} (revoked)" if key in revoked else key for key in own],
                "tokens": len(one.tokens),
                "until": f"{one.until} (over)" if is_over(one) else one.until,
                "may": ", ".join(one.may),
            }
        )
    if json_:
        print(json.dumps(rows))
        return
    columns = ("name", "keys", "tokens", "until", "may")
    made = show.table(*columns)
    for row in rows:
        made.add_row(*(_words(row[name]) for name in columns))
    show.wide(sys.stdout).print(made)


@app.command("trust")
def keys_trust(
    key: Annotated[str, typer.Argument(help="File of a public key, or its text.")],
    name: NAME,
    authority: Annotated[
        bool, typer.Option("--authority", help="It is the key of a certificate authority.")
    ] = False,
) -> None:
    """Print the table that lets a key sign requests, for the configuration of the nodes.

    Example: pcapdaemon keys trust ~/.ssh/id_ed25519.pub --name oncall >> pcapdaemon.toml
    """
    from pcapdaemon.trust import keys

    path = Path(key).expanduser()
    try:
        text = path.read_text().strip() if path.is_file() else key.strip()
        found = keys.authority(text) if authority else keys.public_key(text).fingerprint
    except (OSError, ValueError) as error:
        fail(1, [f"{key}: {error}"])
    print(f"\n[[requester]]\nname = {json.dumps(name)}\n# {found}")
    print(f"{'authorities' if authority else 'keys'} = [{json.dumps(text)}]")
    print("then check the file, and reload the daemon with SIGHUP", file=sys.stderr)


@app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="Fingerprint, or file of a public key.")],
    config_file: ConfigOption = None,
) -> None:
    """Print what the configuration must say so that a key signs no longer.

    Example: pcapdaemon keys revoke SHA256:mVPwvezndPv/ARoIadVY98vAC0g+P/5633yTC4d/wXE
    """
    from pcapdaemon.trust import keys

    path = Path(key).expanduser()
    if path.is_file():
        try:
            key = keys.authority(path.read_text())
        except ValueError as error:
            fail(1, [f"{path}: {error}"])
    if not key.startswith("SHA256:"):
        fail(2, [f"{key}: must be a fingerprint, SHA256:..."], "run 'ssh-keygen -l -f FILE'")
    known = list(_settings(config_file).trust.revoked) if config_file else []
    words = ", ".join(json.dumps(one) for one in dict.fromkeys([*known, key]))
    print(f"[trust]\nrevoked = [{words}]")
    print("then check the file, and reload the daemon with SIGHUP", file=sys.stderr)


@app.command("token")
def keys_token() -> None:
    """Make a token for the API, and print it and the hash to put into the configuration.

    Example: pcapdaemon keys token
    """
    from pcapdaemon.trust.requesters import digest

    token = secrets.token_urlsafe(32)
    print(f"the token, which is shown only now: {token}", file=sys.stderr)
    print(f'tokens = ["{digest(token.encode())}"]')


def _words(value: object) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _settings(config_file: Path | None) -> "Settings":
    from pcapdaemon import config, tables

    if config_file is None:
        fail(2, ["--config is missing"], "name the configuration with the requesters")
    return config.validate(tables.read(config_file), str(config_file))
