"""Encrypts a savefile for recipients in the format age v1 (age-encryption.org/v1).

It writes only. Whoever has a recipient's identity reads it with age(1).
"""

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pcapdaemon.core.recipient import Recipient

CHUNK = 64 * 1024


class Age:
    """Encrypts bytes as they come. It has the methods of a compressor."""

    def __init__(self, recipients: Iterable[Recipient]) -> None:
        file_key, nonce = os.urandom(16), os.urandom(16)
        stanzas = [_stanza(one, file_key) for one in recipients]
        head = "\n".join(("age-encryption.org/v1", *stanzas, "---")).encode()
        mac = hmac.digest(_derived(file_key, b"", b"header"), head, hashlib.sha256)
        self._waiting = bytearray()
        self._head = head + b" " + _base64(mac).encode() + b"\n" + nonce
        self._cipher = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
        self._number = 0

    def compress(self, data: "bytes | memoryview") -> bytes:
        """Return what is encrypted by now. The last chunk waits, because it is marked as such."""
        view, out = memoryview(data), [self._head]
        self._head = b""
        if self._waiting:
            missing = CHUNK - len(self._waiting)
            self._waiting += view[:missing]
            view = view[missing:]
        if self._waiting and view:
            out.append(self._sealed(self._waiting, False))
            self._waiting = bytearray()
        while len(view) > CHUNK:
            out.append(self._sealed(view[:CHUNK], False))
            view = view[CHUNK:]
        self._waiting += view
        return b"".join(out)

    def flush(self) -> bytes:
        """Return the last bytes, after which nothing may be added."""
        head, self._head = self._head, b""
        return head + self._sealed(self._waiting, True)

    def _sealed(self, chunk: "bytearray | memoryview", last: bool) -> bytes:
        nonce = self._number.to_bytes(11, "big") + bytes([last])
        self._number += 1
        return self._cipher.encrypt(nonce, chunk, None)


def _stanza(recipient: Recipient, file_key: bytes) -> str:
    """Return the lines that give the file's key to a recipient."""
    once = X25519PrivateKey.generate()
    share = once.public_key().public_bytes_raw()
    point = recipient.point
    secret, words, label = _exchanged(once, point), [_base64(share)], b"X25519"
    if recipient.is_ssh:
        label = b"ssh-ed25519"
        tweak = _derived(b"", recipient.blob, b"age-encryption.org/v1/ssh-ed25519")
        secret = _exchanged(X25519PrivateKey.from_private_bytes(tweak), secret)
        words.insert(0, _base64(hashlib.sha256(recipient.blob).digest()[:4]))
    key = _derived(secret, share + point, b"age-encryption.org/v1/" + label)
    wrapped = ChaCha20Poly1305(key).encrypt(bytes(12), file_key, None)
    return f"-> {' '.join((label.decode(), *words))}\n{_base64(wrapped)}"


def _exchanged(private: X25519PrivateKey, public: bytes) -> bytes:
    return private.exchange(X25519PublicKey.from_public_bytes(public))


def _derived(secret: bytes, salt: bytes, label: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=label).derive(secret)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()
