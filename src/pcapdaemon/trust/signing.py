"""Signs messages with SSH keys, in files or in ssh-agent. Raises SigningError."""

import base64
import getpass
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from pcapdaemon.core.request import new_id
from pcapdaemon.trust import agent, jws, keys
from pcapdaemon.trust.agent import Identity, SigningError

AGENT = "agent"
CERTIFIED = b"ssh-ed25519-cert-v01@openssh.com"


@dataclass(frozen=True)
class Signer:
    """A key that can sign. `certificate` is in base64, or empty."""

    fingerprint: str
    sign: Callable[[bytes], bytes]
    certificate: str = ""
    algorithm: str = jws.ALGORITHMS[0]


def signer(name: str) -> Signer:
    """Return the key that a person names.

    `agent` is the only Ed25519 key in ssh-agent, `agent:SHA256:...` is one of several, and anything
    else is the file of a private key. A certificate is found in the agent, or beside the file.
    """
    if name == AGENT or name.startswith(f"{AGENT}:"):
        return _of_agent(name.partition(":")[2])
    return _of_file(Path(name).expanduser())


def signed(message: Mapping[str, Any], by: Signer, audience: str = "") -> dict[str, Any]:
    """Return a message with its signature beside it. It gets an id and the current time."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    whole = {**message, "id": message.get("id") or new_id(), "issued_at": now}
    payload = {**whole, **({"audience": audience} if audience else {})}
    text = json.dumps(payload, separators=(",", ":")).encode()
    return {
        **whole,
        jws.MEMBER: jws.signed(text, by.fingerprint, by.sign, by.certificate, by.algorithm),
    }


def _of_agent(fingerprint: str) -> Signer:
    found = {keys.fingerprint(one.blob): one for one in agent.identities()}
    certified = {
        keys.certificate(_base64(one.blob)).key.fingerprint: one
        for one in found.values()
        if one.kind == CERTIFIED
    }
    plain = {
        name: one
        for name, one in found.items()
        if one.kind in (keys.ED25519, keys.SECURITY_KEY) and name not in certified
    }
    able = {**plain, **certified}
    if fingerprint:
        able = {name: one for name, one in able.items() if name == fingerprint}
    if len(able) != 1:
        names = ", ".join(f"{name} ({one.comment})" for name, one in able.items()) or "none"
        raise SigningError(
            f"ssh-agent must have one Ed25519 key to sign with; it has: {names}",
            "name one with --sign agent:SHA256:..., or add one with 'ssh-add'",
        )
    name, identity = next(iter(able.items()))
    return _with_agent(name, identity)


def _with_agent(name: str, identity: Identity) -> Signer:
    kind = jws.SECURITY_KEY if identity.kind == keys.SECURITY_KEY else jws.ALGORITHMS[0]
    certificate = _base64(identity.blob) if identity.kind == CERTIFIED else ""
    return Signer(name, lambda text: agent.signature(identity, text), certificate, kind)


def _of_file(path: Path) -> Signer:
    private = _private(path)
    beside = path.with_name(f"{path.name}-cert.pub")
    certificate = beside.read_text().split()[1] if beside.is_file() else ""
    return Signer(keys.of_key(private.public_key()).fingerprint, private.sign, certificate)


def _private(path: Path, passphrase: bytes | None = None) -> Ed25519PrivateKey:
    try:
        data = path.read_bytes()
        ssh = b"BEGIN OPENSSH PRIVATE KEY" in data
        found = (load_ssh_private_key if ssh else load_pem_private_key)(data, passphrase)
    except OSError as error:
        raise SigningError(f"{path}: {error.strerror}", "name the file of a private key") from None
    except TypeError:  # it has a passphrase
        if not sys.stdin.isatty():
            raise SigningError(f"{path} has a passphrase", "add it with 'ssh-add'") from None
        return _private(path, getpass.getpass(f"Passphrase of {path}: ").encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        hint = "name the file of a private key; of a security key, use 'ssh-add' and --sign agent"
        raise SigningError(f"{path}: {error}", hint) from None
    if not isinstance(found, Ed25519PrivateKey):
        raise SigningError(f"{path}: only Ed25519 keys sign", "run 'ssh-keygen -t ed25519'")
    return found


def _base64(blob: bytes) -> str:
    return base64.b64encode(blob).decode()
