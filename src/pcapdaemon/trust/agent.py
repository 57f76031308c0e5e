"""A client of ssh-agent (draft-miller-ssh-agent). Raises SigningError."""

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pcapdaemon.core.errors import PcapdaemonError

REQUEST_IDENTITIES, IDENTITIES_ANSWER = 11, 12
SIGN_REQUEST, SIGN_RESPONSE = 13, 14
LONGEST = 1 << 20
WITHIN = 60.0
"""Seconds for which an agent may ask its user."""


class SigningError(PcapdaemonError):
    """A message can't be signed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A key that the agent has: its type, its bytes, and its name."""

    kind: bytes
    blob: bytes
    comment: str


def identities() -> list[Identity]:
    """Return the keys that the agent has."""
    answer = _asked(bytes([REQUEST_IDENTITIES]), IDENTITIES_ANSWER)
    strings, found = _strings(answer[4:]), []
    for blob in strings:
        kind = next(_strings(blob), b"")
        found.append(Identity(kind, blob, next(strings, b"").decode("utf-8", "replace")))
    return found


def signature(identity: Identity, message: bytes) -> bytes:
    """Return the agent's signature of a message, with what a security key adds."""
    request = _string(identity.blob) + _string(message) + bytes(4)
    answer = _asked(bytes([SIGN_REQUEST]) + request, SIGN_RESPONSE)
    whole = next(_strings(answer), b"")
    _, raw = [*_strings(whole, 2)]
    return raw + whole[len(whole) - 5 :] if identity.kind.startswith(b"sk-") else raw


def _asked(request: bytes, expected: int) -> bytes:
    path = os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        words = "no ssh-agent runs: SSH_AUTH_SOCK is not set"
        raise SigningError(words, "start one, or name the file of a key with --sign")

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(WITHIN)
            agent.connect(path)
            agent.sendall(_string(request))
            answer = _exactly(agent, _size(_exactly(agent, 4)))
    except OSError as error:
        raise SigningError(
            f"ssh-agent: {error}", "run 'ssh-add -l' to see whether it works"
        ) from None
    if not answer or answer[0] != expected:
        raise SigningError("ssh-agent refused", "run 'ssh-add -l' to see its keys")
    return answer[1:]


def _exactly(agent: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = agent.recv(size - len(data))
        if not piece:
            raise OSError("it closed the connection")
        data += piece
    return data


def _size(data: bytes) -> int:
    size: int = struct.unpack(">I", data)[0]
    if size > LONGEST:
        raise OSError("its answer is too long")
    return size


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _strings(data: bytes, most: int = 1 << 16) -> Iterator[bytes]:
    at = 0
    for _ in range(most):
        if at + 4 > len(data):
            return
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size
