"""Each savefile has only packets of the device that its result names.

Devices are renamed, swapped, replaced, moved, taken down and up again, under captures and under
recorders.
"""

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pcapdaemon.capture.live import CaptureSettings
from pcapdaemon.capture.recorder import Recorder
from pcapdaemon.capture.session import Origins, Session
from pcapdaemon.core.limits import StopReason
from pcapdaemon.native.interfaces import HostInterfaces
from pcapdaemon.native.memory import MemoryBudget
from pcapdaemon.native.rtnetlink import find_link
from pcapdaemon.savefile.packing import Captured
from tests.helpers import Wire, bring_up, can_send, eventually, numbers, plan_for, saved
from tests.integration.test_recorder import has_recorded, is_open, recording

Act = Callable[[Wire], None]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def rename(wire: Wire, name: str = "renamed0") -> None:
    ip("link", "set", "dev", wire.far, "down")
    ip("link", "set", "dev", wire.far, "name", name)
    ip("link", "set", "dev", name, "up")


def rename_while_up(wire: Wire) -> None:
    """Linux allows it since 6.2 for many devices; elsewhere by way of down."""
    done = subprocess.run(
        ["ip", "link", "set", "dev", wire.far, "name", "renamed0"],
        check=False,
        stderr=subprocess.DEVNULL,
    )
    if done.returncode:
        rename(wire)


def replace(wire: Wire) -> None:
    """Rename the device, and give its name to another pair."""
    rename(wire)
    make(wire.far)


def swap(wire: Wire) -> None:
    """Let another device that has recorded nothing take the name, and this one the other's."""
    make("other0")
    rename(wire, "between0")
    ip("link", "set", "dev", "other0", "down")
    ip("link", "set", "dev", "other0", "name", wire.far)
    ip("link", "set", "dev", wire.far, "up")
    ip("link", "set", "dev", "between0", "down")
    ip("link", "set", "dev", "between0", "name", "other0")
    ip("link", "set", "dev", "other0", "up")


def recreate(wire: Wire) -> None:
    ip("link", "del", wire.far)
    make(wire.far)


def move(wire: Wire) -> None:
    subprocess.run(["ip", "netns", "add", "elsewhere"], check=False, stderr=subprocess.DEVNULL)
    ip("link", "set", "dev", wire.far, "netns", "elsewhere")


def make(name: str) -> None:
    ip("link", "add", "dev", f"{name}p", "type", "veth", "peer", "name", name)
    bring_up(f"{name}p", name)


ENDS: list[Act] = [rename, rename_while_up, replace, swap, recreate, move]


@pytest.fixture(autouse=True)
def _clean() -> object:
    yield
    for name in ("renamed0", "between0", "other0p"):
        subprocess.run(["ip", "link", "del", name], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "netns", "del", "elsewhere"], check=False, stderr=subprocess.DEVNULL)


def session(wire: Wire, recorder: Recorder | None, **fields: object) -> Session:
    plan = plan_for(wire.far, **{"timeout": 30, "duration": 20, "bpf": "udp", **fields})
    budget = MemoryBudget(64 << 20)
    return Session(plan, plan.captures[0], budget, CaptureSettings(), Origins(lambda _: recorder))


def sends(wire: Wire) -> None:
    """Send 7 frames to the device that was there first, if that is still possible."""
    if find_link(wire.near):
        subprocess.run([str(wire.program), wire.near, "7", "100", "0", "1"], check=False)


async def during(running: Session, act: Callable[[], object]) -> Captured:
    task = asyncio.create_task(running.run())
    await running.armed
    await asyncio.to_thread(act)
    return await task


@pytest.mark.parametrize("act", ENDS)
@pytest.mark.parametrize("recorded", [False, True])
async def test_a_capture_ends_with_its_device(
    wire: Wire, tmp_path: Path, act: Act, recorded: bool
) -> None:
    def traffic() -> None:
        wire.send(5)
        time.sleep(0.3)  # until the recorder has them too
        act(wire)
        time.sleep(0.05)
        sends(wire)

    async def capture(recorder: Recorder | None) -> Captured:
        return await during(session(wire, recorder), traffic)

    stopped = await with_recorder(wire, capture) if recorded else await capture(None)
    assert stopped.outcome.stop_reason is StopReason.INTERFACE_DOWN
    assert stopped.outcome.seconds < 10
    assert numbers(saved(stopped, tmp_path / "x.pcap")) == list(range(5))
    assert not stopped.outcome.complete


async def with_recorder(
    wire: Wire, use: Callable[[Recorder | None], Awaitable[Captured]]
) -> Captured:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(eventually, is_open(recorder))
        return await use(recorder)


