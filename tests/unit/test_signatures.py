"""Signed messages: what is taken, and what hostile tokens are refused."""

import base64
import hashlib
import json
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core.cloudevents import decode, encode
from pcapdaemon.trust import jws, keys, results, signing
from pcapdaemon.trust.agent import SigningError
from tests.signing import Signer, encoded, string

SIGNER = Signer()
HEADER = {"alg": "Ed25519", "kid": SIGNER.fingerprint, "typ": jws.TYPE}
GOOD = SIGNER.token({"id": "x"})
FIRST, SECOND, THIRD = GOOD.split(".")


def with_header(text: str) -> str:
    head = encoded(text.encode())
    return f"{head}.{SECOND}.{encoded(SIGNER.private.sign(f'{head}.{SECOND}'.encode()))}"


def header(**changed: object) -> str:
    return with_header(json.dumps({**HEADER, **changed}))


HOSTILE = {
    "empty": "",
    "two parts": f"{FIRST}.{SECOND}",
    "four parts": f"{GOOD}.{THIRD}",
    "padding": f"{FIRST}=.{SECOND}.{THIRD}",
    "padding at the end": f"{GOOD}==",
    "a space": f" {GOOD}",
    "a newline at the end": f"{GOOD}\n",
    "another alphabet": f"{FIRST}.{SECOND}.+/{THIRD[2:]}",
    "a stray character": f"{FIRST}.{SECOND}.{THIRD[:5]}!{THIRD[5:]}",
    "bits that are not used": f"{FIRST}.{SECOND}.{THIRD[:-1]}{'h' if THIRD[-1] != 'h' else 'i'}",
    "no algorithm": header(alg="none"),
    "an HMAC": header(alg="HS256"),
    "another curve": header(alg="ES256"),
    "the algorithm in lower case": header(alg="ed25519"),
    "another type": header(typ="JWT"),
    "no type": with_header(json.dumps({n: HEADER[n] for n in ("alg", "kid")})),
    "no key": with_header(json.dumps({n: HEADER[n] for n in ("alg", "typ")})),
    "a key that is a number": header(kid=5),
    "a key that is a list": header(kid=[SIGNER.fingerprint]),
    "a critical extension": header(crit=["exp"]),
    "an unencoded payload": header(b64=False, crit=["b64"]),
    "compression": header(zip="DEF"),
    "a key inside": header(jwk={"kty": "OKP"}),
    "an address of keys": header(jku="https://example.com/keys"),
    "a name twice": with_header(
        f'{{"alg":"none","alg":"Ed25519","kid":"{SIGNER.fingerprint}","typ":"{jws.TYPE}"}}'
    ),
    "no object": with_header('["alg"]'),
    "no JSON": with_header("{"),
    "deep": with_header("[" * 2000),
    "a header that is not ASCII": with_header('{"alg":"Ed25519","kid":"ü"}'),
    "a long header": header(kid="x" * 9000),
}


@pytest.mark.parametrize("token", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_token_is_refused(token: str) -> None:
    try:
        found = jws.split(token)
    except jws.Malformed:
        return
    key = keys.public_key(SIGNER.line)
    assert not key.verifies(found.signature, found.signed)  # its signature says no at the latest


def test_a_signed_message_is_read() -> None:
    found = jws.split(GOOD)
    assert json.loads(found.payload) == {"id": "x"}
    assert (found.key, found.algorithm) == (SIGNER.fingerprint, "Ed25519")
    assert keys.public_key(SIGNER.line).verifies(found.signature, found.signed)


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="ascii"))
def test_no_other_spelling_is_valid(at: int, other: str) -> None:
    changed = GOOD[:at] + other + GOOD[at + 1 :]
    if changed == GOOD:
        return
    try:
        found = jws.split(changed)
    except jws.Malformed:
        return
    key = keys.public_key(SIGNER.line)
    assert found.key != key.fingerprint or not key.verifies(found.signature, found.signed)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        jws.split(text)
    except jws.Malformed as error:
        assert str(error)


def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    line = ssh_key(tmp_path, "ed25519")
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", tmp_path / "ed25519.pub"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert keys.public_key(line).fingerprint == shown.stdout.split()[1]


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_another_type_of_key_is_refused_in_words(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only Ed25519 keys sign"):
        keys.public_key(ssh_key(tmp_path, kind))
    assert keys.authority(ssh_key(tmp_path, kind)).startswith("SHA256:")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!",
        "ssh-rsa " + SIGNER.line.split()[1],
        "from=1 ssh-ed25519",
    ],
    ids=["empty", "no key", "no base64", "another type", "options"],
)
def test_a_line_that_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        keys.public_key(line)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader_of_certificates(data: bytes) -> None:
    for text in (data.decode("latin-1"), base64.b64encode(data).decode()):
        with pytest.raises(ValueError, match=r"\w"):
            keys.certificate(text)


def test_a_certificate_says_who_and_until_when(tmp_path: Path) -> None:
    found = keys.certificate(certified(tmp_path, "-n", "oncall,alice", "-V", "+1h"))
    now = found.valid_before - 60
    assert found.authority == keys.authority((tmp_path / "ca.pub").read_text())
    assert found.is_genuine()
    assert found.refusal(["oncall"], now) == ""
    assert found.refusal(["bob"], now) == "it is for alice, oncall"
    assert found.refusal(["oncall"], found.valid_before)
    assert found.refusal(["oncall"], found.valid_after - 1)


