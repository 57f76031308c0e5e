"""Several interfaces in one savefile, in time order and with common limits."""

import asyncio
import errno
import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.merged import MergedSession
from pcapdaemon.capture.recorder import Recorder
from pcapdaemon.capture.session import Origins, Session
from pcapdaemon.core.limits import StopReason
from pcapdaemon.native.blocks import BlockPool
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.native.merge import join, merge
from pcapdaemon.savefile.packing import Captured, Taken
from tests.helpers import Wire, bring_up, captured, eventually, plan_for, saved, tshark
from tests.integration.test_pcapng import capinfos, comment
from tests.integration.test_recorder import has_recorded, recording

MIB = 1 << 20


@pytest.fixture
def wires(wire: Wire) -> Iterator[tuple[Wire, Wire]]:
    other = Wire("twin0", "twin1", wire.program)
    subprocess.run(
        ["ip", "link", "add", other.near, "type", "veth", "peer", "name", other.far], check=True
    )
    bring_up(other.near, other.far)
    yield wire, other
    subprocess.run(["ip", "link", "del", other.near], check=False)


def merged(
    *names: str,
    recorders: dict[str, Recorder] | None = None,
    most: int = 10**9,
    budget: MemoryBudget | None = None,
    **fields: Any,
) -> MergedSession:
    plans = [plan_for(name, merge=True, **fields) for name in names]
    captures = tuple(plan.captures[0] for plan in plans)
    plan = replace(plans[0], captures=captures, most_packets=most, most_size=10**12)
    return MergedSession(
        plan, MemoryBudget(256 * MIB), CaptureSettings(), Origins((recorders or {}).get)
    )


async def run(session: MergedSession, traffic: Callable[[], object]) -> Captured:
    # A MergedSession has everything that `captured` uses.
    return await captured(session, traffic)  # type: ignore[arg-type]


def in_turn(wires: tuple[Wire, Wire], number: int) -> None:
    """Send numbered frames on both wires in turn."""
    frame = bytes.fromhex("020000000002020000000001") + b"\x88\xb5"
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as one,
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as other,
    ):
        one.bind((wires[0].near, 0))
        other.bind((wires[1].near, 0))
        for n in range(number):
            (other if n % 2 else one).send(frame + struct.pack("!Q", n) + bytes(40))


def rows(path: Path) -> list[tuple[str, int]]:
    """Return the interface and the number of each frame, in the order of the file."""
    found = tshark(path, "frame.interface_name", "data.data")
    return [(name, int(data[:16], 16)) for name, data in found]


@pytest.mark.parametrize("shared", [False, True])
async def test_packets_of_both_are_in_one_order_of_time(
    wires: tuple[Wire, Wire], tmp_path: Path, shared: bool
) -> None:
    names = [wire.far for wire in wires]
    with ExitStack() as stack:
        recorders = (
            {name: stack.enter_context(recording(name, memory=8 * MIB)) for name in names}
            if shared
            else {}
        )
        session = merged(*names, recorders=recorders, packets=1000, bpf="not ip6")
        stopped = await run(session, lambda: in_turn(wires, 3000))
    path = saved(stopped, tmp_path / "x.pcapng")
    assert stopped.outcome.stop_reason is StopReason.PACKETS
    assert stopped.outcome.packets == 1000
    assert stopped.outcome.size == path.stat().st_size
    found = rows(path)
    times = [float(row[0]) for row in tshark(path, "frame.time_epoch")]
    assert times == sorted(times)
    assert [row[0] for row in tshark(path, "frame.comment") if row[0]] == ["trigger"]
    numbers = [n for _, n in found]
    assert numbers == sorted(numbers)
    # Both reach the limit together, so either of them may have more packets.
    for odd, name in enumerate(names):
        mine = [n for interface, n in found if interface == name]
        assert mine == list(range(odd, 2 * len(mine) + odd, 2))
    assert "Number of interfaces in file: 2" in capinfos(path)
    assert comment(path)["interface"] == "+".join(names)


async def test_idle_means_idle_on_all(wires: tuple[Wire, Wire], tmp_path: Path) -> None:
    def only_one() -> None:
        for _ in range(5):
            wires[0].send(1)
            time.sleep(0.5)

    stopped = await run(merged(*(wire.far for wire in wires), timeout=1, bpf="udp"), only_one)
    assert (stopped.outcome.stop_reason, stopped.outcome.packets) == (StopReason.IDLE, 5)
    assert 2.9 < stopped.outcome.seconds < 15


async def test_bytes_are_those_of_the_one_file(wires: tuple[Wire, Wire], tmp_path: Path) -> None:
    stopped = await run(
        merged(*(wire.far for wire in wires), bytes=50_000, bpf="not ip6"),
        lambda: in_turn(wires, 3000),
    )
    assert stopped.outcome.stop_reason is StopReason.BYTES
    assert 46_000 < saved(stopped, tmp_path / "x").stat().st_size <= 50_100


