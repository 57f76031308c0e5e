"""SSH public keys and certificates. The functions raise ValueError, with words for people."""

import base64
import binascii
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.hazmat.primitives.serialization.ssh import (
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
    load_ssh_public_key,
)

ED25519, SECURITY_KEY = b"ssh-ed25519", b"sk-ssh-ed25519@openssh.com"
USER_PRESENT = 1
"""The flag of a security key that says that a person touched it."""


def fingerprint(blob: bytes) -> str:
    """Return the fingerprint of a public key, as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


@dataclass(frozen=True)
class PublicKey:
    """A key that signs messages: Ed25519, in a file, an agent, or a security key (FIDO).

    `application` is that of a security key, and empty for others.
    """

    fingerprint: str
    key: Ed25519PublicKey
    application: bytes = b""

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Return whether a signature of a message is valid."""
        if self.application:
            signature, flags, counter = signature[:64], signature[64:65], signature[65:]
            if len(counter) != 4 or not flags[0] & USER_PRESENT:
                return False
            digests = (hashlib.sha256(one).digest() for one in (self.application, message))
            application, message = digests
            message = application + flags + counter + message
        try:
            self.key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def public_key(line: str) -> PublicKey:
    """Return the key of a line as in ~/.ssh/id_ed25519.pub."""
    kind, blob = _parts(line)
    if kind not in (ED25519, SECURITY_KEY):
        raise ValueError(
            f"a key of type {kind.decode('ascii', 'replace')}; only Ed25519 keys sign messages:"
            " make one with 'ssh-keygen -t ed25519'"
        )
    # after two strings: the type, and the 32 bytes of the key
    application = blob[4 + len(SECURITY_KEY) + 36 + 4 :] if kind == SECURITY_KEY else b""
    return PublicKey(fingerprint(blob), _load(line), application)


def authority(line: str) -> str:
    """Return the fingerprint of a certificate authority's key, of any type."""
    _, blob = _parts(line)
    _load(line)
    return fingerprint(blob)


@dataclass(frozen=True)
class Certificate:
    """A certificate of a user's key. Times are seconds since the epoch."""

    key: PublicKey
    authority: str
    principals: frozenset[str]
    valid_after: float
    valid_before: float
    _read: SSHCertificate

    def is_genuine(self) -> bool:
        """Return whether its authority signed it. A stranger's key may make this take long."""
        try:
            self._read.verify_cert_signature()
        except (InvalidSignature, ValueError):
            return False
        return True

    def refusal(self, principals: Collection[str], now: float) -> str:
        """Return why it is not valid now for one of these principals, or ""."""
        if not self.valid_after <= now < self.valid_before:
            return "it has expired, or is not valid yet"
        if self.principals & set(principals):
            return ""
        return f"it is for {', '.join(sorted(self.principals)) or 'nobody'}"


def certificate(text: str) -> Certificate:
    """Return the certificate in the base64 of a line as in ~/.ssh/id_ed25519-cert.pub.

    It is not verified yet.
    """
    blob = _decoded(text)
    try:
        found = load_ssh_public_identity(_first_string(blob) + b" " + text.encode())
    except UnsupportedAlgorithm:
        raise ValueError("a certificate of an unknown type") from None
    if not isinstance(found, SSHCertificate) or found.type is not SSHCertificateType.USER:
        raise ValueError("not a certificate of a user")
    if found.critical_options:
        raise ValueError("it has critical options, which this program does not know")
    key = found.public_key()
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("not of an Ed25519 key")  # noqa: TRY004  # the text is wrong
    return Certificate(
        PublicKey(fingerprint(_blob_of(key)), key),
        fingerprint(_blob_of(found.signature_key())),
        frozenset(one.decode("utf-8", "replace") for one in found.valid_principals),
        found.valid_after,
        found.valid_before,
        found,
    )


def of_key(key: Ed25519PublicKey) -> PublicKey:
    """Return the key of `cryptography` as one that verifies messages."""
    return PublicKey(fingerprint(_blob_of(key)), key)


def line_of(key: Ed25519PublicKey) -> str:
    """Return a key as in ~/.ssh/id_ed25519.pub, without the name at the end."""
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def _blob_of(key: Any) -> bytes:
    line: bytes = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def _parts(line: str) -> tuple[bytes, bytes]:
    """Return the type and the bytes of a line, whose words must agree."""
    words = line.split()
    if len(words) < 2:
        raise ValueError("must be a line as in ~/.ssh/id_ed25519.pub: ssh-ed25519 AAAA... NAME")
    blob = _decoded(words[1])
    if _first_string(blob) != words[0].encode():
        raise ValueError(f"begins with {words[0][:64]}, but the key is of another type")
    return words[0].encode(), blob


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("the key is not base64") from None


def _first_string(blob: bytes) -> bytes:
    return blob[4 : 4 + int.from_bytes(blob[:4], "big")][:128]


def _load(line: str) -> Any:
    try:
        return load_ssh_public_key(line.encode())
    except UnsupportedAlgorithm:
        raise ValueError("a key of an unknown type") from None
