"""Savefiles of several nodes in one: every packet once, in time order, with where it is from."""

import io
import struct

from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.decode.reading import Packet, packets
from pcapdaemon.savefile.merging import Part, merged


def pcap(times: list[int], linktype: int = 1) -> io.BytesIO:
    """Return a pcap file of nanoseconds with these times."""
    header = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, linktype)
    records = (
        struct.pack("<IIII", ns // 10**9, ns % 10**9, 4, 60 + n) + struct.pack(">I", n)
        for n, ns in enumerate(times)
    )
    return io.BytesIO(header + b"".join(records))


def together(*parts: Part) -> list[Packet]:
    return list(packets(io.BytesIO(b"".join(merged(parts, "why")))))


TIMES = st.lists(st.integers(0, 2**31 * 10**9), max_size=30).map(sorted)


@given(st.lists(TIMES, min_size=1, max_size=5))
def test_every_packet_once_in_time_order(files: list[list[int]]) -> None:
    found = together(*(Part(f"n{n}", pcap(times), "eth0") for n, times in enumerate(files)))
    assert [one.ns for one in found] == sorted(ns for times in files for ns in times)
    for n, times in enumerate(files):
        own = [one for one in found if one.interface == f"n{n}/eth0"]
        assert [one.ns for one in own] == times
        assert [struct.unpack(">I", one.data)[0] for one in own] == list(range(len(times)))
        assert [one.length for one in own] == [60 + m for m in range(len(times))]


def test_names_linktypes_and_comments_stay() -> None:
    inner = io.BytesIO(b"".join(merged([Part("a", pcap([5, 9], 101), "eth1")])))
    found = together(Part("b", inner), Part("c", pcap([7]), "wlan0", "its clock is off"))
    assert [(one.interface, one.linktype) for one in found] == [
        ("b/a/eth1", 101),
        ("c/wlan0", 1),
        ("b/a/eth1", 101),
    ]


def test_equal_times_keep_the_order_of_the_files() -> None:
    found = together(Part("a", pcap([5, 5])), Part("b", pcap([5])))
    assert [one.interface for one in found] == ["a", "a", "b"]