@pytest.mark.parametrize("act", [replace, swap, recreate])
async def test_the_past_of_a_name_is_not_of_the_device_that_had_it(
    wire: Wire, tmp_path: Path, act: Act
) -> None:
    with recording(wire.far) as recorder:
        await asyncio.to_thread(wire.send, 10)
        await asyncio.to_thread(eventually, has_recorded(recorder, 10))
        act(wire)
        at_once = await during(session(wire, recorder, lookback=30, duration=1), lambda: None)
        assert at_once.outcome.packets == 0
        await asyncio.to_thread(eventually, lambda: follows(recorder, wire.far))
        later = await during(
            session(wire, recorder, lookback=30, packets=3), lambda: sends_to(wire)
        )
    assert later.outcome.packets == 3
    assert later.outcome.lookback is not None
    assert "the recorder began later" in later.outcome.lookback.reason


def follows(recorder: Recorder, name: str) -> bool:
    link = find_link(name)
    return link is not None and recorder.device == link.index


def sends_to(wire: Wire) -> None:
    """Send 3 frames to the device that has the name now."""
    peer = subprocess.run(
        ["ip", "-o", "link", "show", "dev", wire.far], check=True, capture_output=True, text=True
    ).stdout.split("@")[1]
    subprocess.run([str(wire.program), peer.split(":")[0], "3", "100", "0", "1"], check=True)


@pytest.mark.parametrize("recorded", [False, True])
async def test_a_capture_goes_on_after_its_interface_was_down(
    wire: Wire, tmp_path: Path, recorded: bool
) -> None:
    away = 0.0

    def traffic() -> None:
        nonlocal away
        wire.send(3)
        time.sleep(0.3)
        begun = time.monotonic()
        ip("link", "set", "dev", wire.far, "down")
        time.sleep(0.5)
        ip("link", "set", "dev", wire.far, "up")
        away = time.monotonic() - begun
        eventually(lambda: can_send(wire.near))
        wire.send(4)

    async def capture(recorder: Recorder | None) -> Captured:
        return await during(session(wire, recorder, packets=7), traffic)

    stopped = await with_recorder(wire, capture) if recorded else await capture(None)
    assert stopped.outcome.stop_reason is StopReason.PACKETS
    assert numbers(saved(stopped, tmp_path / "x.pcap")) == [*range(3), *range(4)]
    assert 0.4 < stopped.outcome.down < away + 0.5
    assert stopped.outcome.missing == (f"the link was down for {stopped.outcome.down:.1f} s",)


async def test_a_short_flap_is_survived(wire: Wire, tmp_path: Path) -> None:
    def traffic() -> None:
        for _ in range(20):
            ip("link", "set", "dev", wire.far, "down")
            ip("link", "set", "dev", wire.far, "up")
        eventually(lambda: can_send(wire.near))
        wire.send(7)

    stopped = await during(session(wire, None, packets=7), traffic)
    assert stopped.outcome.stop_reason is StopReason.PACKETS
    assert numbers(saved(stopped, tmp_path / "x.pcap")) == list(range(7))


def test_an_interface_is_found_by_each_of_its_names(wire: Wire) -> None:
    long_name = "an-alternative-name-of-this-interface"
    for name in ("short-alt", long_name):
        ip("link", "property", "add", "dev", wire.far, "altname", name)
    there = HostInterfaces()
    assert {there[name].name for name in (wire.far, "short-alt", long_name)} == {wire.far}
    for name in ("", "nothing0", "x" * 200, "a\0b", "../lo", "ünknown"):
        assert name not in there


@pytest.mark.parametrize("name", ["a.10", "über0", "a:b", "-dash0", "x" * 15, "%d%%"])
async def test_what_linux_takes_for_a_name_is_taken(tmp_path: Path, name: str) -> None:
    made = subprocess.run(
        ["ip", "link", "add", "name", name, "type", "veth", "peer", "name", "peer9"],
        check=False,
        stderr=subprocess.DEVNULL,
    )
    if made.returncode:
        assert name not in HostInterfaces(), "this ip does not take it for a name"
        return
    ip("link", "set", "dev", "peer9", "up")
    try:
        ip("link", "set", "dev", name, "up")
        plan = plan_for(name, duration=1)
        running = Session(plan, plan.captures[0], MemoryBudget(64 << 20), CaptureSettings())
        stopped = await during(running, lambda: None)
        assert stopped.outcome.stop_reason is StopReason.DURATION
    finally:
        ip("link", "del", "dev", name)
