"""One reader for atheris: scripts/fuzz runs it.

A reader may refuse bytes with the error that its docstring names. Everything else is a fault.
"""

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["pcapdaemon"]):
    from pcapdaemon.audit import chain
    from pcapdaemon.core.choice import Surroundings
    from pcapdaemon.core.errors import NotASavefile
    from pcapdaemon.core.intake import Envelope, View, judge
    from pcapdaemon.core.interface import Interface, InterfaceKind
    from pcapdaemon.core.message import UnreadableMessage, read
    from pcapdaemon.core.policy import Policy
    from pcapdaemon.core.recipient import recipient
    from pcapdaemon.core.requester import Requester
    from pcapdaemon.decode.reading import packets
    from pcapdaemon.decode.summary import listed
    from pcapdaemon.delivery.parcel import Parcel
    from pcapdaemon.native.blocks import Blocks
    from pcapdaemon.native.headers import headers_of
    from pcapdaemon.savefile.savefile import Savefile
    from pcapdaemon.sources.base import Message
    from pcapdaemon.trust import jws, keys, results
    from pcapdaemon.trust.gate import Gate
    from pcapdaemon.trust.requesters import Requesters
    from pcapdaemon.trust.settings import TrustSettings

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILuthbjtBR5Jsmxe13yMwNStJWANC3PS2YTNHJXv2iBH web1"
NARROW = Requester(name="unsigned", interfaces=("eth*",), payload="headers", maxpackets=50)
LINKTYPES = ["EN10MB", "LINUX_SLL", "LINUX_SLL2", "RAW", "NULL", "USB_LINUX"]
AROUND = Surroundings(
    "web1",
    time.time(),
    {"eth0": Interface("eth0", InterfaceKind.NETWORK)},
    {"wan": ["eth0"]},
    requester="unsigned",
    rights=NARROW,
)


def token(data: bytes) -> None:
    with contextlib.suppress(jws.Malformed):
        jws.split(data.decode("latin-1"))


def certificate(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        keys.certificate(data.decode("latin-1"))
    with contextlib.suppress(ValueError):
        keys.public_key("ssh-ed25519 " + data.decode("latin-1"))


def message(data: bytes) -> None:
    with contextlib.suppress(UnreadableMessage):
        fields = read(data)
        envelope = Envelope("redis", time.time(), "id", requester="unsigned")
        judge(fields, envelope, View(Policy(), AROUND, lambda _: ()))


def policy(data: bytes) -> None:
    gate = Gate(lambda _: None)
    known = Requesters([NARROW, Requester(name="alice", keys=(KEY,))], ())
    gate.configure("web1", Policy(signatures="require"), TrustSettings(), known)
    with contextlib.suppress(UnreadableMessage):
        gate.standing(Message(data, "redis"), read(data))


def manifest(data: bytes) -> None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return
    with contextlib.suppress(ValueError, KeyError, TypeError):
        Parcel.of_json(found, Savefile.of(b"", Blocks()))


def savefile(data: bytes) -> None:
    with contextlib.suppress(NotASavefile):
        list(listed(packets(io.BytesIO(data)), 1, 100))


def headers(data: bytes) -> None:
    for linktype in LINKTYPES:
        assert 0 <= headers_of(linktype, data) <= len(data)


def of_recipient(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        recipient(data.decode("latin-1"))


def audit(data: bytes) -> None:
    lines = data.splitlines(keepends=True)
    chain.verify([("log", lines)])
    chain.end_of(lines)
    list(chain.shown(lines, {"event": "x"}))


def result(data: bytes) -> None:
    assert results.opening([KEY])(data) is None


READERS: dict[str, Callable[[bytes], None]] = {
    "token": token,
    "certificate": certificate,
    "message": message,
    "policy": policy,
    "manifest": manifest,
    "savefile": savefile,
    "headers": headers,
    "recipient": of_recipient,
    "audit": audit,
    "result": result,
}

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, READERS[name])
    atheris.Fuzz()
