"""Interfaces that are open before a request comes."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pcapdaemon.capture.live import CaptureSettings, LiveSource
from pcapdaemon.capture.ready import Ready
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.native.interfaces import HostInterfaces
from pcapdaemon.native.memory import MemoryBudget
from tests.contracts.captures import frame, run
from tests.helpers import Wire, eventually
from tests.integration.test_filters import options, send
from tests.integration.test_packet_sources import read

SETTINGS = CaptureSettings(buffer=2 << 20)


@contextmanager
def ready(budget: MemoryBudget, *names: str) -> Iterator[Ready]:
    made = Ready(budget)
    made.configure(names, SETTINGS)
    yield made
    made.close()
    assert budget.used == 0


def source(made: Ready, name: str, budget: MemoryBudget) -> LiveSource:
    interface = Interface(name, InterfaceKind.NETWORK)
    return LiveSource(interface, budget, SETTINGS, spare_of=made.take)


def has(capture: LiveSource, packets: int) -> bool:
    return capture.packets >= packets


@pytest.mark.parametrize("snaplen", [262144, 60])
def test_a_capture_on_an_open_handle_has_only_its_own_packets(
    wire: Wire, tmp_path: Path, snaplen: int
) -> None:
    budget = MemoryBudget(64 << 20)
    with ready(budget, wire.far) as made:
        for number in range(3):
            eventually(lambda: len(made) == 1)
            send(wire, [frame(1000)] * 50)  # before the request: nobody asked for them
            capture = source(made, wire.far, budget)
            capture.arm(replace(options("udp"), snaplen=snaplen))
            running = run(capture)
            send(wire, [frame(n) for n in range(number, number + 5)])
            eventually(partial(has, capture, 5))
            capture.stop()
            assert running.reason() == "stopped"
            taken = read(tmp_path, capture)
            assert taken == [frame(n)[:snaplen] for n in range(number, number + 5)]
            assert capture.stats == (5, 0, 0)
            assert capture.snaplen == snaplen
            capture.close()


def test_it_is_replaced_after_it_was_taken_and_its_memory_counts(wire: Wire) -> None:
    budget = MemoryBudget(64 << 20)
    with ready(budget, wire.far) as made:
        eventually(lambda: len(made) == 1)
        assert budget.used == SETTINGS.buffer
        spare = made.take(wire.far, SETTINGS)
        assert spare
        eventually(lambda: len(made) == 1)
        assert budget.used == 2 * SETTINGS.buffer
        spare.close()
        assert made.take(wire.far, CaptureSettings(promiscuous=False)) is None


def test_all_of_them_take_a_quarter_of_the_memory_at_most(wire: Wire) -> None:
    budget = MemoryBudget(3 * SETTINGS.buffer)
    with ready(budget, wire.far) as made:
        time.sleep(0.2)
        assert (len(made), budget.used) == (0, 0)


def test_a_handle_of_another_device_is_not_used(wire: Wire) -> None:
    budget = MemoryBudget(64 << 20)
    with ready(budget, wire.far) as made:
        eventually(lambda: len(made) == 1)
        for words in (["down"], ["name", "renamed9"], ["up"]):
            name = "renamed9" if words == ["up"] else wire.far
            subprocess.run(["ip", "link", "set", "dev", name, *words], check=True)
        assert made.take(wire.far, SETTINGS) is None
    subprocess.run(["ip", "link", "del", "renamed9"], check=True)


def test_an_open_interface_is_known_as_the_host_has_it(wire: Wire) -> None:
    budget, host = MemoryBudget(64 << 20), HostInterfaces()
    ip("link", "property", "add", "dev", wire.far, "altname", "another-name9")
    with ready(budget, wire.far, "lo", "another-name9") as made:
        eventually(lambda: len(made) == 3)
        assert {name: made.get(name) for name in (wire.far, "lo")} == {
            name: host[name] for name in (wire.far, "lo")
        }
        assert set(made) == {wire.far, "lo", "another-name9"}
        assert made.get("another-name9") is None, "only the host knows whose name that is"
        assert made.get("nothing9") is None


@pytest.mark.parametrize("change", [["down"], ["name", "renamed9"]])
def test_an_open_interface_that_changed_is_looked_up_again(wire: Wire, change: list[str]) -> None:
    with ready(MemoryBudget(64 << 20), wire.far) as made:
        eventually(lambda: len(made) == 1)
        assert wire.far in made
        ip("link", "set", "dev", wire.far, *change)
        assert wire.far not in made
    name = wire.far if change == ["down"] else "renamed9"
    ip("link", "set", "dev", name, "up")
    subprocess.run(["ip", "link", "del", name], check=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def test_what_is_not_there_yet_is_opened_when_it_comes(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcapdaemon.capture.ready.TRY_EVERY", 0.1)
    budget = MemoryBudget(64 << 20)
    with ready(budget, "later9") as made:
        time.sleep(0.2)
        assert len(made) == 0
        subprocess.run(
            ["ip", "link", "add", "later9", "type", "veth", "peer", "name", "later9p"], check=True
        )
        subprocess.run(["ip", "link", "set", "later9", "up"], check=True)
        eventually(lambda: len(made) == 1)
        made.configure((), SETTINGS)
        eventually(lambda: len(made) == 0)
    subprocess.run(["ip", "link", "del", "later9"], check=True)
