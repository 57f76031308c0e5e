"""The command `pcapdaemon sign`, and signatures for others."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pcapdaemon.cli import options
from pcapdaemon.cli.failing import fail

if TYPE_CHECKING:
    from pcapdaemon.cli.client import Seal


def sign(key: options.Sign = "agent", config_file: options.ConfigOption = None) -> None:
    """Sign a message on stdin, and print it. It gets an id and the current time.

    --config says the name of the fleet ([trust] audience).

    Example: pcapdaemon sign --sign ~/.ssh/id_ed25519 < request.json
    """
    try:
        message = json.loads(sys.stdin.buffer.read())
    except ValueError as error:
        fail(1, [f"stdin is not JSON: {error}"])
    if not isinstance(message, dict):
        fail(1, ["stdin must be a JSON object"])
    print(json.dumps(sealing(key or "agent", config_file)(message)))


def sealing(key: str, config_file: Path | None) -> "Seal":
    """Return what signs messages with a key that a person names."""
    from pcapdaemon import tables
    from pcapdaemon.trust import signing

    values = tables.read(config_file) if config_file else {}
    audience = str(values.get("trust", {}).get("audience", ""))
    signer = signing.signer(key)
    return lambda message: signing.signed(message, signer, audience)
