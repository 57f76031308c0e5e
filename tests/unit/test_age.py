"""Savefiles that are encrypted for recipients, read back by age(1)."""

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core.recipient import ALPHABET, _polymod, recipient
from pcapdaemon.native.blocks import BlockPool, Blocks, BlockWriter
from pcapdaemon.savefile.age import CHUNK, Age
from pcapdaemon.savefile.compression import compressed
from tests.unit.test_signatures import ssh_key

# of the specification of bech32 and the documentation of age
EXAMPLE = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "identity"
    subprocess.run(["age-keygen", "-o", str(path)], check=True, capture_output=True)
    return path


def public(identity: Path) -> str:
    line = next(one for one in identity.read_text().splitlines() if "public key" in one)
    return line.rpartition(" ")[2]


def decrypted(data: bytes, identity: Path) -> bytes:
    command = ["age", "-d", "-i", str(identity)]
    return subprocess.run(command, input=data, check=True, capture_output=True, timeout=60).stdout


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 1_000_000])
@pytest.mark.parametrize("step", [9973, CHUNK, CHUNK + 1, 2 * CHUNK, 150_000, 1_000_000])
def test_age_reads_what_was_encrypted(size: int, step: int, identity: Path) -> None:
    data = bytes(n % 251 for n in range(size))
    age = Age([recipient(public(identity))])
    out = b"".join(age.compress(data[at : at + step]) for at in range(0, size, step)) + age.flush()
    assert decrypted(out, identity) == data
    assert data[:64] not in out or size < 20


def test_each_of_several_recipients_can_decrypt(identity: Path, tmp_path: Path) -> None:
    line = ssh_key(tmp_path, "ed25519")
    age = Age([recipient(public(identity)), recipient(line)])
    out = age.compress(b"secret") + age.flush()
    for key in (identity, tmp_path / "ed25519"):
        assert decrypted(out, key) == b"secret"
    other = tmp_path / "other"
    subprocess.run(["age-keygen", "-o", str(other)], check=True, capture_output=True)
    with pytest.raises(subprocess.CalledProcessError):
        decrypted(out, other)


@pytest.mark.parametrize("how", ["none", "gzip", "zstd"])
def test_a_whole_savefile_is_compressed_and_encrypted_in_the_memory_that_it_frees(
    how: str, identity: Path
) -> None:
    pool = BlockPool(64 << 20, 1 << 20)
    writer = BlockWriter(pool, 0)
    writer.write(b"packet" * 1_000_000)
    blocks = Blocks()
    blocks.extend(writer.blocks())
    to = [recipient(public(identity))]
    savefile, content = compressed(how, b"head", blocks, b"tail", pool, to)
    plain = decrypted(savefile.read(), identity)
    if how != "none":
        tool = {"gzip": "gzip", "zstd": "zstd"}[how]
        plain = subprocess.run([tool, "-dc"], input=plain, check=True, capture_output=True).stdout
    assert plain == b"head" + b"packet" * 1_000_000 + b"tail"
    assert (content.compression, content.encryption, content.recipients) == (how, "age", 1)


def test_a_digest_of_what_is_encrypted_is_made_only_where_it_is_asked_for() -> None:
    pool, to = BlockPool(8 << 20, 1 << 20), [recipient(EXAMPLE)]
    _, asked = compressed("none", b"head", Blocks(), b"tail", pool, to)
    _, unasked = compressed("none", b"head", Blocks(), b"tail", pool, to, with_digest=False)
    assert (asked.sha256, unasked.sha256) == (hashlib.sha256(b"headtail").hexdigest(), "")


def test_a_recipient_of_the_documentation_is_taken() -> None:
    assert len(recipient(EXAMPLE).key) == 32


@given(st.integers(4, len(EXAMPLE) - 1), st.sampled_from(ALPHABET))
def test_a_typing_error_is_found(at: int, letter: str) -> None:
    wrong = EXAMPLE[:at] + letter + EXAMPLE[at + 1 :]
    if wrong != EXAMPLE:
        with pytest.raises(ValueError, match="wrong letter"):
            recipient(wrong)


@pytest.mark.parametrize("key", [bytes(32), b"\1" + bytes(31)])
def test_a_key_that_keeps_no_secret_is_refused(key: bytes) -> None:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + key
    with pytest.raises(ValueError, match="everybody"):
        recipient(f"ssh-ed25519 {base64.b64encode(blob).decode()}")
    with pytest.raises(ValueError, match="everybody"):
        recipient(as_age(key))


def as_age(key: bytes) -> str:
    """Return a key as age writes it."""
    bits = "".join(f"{one:08b}" for one in key).ljust(260, "0")
    values = [int(bits[at : at + 5], 2) for at in range(0, 260, 5)]
    whole = _polymod([3, 3, 3, 0, 1, 7, 5, *values, *[0] * 6]) ^ 1
    checksum = [whole >> 5 * n & 31 for n in range(5, -1, -1)]
    return "age1" + "".join(ALPHABET[one] for one in (*values, *checksum))


def test_every_other_key_is_taken() -> None:
    for n in range(200):
        key = hashlib.sha256(bytes([n])).digest()
        assert recipient(as_age(key)).key == key


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    for one in (text, f"age1{text}", f"ssh-ed25519 {text}"):
        with pytest.raises(ValueError, match=r"\w"):
            recipient(one)
