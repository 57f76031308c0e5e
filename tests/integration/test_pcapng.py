"""Captures in pcapng describe themselves, as read by tshark, capinfos and scapy."""

import asyncio
import hashlib
import json
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from pcapdaemon import __version__
from pcapdaemon.capture.recorder import Recorder
from pcapdaemon.core.limits import StopReason
from pcapdaemon.decode.reading import packets
from tests.helpers import Wire, captured, eventually, numbers, saved, session_for, tshark
from tests.integration.test_recorder import has_recorded, recording, session_on


def capinfos(path: Path) -> str:
    return subprocess.run(
        ["capinfos", "-M", path], check=True, capture_output=True, text=True
    ).stdout


def comment(path: Path) -> dict[str, Any]:
    line = next(line for line in capinfos(path).splitlines() if line.startswith("Capture comment:"))
    found: dict[str, Any] = json.loads(line.partition(":")[2])
    return found


@pytest.mark.parametrize("shared", [False, True])
async def test_a_capture_says_what_it_is(wire: Wire, tmp_path: Path, shared: bool) -> None:
    subprocess.run(["ip", "addr", "add", "192.0.2.1/24", "dev", wire.far], check=True)
    fields: dict[str, Any] = {
        "format": "pcapng",
        "packets": 4,
        "customer": "ACME ü",
        "alertid": 7,
        "id": "me",
        "bpf": "udp",
    }
    with recording(wire.far) as recorder:
        session = session_on(recorder if shared else None, wire.far, **fields)
        stopped = await captured(session, lambda: wire.send(4))
    path = saved(stopped, tmp_path / "x.pcapng")
    assert stopped.outcome.size == path.stat().st_size
    assert numbers(path) == [0, 1, 2, 3]
    reported = comment(path)
    assert {
        k: reported[k]
        for k in (
            "id",
            "customer",
            "alertid",
            "bpf",
            "stop_reason",
            "packets",
            "complete",
            "version",
        )
    } == {
        **{"id": "me", "customer": "ACME ü", "alertid": 7, "bpf": "udp", "stop_reason": "packets"},
        **{"packets": 4, "complete": True, "version": __version__},
    }
    assert reported["limits"]["packets"] == 4
    assert reported["lookback"] is None
    info = capinfos(path)
    mac = Path(f"/sys/class/net/{wire.far}/address").read_text().strip()
    for words in (
        f"Name = {wire.far}",
        "Filter string = udp",
        "nanoseconds (9)",
        "Number of stat entries = 1",
        "(libpcap",
    ):
        assert words in info, info
    details = tshark(path, "frame.comment", "frame.time_epoch")
    assert [row[0] for row in details] == ["trigger", "", "", ""]
    assert all(len(row[1].partition(".")[2]) == 9 for row in details)
    assert any(row[1][-3:] != "000" for row in details)
    options = _options(path.read_bytes())
    assert (6, bytes.fromhex(mac.replace(":", ""))) in options
    assert (4, bytes([192, 0, 2, 1, 255, 255, 255, 0])) in options


def _options(data: bytes) -> list[tuple[int, bytes]]:
    """Return the options of the second block; capinfos shows no addresses and no hardware."""
    start = struct.unpack_from("<I", data, 4)[0]
    end, at, found = start + struct.unpack_from("<I", data, start + 4)[0] - 4, start + 16, []
    while at < end:
        code, size = struct.unpack_from("<HH", data, at)
        found.append((code, data[at + 4 : at + 4 + size]))
        at += 4 + (size + 3) // 4 * 4
    return found


async def test_the_first_packet_after_the_trigger_is_marked(wire: Wire, tmp_path: Path) -> None:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 5)
        eventually(has_recorded(recorder, 5))
        session = session_on(recorder, wire.far, format="pcapng", lookback=5, packets=3)
        path = saved(await captured(session, lambda: wire.send(3)), tmp_path / "x.pcapng")
    assert [row[0] for row in tshark(path, "frame.comment")] == [
        "",
        "",
        "",
        "",
        "",
        "trigger",
        "",
        "",
    ]
    assert numbers(path) == [0, 1, 2, 3, 4, 0, 1, 2]
    assert comment(path)["lookback"]["packets"] == 5


