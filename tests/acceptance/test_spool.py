"""What can't be delivered is kept in the spool, and delivered later."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Make
from tests.acceptance.test_cli import command
from tests.helpers import Wire, eventually, numbers
from tests.servers import DaemonProcess, wait_for_file


def sections(tmp_path: Path, **spool: Any) -> dict[str, dict[str, Any]]:
    return {"spool": {"dir": str(tmp_path / "spool"), **spool}, "delivery": {"memory_grace": 1}}


def captured(daemon: DaemonProcess, wire: Wire, name: str, packets: int = 10) -> None:
    """Run a capture, and wait until its end is logged."""
    daemon.request(interface=[wire.far], id=name, packets=packets)
    eventually(lambda: daemon.logged("capture started", id=name))
    wire.send(packets)
    eventually(lambda: daemon.logged("capture stopped", id=name))


def stored(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "spool").glob("*.savefile"))


def test_kept_while_the_destination_is_away_and_delivered_when_it_is_back(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    daemon = make(sections(tmp_path)).start()
    daemon.lose_directory()
    captured(daemon, wire, "late", 1000)
    eventually(lambda: daemon.logged("savefile waits in the spool", id="late", pending=["local"]))
    eventually(lambda: daemon.record("late")["state"] == "finished")
    (capture,) = daemon.record("late")["captures"]
    assert (capture["state"], capture["pending"]) == ("spooled", ["local"])
    assert "No such file" in capture["reason"]
    (file,) = stored(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    metrics = daemon.api("GET", "/metrics").text
    assert "pcapdaemon_spool_files 1.0" in metrics
    assert "pcapdaemon_memory_used_bytes 0.0" in metrics, "its memory is returned"
    listed = command("spool", "list", "--config", str(daemon.config), "--json")
    (entry,) = json.loads(listed.stdout)
    assert (entry["ids"], entry["pending"]) == (["late"], ["local"])
    assert "late" in command("spool", "list", "--config", str(daemon.config)).stdout
    daemon.captures.mkdir()
    command(
        "spool", "retry", "late", "--config", str(daemon.config)
    )  # it may already be delivered by then
    assert numbers(wait_for_file(daemon.captures, "*late.pcap")) == list(range(1000))
    eventually(lambda: not stored(tmp_path))
    assert daemon.record("late")["captures"][0]["state"] == "delivered"
    eventually(lambda: daemon.logged("savefile left the spool", id="late"))
    assert daemon.stop() == 0


def test_killed_with_a_savefile_in_memory_loses_none(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    daemon = make({**sections(tmp_path), "delivery": {"memory_grace": 3600}}).start()
    daemon.lose_directory()
    for name in ("one", "two"):
        captured(daemon, wire, name)
    daemon.kill()
    assert len(stored(tmp_path)) == 2
    daemon.captures.mkdir()
    daemon.start()
    for name in ("one", "two"):
        assert numbers(wait_for_file(daemon.captures, f"*{name}.pcap")) == list(range(10))
    eventually(lambda: not stored(tmp_path))
    daemon.reported("delivery resumed from the spool", 2)
    eventually(lambda: daemon.record("one")["captures"][0]["state"] == "delivered")
    assert daemon.record("one")["captures"][0]["packets"] == 10
    assert daemon.stop() == 0


def test_killed_between_delivery_and_its_note_delivers_nothing_twice(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    daemon = make(sections(tmp_path)).start()
    daemon.lose_directory()
    captured(daemon, wire, "once")
    eventually(lambda: daemon.logged("savefile waits in the spool"))
    copies = {path: path.read_bytes() for path in (tmp_path / "spool").glob("*.*")}
    daemon.captures.mkdir()
    command("spool", "retry", "--config", str(daemon.config))
    eventually(lambda: daemon.logged("savefile delivered", id="once"))
    eventually(lambda: not stored(tmp_path))
    daemon.kill()
    for path, content in copies.items():
        path.write_bytes(content)
    daemon.start()
    eventually(lambda: len(daemon.logged("savefile delivered", id="once")) == 2)
    eventually(lambda: not stored(tmp_path))
    assert len(list(daemon.captures.iterdir())) == 1


def test_the_end_of_the_daemon_leaves_it_in_the_spool_and_does_not_wait(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    daemon = make({"spool": {"dir": str(tmp_path / "spool"), "eager": False}}).start()
    daemon.lose_directory()
    captured(daemon, wire, "term")
    eventually(lambda: daemon.logged("delivery delayed"))
    assert not stored(tmp_path)
    begun = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun < 10, "not [general] draintime"
    assert len(stored(tmp_path)) == 1
    eventually(lambda: daemon.logged("savefile waits in the spool", id="term"))
    assert not daemon.logged("savefile lost")
    daemon.captures.mkdir()
    daemon.start()
    assert numbers(wait_for_file(daemon.captures, "*term.pcap")) == list(range(10))


def test_a_reload_that_mends_what_was_refused_delivers_it(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    good = sections(tmp_path)
    daemon = make({**good, "general": {"localdir": str(tmp_path / "x" / "y")}}).start()
    captured(daemon, wire, "mended")
    eventually(lambda: daemon.logged("savefile waits in the spool"))
    daemon.write_config(good)
    daemon.signal(signal.SIGHUP)
    assert numbers(wait_for_file(daemon.captures, "*mended.pcap")) == list(range(10))
    eventually(lambda: daemon.record("mended")["captures"][0]["state"] == "delivered")


def test_dropped_by_hand_is_told(make: Make, wire: Wire, tmp_path: Path) -> None:
    daemon = make(sections(tmp_path)).start()
    daemon.lose_directory()
    captured(daemon, wire, "unwanted")
    eventually(lambda: daemon.logged("savefile waits in the spool"))
    unknown = command("spool", "drop", "nobody", "--config", str(daemon.config))
    assert (unknown.returncode, "not in the spool" in unknown.stderr) == (1, True)
    assert command("spool", "drop", "unwanted", "--config", str(daemon.config)).returncode == 0
    lost = eventually(lambda: daemon.logged("savefile lost", id="unwanted"))
    assert "spool drop" in lost[0]["reason"]
    eventually(lambda: not stored(tmp_path))
    assert daemon.record("unwanted")["captures"][0]["state"] == "lost"


def test_each_daemon_needs_a_spool_of_its_own(make: Make, tmp_path: Path) -> None:
    daemon = make(sections(tmp_path)).start()
    second = make(sections(tmp_path))
    result = command("run", "--config", str(second.config))
    assert result.returncode == 2
    assert "another daemon uses it" in result.stderr
    assert "Traceback" not in result.stderr
    assert daemon.stop() == 0


def test_a_spool_that_cannot_be_is_said_at_start(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    daemon = make({"spool": {"dir": str(tmp_path / "file" / "spool")}})
    result = command("run", "--config", str(daemon.config))
    assert result.returncode == 2
    assert "[spool] dir" in result.stderr
    assert "Not a directory" in result.stderr
    no_spool = command("spool", "list", "--config", str(make().config))
    assert (no_spool.returncode, "is not set" in no_spool.stderr) == (2, True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "spool").mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "mode=700,size=1m", "tmpfs", tmp_path / "spool"], check=True
    )
    yield tmp_path / "spool"
    subprocess.run(["umount", "-l", tmp_path / "spool"], check=True)


def test_a_full_disk_under_the_spool_is_told_and_memory_carries_on(
    make: Make, wire: Wire, tmp_path: Path, small_disk: Path
) -> None:
    daemon = make({**sections(tmp_path), "delivery": {"memory_grace": 1, "deadline": 30}}).start()
    daemon.lose_directory()
    daemon.request(interface=[wire.far], id="big", packets=2000, snap=1500)
    eventually(lambda: daemon.logged("capture started", id="big"))
    wire.send(2000, size=1500)
    reported = eventually(lambda: daemon.logged("savefile not in the spool", id="big"))
    assert "No space left" in reported[0]["reason"]
    assert not list(small_disk.glob("*.*avefile"))
    daemon.captures.mkdir()
    assert numbers(wait_for_file(daemon.captures, "*big.pcap", 20)) == list(range(2000))
    assert daemon.stop() == 0


def test_the_oldest_goes_where_there_is_no_room_and_is_named(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    daemon = make(sections(tmp_path, maxfiles=2)).start()
    daemon.lose_directory()
    for name in ("first", "second", "third"):
        captured(daemon, wire, name)
        eventually(lambda one=name: daemon.logged("savefile waits in the spool", id=one))  # type: ignore[misc]
    lost = eventually(lambda: daemon.logged("savefile lost", id="first"))
    assert "the oldest" in lost[0]["reason"]
    assert len(stored(tmp_path)) == 2
    assert daemon.record("first")["captures"][0]["state"] == "lost"


def test_descriptors_and_threads_do_not_grow_with_what_waits(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    daemon = make(sections(tmp_path)).start()
    daemon.lose_directory()
    captured(daemon, wire, "0")
    assert daemon.process
    pid = daemon.process.pid

    def held() -> tuple[int, int]:
        return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))

    eventually(lambda: daemon.logged("savefile waits in the spool", id="0"))
    before = held()
    for number in range(1, 15):
        captured(daemon, wire, str(number))
    eventually(lambda: len(daemon.logged("savefile waits in the spool")) == 15)
    eventually(lambda: held() <= (before[0] + 1, before[1] + 2))
    shutil.rmtree(tmp_path / "spool")
    daemon.captures.mkdir()
    assert daemon.stop() == 0
