"""Results that nodes sign: the member `jws` of a CloudEvent holds all of it."""

import json
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from pcapdaemon.core.wire import MALFORMED
from pcapdaemon.trust import jws, keys
from pcapdaemon.trust.signing import Signer

TYPE = "pcapdaemon-result+jws"

Seal = Callable[[bytes], bytes]
"""Returns a result with its signature."""

Open = Callable[[bytes], bytes | None]
"""Returns what a node signed, or None if it did not."""


def sealing(signer: Signer) -> Seal:
    """Return what signs results with a node's key."""

    def seal(body: bytes) -> bytes:
        token = jws.signed(body, signer.fingerprint, signer.sign, kind=TYPE)
        return body[:-1] + b', "' + jws.MEMBER.encode() + b'": "' + token.encode() + b'"}'

    return seal


def opening(lines: Sequence[str]) -> Open:
    """Return what verifies results.

    `lines` are the public keys of nodes. The name at the end of each is that of its node, or a glob
    of several. A node can't speak for another. Raises ValueError.
    """
    known = {keys.public_key(line).fingerprint: line for line in lines}
    for line in lines:
        if len(line.split()) < 3:
            raise ValueError(f"{line[:40]}...: the name of the node is missing at the end")

    def opened(body: bytes) -> bytes | None:
        try:
            token = jws.split(str(json.loads(body)[jws.MEMBER]), TYPE)
            line = known[token.key]
            node = json.loads(token.payload)["data"]["node"]
        except MALFORMED:
            return None
        valid = keys.public_key(line).verifies(token.signature, token.signed)
        own = isinstance(node, str) and fnmatchcase(node, line.split()[-1])
        return token.payload if valid and own else None

    return opened
