"""Recipients of encrypted savefiles, as age has them: `age1...` and `ssh-ed25519 AAAA...`. Pure."""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_PRIME = 2**255 - 19
_OF_LOW_ORDER = {
    *(0, 1, _PRIME - 1),
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
}
"""Points that lead to the same secret with every key."""

_SSH = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key of 32 bytes: X25519, or with `is_ssh` Ed25519."""

    key: bytes
    is_ssh: bool = False

    @property
    def point(self) -> bytes:
        """The key of X25519. That of an Ed25519 key follows from it (RFC 7748, section 4.1)."""
        if not self.is_ssh:
            return self.key
        y = int.from_bytes(self.key, "little") % 2**255
        u = (1 + y) * pow(1 - y, _PRIME - 2, _PRIME) % _PRIME
        return u.to_bytes(32, "little")

    @property
    def blob(self) -> bytes:
        """The key as SSH writes it."""
        return _SSH + self.key


def recipient(text: str) -> Recipient:
    """Return the recipient that a text names. Raises ValueError, also for a typing error."""
    if text.startswith("ssh-ed25519 "):
        return _of_ssh(text)
    if not text.startswith("age1"):
        raise ValueError("must be age1... or ssh-ed25519 AAAA..., see age(1)")
    values = [ALPHABET.find(one) for one in text[4:]]
    if -1 in values or _polymod([3, 3, 3, 0, 1, 7, 5, *values]) != 1:
        raise ValueError("has a wrong letter: its checksum does not fit")
    key = _eight_bits(values[:-6])
    if len(key) != 32:
        raise ValueError("is not a key of 32 bytes")
    return _strong(Recipient(key))


def _of_ssh(text: str) -> Recipient:
    try:
        blob = base64.b64decode(text.split()[1], validate=True)
    except (binascii.Error, IndexError):
        raise ValueError("the key is not base64") from None
    if not blob.startswith(_SSH) or len(blob) != len(_SSH) + 32:
        raise ValueError("is not a key of the type ssh-ed25519")
    return _strong(Recipient(blob[len(_SSH) :], True))


def _strong(found: Recipient) -> Recipient:
    if int.from_bytes(found.point, "little") % 2**255 % _PRIME in _OF_LOW_ORDER:
        raise ValueError("is a key that everybody can decrypt for")
    return found


def _polymod(values: list[int]) -> int:
    """Return the checksum of bech32 (BIP 173)."""
    found = 1
    for value in values:
        top = found >> 25
        found = (found & 0x1FFFFFF) << 5 ^ value
        for n, term in enumerate(_GENERATOR):
            found ^= term if top >> n & 1 else 0
    return found


def _eight_bits(values: list[int]) -> bytes:
    bits = "".join(f"{value:05b}" for value in values)
    whole = len(bits) // 8 * 8
    if "1" in bits[whole:] or len(bits) - whole > 4:
        raise ValueError("is not a key of 32 bytes")
    return bytes(int(bits[at : at + 8], 2) for at in range(0, whole, 8))


def _known(text: str) -> str:
    recipient(text)
    return text


RecipientText = Annotated[str, AfterValidator(_known)]
"""A recipient in a request or in the configuration."""
