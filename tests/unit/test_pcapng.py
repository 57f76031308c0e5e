"""The blocks of a pcapng file other than its packets, as read by an independent reader."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from pcapdaemon.savefile.pcapng import Description, Statistics, interface, section, statistics
from tests.helpers import tshark

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300)
TIMES = st.integers(0, 2**63)


def capinfos(path: Path) -> str:
    done = subprocess.run(["capinfos", "-M", path], check=True, capture_output=True, text=True)
    return done.stdout


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
@given(
    name=TEXT,
    words=TEXT,
    number=st.integers(0, 2**64 - 1),
    comment=st.dictionaries(TEXT, TEXT, max_size=5),
)
def test_whatever_is_said_is_read_back(
    tmp_path: Path, name: str, words: str, number: int, comment: dict[str, str]
) -> None:
    text = json.dumps(comment, ensure_ascii=False)
    one = Description(
        name, 1, 262144, words, words, words, b"\2\0\0\0\0\1", number, ("10.0.0.1/8", "fe80::1/64")
    )
    head = section(words, words, name, text) + interface(one)
    (tmp_path / "x.pcapng").write_bytes(
        head + statistics(0, Statistics(1, number >> 1, 2, 3, 4, 5))
    )
    reader: Any = RawPcapNgReader(str(tmp_path / "x.pcapng"))
    with reader:
        assert list(reader) == []
        options = reader.interfaces[0][2]
    assert options["tsresol"] == 10**9
    if name:
        assert options["name"] == name.encode()
    assert tshark(tmp_path / "x.pcapng", "frame.number") == []


def test_statistics_and_addresses_are_what_capinfos_reads(tmp_path: Path) -> None:
    one = Description("eth9", 1, 96, "uplink", "port 53", "Linux 6", b"", 10**10, ("192.0.2.1/24",))
    seen = Statistics(1_700_000_000_123456789, 1_700_000_001_000000000, 10, 7, 3, 2)
    path = tmp_path / "x.pcapng"
    path.write_bytes(
        section("x86_64", "Linux 6", "me", '{"id": "ü"}') + interface(one) + statistics(0, seen)
    )
    reported = capinfos(path)
    for words in (
        *(
            "Capture hardware:    x86_64",
            "Capture oper-sys:    Linux 6",
            "Capture application: me",
            'Capture comment:     {"id": "ü"}',
        ),
        *(
            "Name = eth9",
            "Description = uplink",
            "Capture length = 96",
            "Time precision = nanoseconds (9)",
            "Filter string = port 53",
        ),
        *("Speed = 10000000000", "Number of stat entries = 1", "Operating system = Linux 6"),
    ):
        assert words in reported, reported


@pytest.mark.parametrize("size", [70_000, 65_536])
def test_a_text_that_is_too_long_is_cut_between_characters(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x.pcapng"
    one = Description("eth9", 1, 96, capture_filter="ü" * size)
    path.write_bytes(section("", "", "", "ü" * size) + interface(one))
    assert "Name = eth9" in capinfos(path)
