"""Signed messages: the member `jws`, a compact JWS (RFC 7515) with Ed25519 (RFC 8037, RFC 9864).

This reader takes one spelling of each token, and only the headers that it knows. Libraries for JWT
take more: padding, other types, headers twice.
"""

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MEMBER = "jws"
"""The member of a message that holds it signed."""

TYPE = "pcapdaemon-request+jws"
ALGORITHMS = ("Ed25519", "EdDSA")
"""The name of RFC 9864, and the one of RFC 8037, which libraries still write."""

SECURITY_KEY = "sk-ssh-ed25519@openssh.com"
"""The algorithm of security keys (FIDO). Its signature has flags and a counter at its end."""

LONGEST_HEADER = 8192
_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")


class Malformed(ValueError):
    """The text is no signed message."""


@dataclass(frozen=True, slots=True)
class Token:
    """A signed message that was split, but not verified.

    `key` is the fingerprint of the key. `certificate` is that of the key, in base64, or empty.
    `signed` is what the signature is of.
    """

    key: str
    algorithm: str
    certificate: str
    payload: bytes
    signed: bytes
    signature: bytes


def split(text: str, kind: str = TYPE) -> Token:
    """Return the parts of a token of this type. Raises Malformed."""
    found = _TOKEN.fullmatch(text)
    if not found:
        raise Malformed("not three parts in base64url")
    if len(found[1]) > LONGEST_HEADER:
        raise Malformed("its header is too long")
    header = _header(_decoded(found[1]), kind)
    return Token(
        header["kid"],
        header["alg"],
        header.get("cert", ""),
        _decoded(found[2]),
        text[: found.end(2)].encode(),
        _decoded(found[3]),
    )


def signed(
    payload: bytes,
    key: str,
    sign: Callable[[bytes], bytes],
    certificate: str = "",
    algorithm: str = ALGORITHMS[0],
    kind: str = TYPE,
) -> str:
    """Return the token of a payload. `key` is a fingerprint, and `sign` returns a signature."""
    header = {"alg": algorithm, "kid": key, "typ": kind}
    if certificate:
        header["cert"] = certificate
    text = f"{_encoded(json.dumps(header, separators=(',', ':')).encode())}.{_encoded(payload)}"
    return f"{text}.{_encoded(sign(text.encode()))}"


def _header(text: bytes, kind: str) -> dict[str, str]:
    try:
        header = json.loads(text.decode("ascii"), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Malformed("its header is not JSON") from None
    if not isinstance(header, dict) or not all(isinstance(one, str) for one in header.values()):
        raise Malformed("its header is not an object of strings")
    if header.keys() - {"cert"} != {"alg", "kid", "typ"}:
        raise Malformed("its header must have alg, kid and typ, and may have cert")
    if header["typ"] != kind:
        raise Malformed(f"its typ is {header['typ']}, not {kind}")
    if header["alg"] not in (*ALGORITHMS, SECURITY_KEY):
        raise Malformed(f"its alg is {header['alg']}, not {ALGORITHMS[0]}")
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise Malformed("its header has a name twice")
    return dict(pairs)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise Malformed("not base64url") from None
    if _encoded(data) != text:  # Python ignores bits that are not used
        raise Malformed("not base64url in its one form")
    return data