@pytest.mark.parametrize(
    "options",
    [("-h",), ("-n", "a", "-O", "force-command=ls"), ("-n", "a", "-O", "source-address=::1")],
)
def test_a_certificate_for_something_else_is_refused(options: list[str], tmp_path: Path) -> None:
    text = certified(tmp_path, *options)
    with pytest.raises(ValueError, match=r"\w"):
        keys.certificate(text)


def test_a_certificate_that_was_changed_is_refused(tmp_path: Path) -> None:
    blob = bytearray(base64.b64decode(certified(tmp_path, "-n", "oncall")))
    at = blob.index(b"oncall")
    blob[at : at + 6] = b"admins"
    assert not keys.certificate(base64.b64encode(blob).decode()).is_genuine()


def test_a_security_key_signs_if_it_was_touched() -> None:
    """The signature has flags and a counter, see PROTOCOL.u2f of OpenSSH."""
    kind, application = b"sk-ssh-ed25519@openssh.com", b"ssh:"
    raw = SIGNER.private.public_key().public_bytes_raw()
    blob = string(kind) + string(raw) + string(application)
    key = keys.public_key(f"{kind.decode()} {base64.b64encode(blob).decode()} alice")

    def signed(flags: int, message: bytes) -> bytes:
        tail = struct.pack(">BI", flags, 7)
        digests = hashlib.sha256(application).digest(), hashlib.sha256(message).digest()
        return SIGNER.private.sign(digests[0] + tail + digests[1]) + tail

    assert key.application == application
    assert key.verifies(signed(1, b"message"), b"message")
    assert not key.verifies(signed(0, b"message"), b"message")
    assert not key.verifies(signed(1, b"message"), b"another")
    assert not key.verifies(signed(1, b"message")[:-1], b"message")
    assert not key.verifies(SIGNER.private.sign(b"message"), b"message")


def ssh_key(directory: Path, kind: str, name: str = "") -> str:
    path = directory / (name or kind)
    if not path.exists():
        command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "alice", "-f", str(path)]
        subprocess.run(command, check=True)
    return path.with_suffix(".pub").read_text()


def certified(directory: Path, *options: str) -> str:
    ssh_key(directory, "ed25519", "ca")
    ssh_key(directory, "ed25519", "user")
    command = ["ssh-keygen", "-q", "-s", str(directory / "ca"), "-I", "alice", *options]
    subprocess.run([*command, str(directory / "user.pub")], check=True)
    return (directory / "user-cert.pub").read_text().split()[1]


def test_a_node_signs_what_it_reports_and_speaks_for_no_other(tmp_path: Path) -> None:
    ssh_key(tmp_path, "ed25519")
    seal = results.sealing(signing.signer(str(tmp_path / "ed25519")))
    line = " ".join(ssh_key(tmp_path, "ed25519").split()[:2])
    opened = results.opening([f"{line} web*"])
    body = encode("finished", "r1", {"packets": 5}, "web1", 0.0)
    sealed = seal(body)
    assert decode(sealed) == decode(body)  # who knows no signatures reads it as before
    assert opened(sealed) == body
    forged = json.loads(sealed)
    forged["data"]["packets"] = 7
    found = opened(json.dumps(forged).encode())
    assert found == body  # only what was signed counts
    assert opened(body) is None
    assert opened(seal(encode("finished", "r1", {}, "db1", 0.0))) is None
    assert opened(Signer().token({}).encode()) is None
    request = json.dumps({"jws": SIGNER.token({"data": {"node": "web1"}})}).encode()
    assert results.opening([f"{SIGNER.line.rsplit(' ', 1)[0]} web*"])(request) is None
    with pytest.raises(ValueError, match="name of the node"):
        results.opening([line])


@given(st.binary(max_size=100))
def test_no_bytes_break_the_reader_of_results(data: bytes) -> None:
    opened = results.opening([SIGNER.line])
    assert opened(data) is None
    assert opened(b'{"jws": "' + data + b'"}') is None


def test_a_message_is_signed_with_a_certificate_that_lies_beside_the_key(tmp_path: Path) -> None:
    text = certified(tmp_path, "-n", "oncall")
    signer = signing.signer(str(tmp_path / "user"))
    assert signer.certificate == text
    message = signing.signed({"node": "any"}, signer, "prod")
    payload = json.loads(jws.split(message["jws"]).payload)
    assert payload["audience"] == "prod"
    assert (payload["id"], payload["issued_at"]) == (message["id"], message["issued_at"])


@pytest.mark.parametrize("name", ["missing", "rsa", "text", "locked", "agent"])
def test_a_key_that_can_not_sign_is_refused_in_words(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "text").write_text("no key")
    ssh_key(tmp_path, "rsa")
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(tmp_path / "locked")]
    subprocess.run(command, check=True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(SigningError, match=r"\w"):
        signing.signer("agent" if name == "agent" else str(tmp_path / name))
