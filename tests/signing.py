"""Keys and signed messages for tests."""

import base64
import json
import struct
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from pcapdaemon.trust import jws, keys


class Signer:
    """A private key, and messages that it signed."""

    def __init__(self, name: str = "alice", private: Any = None) -> None:
        self.private = private or Ed25519PrivateKey.generate()
        self.line = f"{keys.line_of(self.private.public_key())} {name}"
        self.fingerprint = keys.public_key(self.line).fingerprint

    @classmethod
    def from_file(cls, path: Path) -> "Signer":
        """Return the key of a file as ssh-keygen writes it."""
        return cls(private=load_ssh_private_key(path.read_bytes(), None))

    def to_file(self, path: Path) -> Path:
        """Write the key as ssh-keygen does, and return the path."""
        form = Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
        path.write_bytes(self.private.private_bytes(*form))
        path.chmod(0o600)
        return path

    def token(self, fields: Mapping[str, Any], **more: str) -> str:
        """Return the fields as a signed message."""
        payload = json.dumps(dict(fields)).encode()
        return jws.signed(payload, self.fingerprint, self.private.sign, **more)

    def message(self, fields: Mapping[str, Any], **outside: Any) -> dict[str, Any]:
        """Return a request with its signature beside it; `outside` replaces what is not signed."""
        whole = {"issued_at": moment(), **fields}
        return {**whole, **outside, jws.MEMBER: self.token(whole)}


def moment(seconds: float = 0.0) -> str:
    """Return a moment this many seconds from now, as messages write it."""
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


def encoded(data: bytes) -> str:
    """Return base64url as tokens have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def string(data: bytes) -> bytes:
    """Return a string as SSH writes it."""
    return struct.pack(">I", len(data)) + data
