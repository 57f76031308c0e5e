"""The clock is set by a month, forward and back, at every stage of a capture's life.

Nothing is lost, and nothing ends early. The clocks that nobody sets go on, as on a real machine.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Make
from tests.helpers import Wire, eventually, numbers
from tests.servers import DaemonProcess, wait_for_file

MONTH = 30 * 86400


class Clock:
    """The wall clock of a daemon, off by some seconds."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.off(0)

    def off(self, seconds: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}")
        new.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        return {
            **os.environ,
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


STEPS = [MONTH, -MONTH]


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def stepped(make: Make, tmp_path: Path, clock: Clock) -> DaemonProcess:
    sections = {
        "spool": {"dir": str(tmp_path / "spool"), "maxage": 3600},
        "delivery": {"memory_grace": 1},
        "general": {"statedir": str(tmp_path / "state")},
    }
    return make(sections, env=clock.environment).start()


def begin(daemon: DaemonProcess, wire: Wire, name: str, **more: Any) -> None:
    fields: dict[str, Any] = {"timeout": 20, "duration": 3, **more}
    answer = daemon.request(interface=[wire.far], bpf="udp", id=name, **fields)
    assert answer.status_code == 202, answer.text


def sees(daemon: DaemonProcess, seconds: int) -> bool:
    """Return whether the daemon's own clock is off by this much."""
    daemon.api("DELETE", "/captures/none")
    answer = daemon.request(interface=["none0"], id=f"look{time.monotonic_ns()}")
    assert answer.status_code == 400
    at = daemon.record(answer.json()["id"])["received_at"]
    return bool(abs(at - time.time() - seconds) < 60)


@pytest.mark.parametrize("step", STEPS)
def test_while_it_runs(stepped: DaemonProcess, clock: Clock, wire: Wire, step: int) -> None:
    begun = time.monotonic()
    begin(stepped, wire, "runs", duration=6)
    wire.send(5)
    clock.off(step)
    assert sees(stepped, step)
    wire.send(5)
    path = wait_for_file(stepped.captures, "*runs.pcap")
    assert 6 <= time.monotonic() - begun < 60, "its duration is 6 s"
    assert numbers(path) == [*range(5), *range(5)]
    assert stepped.record("runs")["captures"][0]["complete"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("restart", [DaemonProcess.stop, DaemonProcess.kill])
def test_while_it_waits_in_the_spool_and_over_restarts(
    stepped: DaemonProcess,
    clock: Clock,
    wire: Wire,
    step: int,
    restart: Callable[[DaemonProcess], object],
) -> None:
    stepped.lose_directory()
    begin(stepped, wire, "first", packets=5)
    wire.send(5)
    eventually(lambda: stepped.logged("savefile waits in the spool", id="first"))
    clock.off(step)
    begin(stepped, wire, "second", packets=5)
    wire.send(5)
    eventually(lambda: stepped.logged("savefile waits in the spool", id="second"))
    time.sleep(1.2)  # twice as long as between two looks for overdue savefiles
    restart(stepped)
    clock.off(0)
    stepped.start()
    time.sleep(1.2)
    restart(stepped)
    clock.off(-step)
    stepped.start()
    time.sleep(1.2)
    stepped.captures.mkdir(exist_ok=True)
    for name in ("first", "second"):
        assert numbers(wait_for_file(stepped.captures, f"*{name}.pcap", 30)) == list(range(5))
    assert not stepped.logged("savefile lost")
    assert stepped.stop() == 0


@pytest.mark.parametrize("step", STEPS)
def test_what_was_accepted_is_not_captured_again(
    stepped: DaemonProcess, clock: Clock, wire: Wire, step: int
) -> None:
    begin(stepped, wire, "once", packets=5)
    wire.send(5)
    wait_for_file(stepped.captures, "*once.pcap")
    clock.off(step)
    assert stepped.request(interface=[wire.far], id="once").status_code == 202
    eventually(lambda: stepped.logged("request seen before", id="once"))
    stepped.kill()
    clock.off(-step)
    stepped.start()
    assert stepped.request(interface=[wire.far], id="once").status_code == 202
    eventually(lambda: len(stepped.logged("request seen before", id="once")) == 2)
    stepped.reported("request accepted", 1, id="once")
    assert len(list(stepped.captures.glob("*once.pcap"))) == 1


@pytest.mark.parametrize("step", STEPS)
def test_under_a_recorder(make: Make, tmp_path: Path, clock: Clock, wire: Wire, step: int) -> None:
    sections = {"recorder": [{"interface": wire.far, "seconds": 60, "memory": 16 << 20}]}
    daemon = make(env=clock.environment)
    with daemon.config.open("a") as file:
        for one in sections["recorder"]:
            lines = [f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in one.items()]
            file.write("\n[[recorder]]\n" + "\n".join(lines) + "\n")
    daemon.start()
    eventually(lambda: daemon.logged("recorder records"))
    wire.send(5)
    time.sleep(0.5)
    clock.off(step)
    time.sleep(0.5)
    begin(daemon, wire, "past", lookback=30, packets=5)
    wire.send(5)
    path = wait_for_file(daemon.captures, "*past.pcap")
    assert numbers(path) == [*range(5), *range(5)]
    record = daemon.record("past")["captures"][0]
    assert record["complete"]
    assert 0 < record["lookback"]["covered"] < 20