@pytest.mark.parametrize("most", [8, 12])
async def test_the_oldest_are_given_up_packet_by_packet(
    wire: Wire, tmp_path: Path, most: int
) -> None:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 20, 101)
        eventually(has_recorded(recorder, 20))
        session = session_on(
            recorder, wire.far, (most, 10**9), format="pcapng", lookback=5, packets=3
        )
        stopped = await captured(session, lambda: wire.send(3))
    assert numbers(saved(stopped, tmp_path / "x.pcapng")) == [*range(23 - most, 20), 0, 1, 2]


async def test_direction_is_told_where_it_is_known(tmp_path: Path) -> None:
    with recording("any") as recorder, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        session = session_on(recorder, "any", bpf="udp port 9998", format="pcapng", timeout=1)
        stopped = await captured(session, lambda: out.sendto(b"x", ("127.0.0.1", 9998)))
    rows = tshark(
        saved(stopped, tmp_path / "x.pcapng"), "frame.packet_flags_direction", "sll.pkttype"
    )
    known = {"4": "2", "0": "1"}  # sent by this host: outbound; to this host: inbound
    assert rows
    assert all(int(flags, 0) == int(known[kind]) for flags, kind in rows)


async def test_the_size_of_the_file_stays_under_its_limit(wire: Wire, tmp_path: Path) -> None:
    stopped = await captured(
        session_for(wire.far, format="pcapng", bytes=20_000), lambda: wire.send(1000)
    )
    size = saved(stopped, tmp_path / "x.pcapng").stat().st_size
    assert stopped.outcome.stop_reason is StopReason.BYTES
    assert 17_500 < size == stopped.outcome.size <= 20_000


async def test_metadata_of_packets_is_read_from_it(wire: Wire) -> None:
    stopped = await captured(
        session_for(wire.far, format="pcapng", packets=3, snap=61), lambda: wire.send(3)
    )
    assert stopped.savefile is not None
    assert [(len(one.data), one.length) for one in packets(stopped.savefile.reader())] == [
        (61, 100)
    ] * 3


FRAMES = st.lists(st.binary(min_size=20, max_size=1500), min_size=1, max_size=30)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8, deadline=None
)
@given(frames=FRAMES, snap=st.integers(1, 1600))
def test_whatever_is_captured_is_read_back(
    wire: Wire, tmp_path: Path, frames: list[bytes], snap: int
) -> None:
    sent = [bytes(12) + b"\x88\xb5" + body for body in frames]  # an experimental EtherType

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
            out.bind((wire.near, 0))
            for one in sent:
                out.send(one)

    async def capture() -> Path:
        with recording(wire.far) as recorder:
            return saved(
                await captured(_session(recorder, wire, snap, len(sent)), send),
                tmp_path / "x.pcapng",
            )

    with RawPcapNgReader(str(asyncio.run(capture()))) as reader:
        assert [(data, meta.wirelen) for data, meta in reader] == [
            (one[:snap], len(one)) for one in sent
        ]


def _session(recorder: Recorder, wire: Wire, snap: int, packets: int) -> Any:
    return session_on(
        recorder,
        wire.far,
        format="pcapng",
        snap=snap,
        packets=packets,
        bpf="ether proto 0x88b5",
        timeout=5,
    )


@pytest.mark.parametrize(
    ("form", "how", "ending"), [("pcap", "gzip", ".pcap.gz"), ("pcapng", "zstd", ".pcapng.zst")]
)
async def test_a_compressed_savefile_is_opened_by_tshark(
    wire: Wire, tmp_path: Path, form: str, how: str, ending: str
) -> None:
    session = session_for(wire.far, format=form, compress=how, packets=500)
    stopped = await captured(session, lambda: wire.send(500))
    assert session.part.file_name.endswith(ending)
    path = saved(stopped, tmp_path / session.part.file_name)
    assert numbers(path) == list(range(500))
    assert stopped.outcome.content is not None
    plain = subprocess.run(
        ["gzip" if how == "gzip" else "zstd", "-dc", path], check=True, capture_output=True
    ).stdout
    assert (stopped.outcome.content.size, stopped.outcome.content.sha256) == (
        len(plain),
        hashlib.sha256(plain).hexdigest(),
    )
    assert stopped.outcome.size == len(plain)
    assert stopped.savefile is not None
    assert len(list(packets(stopped.savefile.reader()))) == 500