async def test_the_past_of_both_gives_way_to_the_limit_of_the_file(
    wires: tuple[Wire, Wire], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        recorders = {
            wire.far: stack.enter_context(recording(wire.far, memory=8 * MIB)) for wire in wires
        }
        await asyncio.to_thread(in_turn, wires, 100)
        for recorder in recorders.values():
            eventually(has_recorded(recorder, 50))
        session = merged(
            *recorders,
            recorders=recorders,
            most=30,
            lookback=10,
            packets=10,
            bpf="ether proto 0x88b5",
        )
        stopped = await run(session, lambda: in_turn(wires, 20))
    found = [n for _, n in rows(saved(stopped, tmp_path / "x.pcapng"))]
    assert len(found) == 30
    assert found[:20] == list(range(80, 100))
    assert stopped.outcome.lookback is not None
    assert stopped.outcome.lookback.packets == 20
    assert "older packets did not fit" in stopped.outcome.lookback.reason


async def test_an_interface_that_is_gone_is_named_and_the_other_goes_on(
    wires: tuple[Wire, Wire], tmp_path: Path
) -> None:
    names = [wire.far for wire in wires]
    session = merged(*names, packets=5)
    subprocess.run(["ip", "link", "del", names[0]], check=True)
    stopped = await run(session, lambda: wires[1].send(5))
    assert stopped.outcome.packets == 5
    assert stopped.outcome.error.startswith(f"{names[0]}: ")
    path = saved(stopped, tmp_path / "x")
    assert [row[0] for row in tshark(path, "frame.interface_name")] == [names[1]] * 5
    assert (comment(path)["complete"], comment(path)["missing"]) == (False, [stopped.outcome.error])


@pytest.mark.parametrize("error", [RuntimeError("unforeseen"), OSError(errno.EMFILE, "short")])
async def test_a_fault_on_one_interface_keeps_the_packets_of_the_others(
    wires: tuple[Wire, Wire], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    names = [wire.far for wire in wires]
    run_one = Session._run

    def broken(session: Session) -> Taken:
        if session.name == names[0]:
            raise error
        return run_one(session)

    monkeypatch.setattr(Session, "_run", broken)
    stopped = await run(merged(*names, packets=5, bpf="not ip6"), lambda: wires[1].send(5))
    assert stopped.outcome.packets == 5
    assert str(error.args[-1]) in stopped.outcome.error


async def test_a_stop_ends_both_and_keeps_what_is_there(wires: tuple[Wire, Wire]) -> None:
    session = merged(*(wire.far for wire in wires), bpf="not ip6")

    def traffic() -> None:
        in_turn(wires, 10)
        session.stop()

    stopped = await run(session, traffic)
    assert (stopped.outcome.stop_reason, stopped.outcome.packets) == (StopReason.STOPPED, 10)


async def test_nothing_on_either_is_an_empty_capture(wires: tuple[Wire, Wire]) -> None:
    stopped = await run(merged(*(wire.far for wire in wires), duration=1, bpf="udp"), lambda: None)
    assert (stopped.outcome.stop_reason, stopped.savefile, stopped.outcome.packets) == (
        StopReason.DURATION,
        None,
        0,
    )


async def test_without_memory_for_an_order_all_packets_are_still_there(
    wires: tuple[Wire, Wire], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pcapdaemon.savefile.packing.merge", no_memory)
    stopped = await run(
        merged(*(wire.far for wire in wires), packets=10, bpf="not ip6"), lambda: in_turn(wires, 10)
    )
    assert sorted(n for _, n in rows(saved(stopped, tmp_path / "x"))) == list(range(10))
    assert (
        "not enough memory to put the packets of all interfaces in time order"
        in stopped.outcome.error
    )


def test_nothing_merged_is_nothing() -> None:
    pool = BlockPool(8 * MIB, MIB)
    blocks, packets = merge([], pool, 0, 0)
    assert (list(blocks.views()), packets, list(join([], pool).views())) == ([], [], [])
    del blocks
    assert pool.used == 0


@pytest.mark.parametrize("shared", [False, True])
async def test_an_interface_that_goes_away_is_named_and_it_is_not_complete(
    wires: tuple[Wire, Wire], shared: bool
) -> None:
    names = [wire.far for wire in wires]
    with ExitStack() as stack:
        recorders = (
            {name: stack.enter_context(recording(name, memory=8 * MIB)) for name in names}
            if shared
            else {}
        )
        session = merged(*names, recorders=recorders, duration=2, bpf="not ip6")

        def traffic() -> None:
            in_turn(wires, 10)
            time.sleep(0.5)
            subprocess.run(["ip", "link", "del", names[0]], check=True)

        stopped = await run(session, traffic)
    assert (stopped.outcome.stop_reason, stopped.outcome.packets) == (StopReason.DURATION, 10)
    assert stopped.outcome.error == f"{names[0]}: the interface went down or away"
    assert stopped.outcome.missing == (stopped.outcome.error,)


async def test_the_size_of_a_merged_file_with_a_past_stays_under_its_limit(
    wires: tuple[Wire, Wire], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        recorders = {
            wire.far: stack.enter_context(recording(wire.far, memory=8 * MIB)) for wire in wires
        }
        await asyncio.to_thread(in_turn, wires, 1000)
        for recorder in recorders.values():
            eventually(has_recorded(recorder, 500))
        session = merged(
            *recorders, recorders=recorders, lookback=10, packets=10, bpf="ether proto 0x88b5"
        )
        session.plan = replace(session.plan, most_size=20_000)
        stopped = await run(session, lambda: in_turn(wires, 10))
    path = saved(stopped, tmp_path / "x.pcapng")
    assert 15_000 < path.stat().st_size <= 20_000
    found = re.findall(r"Number of packets = (\d+)", capinfos(path))
    assert sum(map(int, found)) == stopped.outcome.packets
    assert stopped.outcome.lookback is not None
    assert stopped.outcome.lookback.covered < 10
