"""One reader for atheris: scripts/fuzz runs it.

A reader may refuse bytes with the error that its docstring names. Everything else is a fault.
It begins with a valid example where random bytes would hardly lead to one.
"""

import contextlib
import io
import json
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

import atheris
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

with atheris.instrument_imports(include=["pcapdaemon"]):
    from pcapdaemon.audit import chain
    from pcapdaemon.core.choice import Surroundings
    from pcapdaemon.core.errors import NotASavefile
    from pcapdaemon.core.events import CaptureStopped
    from pcapdaemon.core.intake import Envelope, View, judge
    from pcapdaemon.core.interface import Interface, InterfaceKind
    from pcapdaemon.core.limits import CaptureLimits, StopReason
    from pcapdaemon.core.message import UnreadableMessage, read
    from pcapdaemon.core.outcome import Outcome
    from pcapdaemon.core.policy import Policy
    from pcapdaemon.core.recipient import recipient
    from pcapdaemon.core.request import validate
    from pcapdaemon.core.requester import Requester
    from pcapdaemon.core.wire import MALFORMED
    from pcapdaemon.decode.reading import packets
    from pcapdaemon.decode.summary import listed
    from pcapdaemon.delivery.parcel import Parcel
    from pcapdaemon.delivery.spool import manifest_of
    from pcapdaemon.destinations.base import SavefileInfo
    from pcapdaemon.native.blocks import Blocks
    from pcapdaemon.native.headers import headers_of
    from pcapdaemon.savefile.savefile import Savefile
    from pcapdaemon.sources.base import Message
    from pcapdaemon.trust import jws, keys, results
    from pcapdaemon.trust.gate import Gate
    from pcapdaemon.trust.requesters import Requesters
    from pcapdaemon.trust.settings import TrustSettings

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILuthbjtBR5Jsmxe13yMwNStJWANC3PS2YTNHJXv2iBH web1"
PRIVATE = Ed25519PrivateKey.generate()
OWN_KEY = f"{keys.line_of(PRIVATE.public_key())} alice"
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
    known = Requesters([NARROW, Requester(name="alice", keys=(OWN_KEY,))], ())
    gate.configure("web1", Policy(signatures="require"), TrustSettings(), known)
    with contextlib.suppress(UnreadableMessage):
        gate.standing(Message(data, "redis"), read(data))


def manifest(data: bytes) -> None:
    with contextlib.suppress(*MALFORMED):
        Parcel.of_json(manifest_of(data.decode()), Savefile.of(b"", Blocks()))


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

REQUEST = {
    "node": "any",
    "interface": ["eth0"],
    "bpf": "udp port 53",
    "packets": 10,
    "timeout": "5s",
    "labels": {"site": "fra*"},
    "before": "1m",
    "id": "a",
}


def examples(reader: str) -> list[bytes]:
    """Return valid input of a reader, or nothing."""
    body = json.dumps({**REQUEST, "issued_at": "2026-01-01T00:00:00Z"}).encode()
    signed = jws.signed(body, keys.public_key(OWN_KEY).fingerprint, PRIVATE.sign)
    of_policy = json.dumps({**REQUEST, jws.MEMBER: signed}).encode()
    record = struct.pack("<IIII", 1, 2, 60, 60) + bytes(12) + b"\x08\0\x45" + bytes(45)
    chained = chain.Chain()
    result = jws.signed(b'{"data": {"node": "web1"}}', "x", PRIVATE.sign, kind=results.TYPE)
    return {
        "token": [signed.encode()],
        "certificate": [KEY.encode()],
        "message": [body, b'{"node":"any","cancel":"a"}', b'{"node":"any","list":true}'],
        "policy": [of_policy, body],
        "manifest": [example_manifest()],
        "result": [json.dumps({jws.MEMBER: result}).encode()],
        "savefile": [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + record],
        "headers": [record[16:]],
        "recipient": [KEY.encode()],
        "audit": [chained.line({"event": "x"}) + chained.line({"event": "y"})],
    }.get(reader, [])


def example_manifest() -> bytes:
    """Return the manifest of a savefile in the spool."""
    end = Outcome(3, 99, 3, stop_reason=StopReason.PACKETS, seconds=1.0, trigger=1.0)
    parcel = Parcel(
        SavefileInfo("ID", "lo", "x.pcap", "node:a", validate(REQUEST)[0]),
        CaptureStopped("ID", "lo", "x.pcap", end),
        CaptureLimits(3, 99, 1.0, 1.0),
        ("ID", "JOINED"),
        "redis",
        5.0,
        Savefile.of(b"", Blocks()),
    )
    Parcel.of_json(json.loads(json.dumps(parcel.as_json())), parcel.savefile)
    return json.dumps(parcel.as_json()).encode()


def begin(reader: str, corpus: Path) -> None:
    """Put the examples where the fuzzer looks first."""
    for number, example in enumerate(examples(reader)):
        (corpus / f"example-{number}").write_bytes(example)


if __name__ == "__main__":
    name = sys.argv.pop(1)
    begin(name, Path(sys.argv[-1]))
    atheris.Setup(sys.argv, READERS[name])
    atheris.Fuzz()
