"""Files played in place of interfaces, by a process without any capability."""

import json
import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Make
from tests.contracts.captures import BEGIN, pcap
from tests.helpers import eventually, numbers, tshark
from tests.servers import PCAPDAEMON, DaemonProcess, free_port

NOTHING = (  # an ordinary user has none, and must not be able to drop them
    ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"]
    if os.geteuid() == 0
    else []
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "traffic.pcap"
    path.write_bytes(pcap([(0, 10), (3.0, 5), (60.0, 5)]))
    return path


def capture(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*NOTHING, PCAPDAEMON, "capture", *map(str, words)], check=check, capture_output=True
    )


def test_a_file_is_captured_from_without_privileges(file: Path, tmp_path: Path) -> None:
    done = capture("--read", file, "-w", tmp_path / "x.pcap", "--json")
    (result,) = json.loads(done.stdout)
    assert (result["state"], result["stop_reason"], result["packets"]) == (
        "delivered",
        "end-of-file",
        20,
    )
    assert result["first_packet_at"] == BEGIN
    path = tmp_path / "x.pcap"
    assert path.read_bytes() == file.read_bytes()
    assert len(tshark(path, "frame.number")) == 20


@pytest.mark.parametrize(
    ("words", "number", "reason"),
    [
        (["--packets", "7"], 7, "packets"),
        (["--duration", "2"], 10, "duration"),
        (["--timeout", "30"], 15, "idle"),
        (["--bpf", "udp[15] = 3"], 1, "end-of-file"),
    ],
    ids=str,
)
def test_it_shows_what_a_capture_would_have_caught(
    file: Path, tmp_path: Path, words: list[str], number: int, reason: str
) -> None:
    done = capture("-r", file, *words, "-w", tmp_path / "x.pcap", "--json")
    (result,) = json.loads(done.stdout)
    assert (result["packets"], result["stop_reason"]) == (number, reason)


def test_through_a_pipe(file: Path) -> None:
    piped = capture("-r", file, "-w", "-")
    assert piped.stdout == file.read_bytes()
    assert b"end-of-file" in piped.stderr


def test_at_its_own_pace_it_takes_its_time(tmp_path: Path) -> None:
    path = tmp_path / "slow.pcap"
    path.write_bytes(pcap([(0, 1), (1.2, 1)]))
    (result,) = json.loads(
        capture("-r", path, "--paced", "-w", tmp_path / "x.pcap", "--json").stdout
    )
    assert 1.2 <= result["seconds"] < 5
    assert result["first_packet_at"] > BEGIN + 10**7, "packets come now"


@pytest.mark.parametrize("content", [None, b"", b"{}"], ids=["missing", "empty", "foreign"])
def test_what_is_no_savefile_is_an_error_in_words(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.pcap"
    if content is not None:
        path.write_bytes(content)
    done = capture("-r", path, "-w", tmp_path / "y.pcap", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert str(path).encode() in done.stderr
    assert b"Traceback" not in done.stderr


def played(file: Path, **more: Any) -> dict[str, Any]:
    return {"interface 1": {"name": "demo0", "alias": ["demo"], "replay": str(file), **more}}


def finished(daemon: DaemonProcess, name: str) -> bool:
    return bool(daemon.record(name)["state"] == "finished")


def test_a_daemon_plays_a_file_as_an_interface(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap([(0, 5), (0.5, 5)]))
    daemon = make(played(path)).start(wrapper=NOTHING)
    first = daemon.request(alias=["demo"], id="first", bpf="udp", wait=True).json()["captures"][0]
    assert (first["stop_reason"], first["packets"], first["complete"]) == ("end-of-file", 10, True)
    assert first["last_packet_at"] - first["first_packet_at"] > 0.4
    assert numbers(Path(first["delivered"]["local"]["where"])) == list(range(10))
    both = [daemon.request(interface=["demo0"], id=name) for name in ("one", "two")]
    assert [one.status_code for one in both] == [202, 202]
    for name in ("one", "two"):
        eventually(partial(finished, daemon, name))
        assert daemon.record(name)["captures"][0]["packets"] == 10, (
            "each plays it from its beginning"
        )
    refused = daemon.request(interface=["demo0"], bpf="nonsense (")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "bpf")
    assert daemon.stop() == 0


def test_a_file_that_goes_is_a_problem_of_the_request(make: Make, file: Path) -> None:
    daemon = make(played(file, replay_pace="fast")).start(wrapper=NOTHING)
    file.unlink()
    answer = daemon.request(interface=["demo0"])
    assert answer.status_code == 400
    assert "traffic.pcap: No such file or directory" in answer.json()["detail"]


def test_a_recorder_on_a_file_is_refused(make: Make, file: Path) -> None:
    daemon = make({**played(file), "recorder 1": {"interface": "demo0"}})
    refused = subprocess.run(
        [PCAPDAEMON, "run", "--config", daemon.config], check=False, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "[[recorder]] number 1: demo0 replays a file" in refused.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--read", "x.pcap", "--lookback", "5"], "--lookback can't be used with --read"),
        (["-i", "lo", "--paced"], "--paced requires --read FILE"),
    ],
)
def test_options_that_contradict_each_other_are_refused(words: list[str], problem: str) -> None:
    done = capture(*words, check=False)
    assert done.returncode == 2
    assert problem in done.stderr.decode()


def test_a_file_that_breaks_off_keeps_its_packets_and_fails(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    done = capture("--read", file, "-w", tmp_path / "x.pcap", "--json", check=False)
    (result,) = json.loads(done.stdout)
    assert (done.returncode, result["stop_reason"], result["packets"]) == (1, "error", 19)
    assert "truncated" in result["error"]
    assert len(numbers(tmp_path / "x.pcap")) == 19


def test_check_needs_no_privilege_where_only_files_are_played(file: Path, tmp_path: Path) -> None:
    config = tmp_path / "pcapdaemon.toml"
    text = f"""
    [general]
    writelocal = true
    localdir = "{tmp_path}"
    [[interface]]
    name = "demo0"
    replay = "{file}"
    [http]
    listen = true
    port = {free_port()}
    """
    config.write_text(text)
    check = [*NOTHING, str(PCAPDAEMON), "check", "--config", str(config)]
    good = subprocess.run(check, check=True, capture_output=True, text=True)
    assert f"{file} can be read" in good.stdout
    assert "CAP_NET_RAW" not in good.stdout
    file.unlink()
    bad = subprocess.run(check, check=False, capture_output=True, text=True)
    assert bad.returncode == 1
    assert f"{file}: No such file" in bad.stdout
