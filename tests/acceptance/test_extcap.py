"""Streams, and Wireshark's own programs with them: what they list, and what they capture."""

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.conftest import Make
from tests.helpers import Wire, eventually, numbers
from tests.servers import PCAPDAEMON, DaemonProcess


def recorder(wire: Wire) -> dict[str, Any]:
    return {"interface": wire.far, "seconds": 30, "memory": 16 << 20, "snaplen": 2000}


class Stream:
    """A client of `POST /stream`, which writes what comes to a file."""

    def __init__(self, daemon: DaemonProcess, path: Path, **message: Any) -> None:
        self.path, self._daemon = path, daemon
        self._message = {"node": "any", "timeout": 30, **message}
        self.leave = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        url = f"http://127.0.0.1:{self._daemon.port}/stream"
        with (
            self.path.open("wb", buffering=0) as file,
            httpx2.stream("POST", url, json=self._message, timeout=60) as response,
        ):
            assert response.status_code == 200, response.read()
            for part in response.iter_bytes():
                file.write(part)
                if self.leave.is_set():
                    return

    def ended(self) -> bool:
        self._thread.join(0.01)
        return not self._thread.is_alive()

    def has(self, size: int) -> bool:
        return self.path.exists() and self.path.stat().st_size >= size


@pytest.mark.parametrize("recorded", [False, True])
def test_packets_come_while_the_capture_runs(
    make: Make, wire: Wire, tmp_path: Path, recorded: bool
) -> None:
    daemon = make({"recorder 1": recorder(wire)} if recorded else {}).start()
    stream = Stream(daemon, tmp_path / "s.pcap", interface=[wire.far], packets=30, id="s")
    eventually(lambda: daemon.record("s").get("state") == "running")
    eventually(lambda: stream.has(24))
    wire.send(10)
    eventually(lambda: stream.has(24 + 10 * 116))
    assert daemon.record("s")["captures"][0]["state"] == "running"
    wire.send(20)
    eventually(stream.ended)
    assert len(numbers(tmp_path / "s.pcap")) == 30
    capture = daemon.record("s")["captures"][0]
    assert (capture["state"], capture["stop_reason"], capture["packets"]) == (
        "delivered",
        "packets",
        30,
    )
    assert (capture["file_name"], capture["delivered"], list(daemon.captures.iterdir())) == (
        "",
        {},
        [],
    )


def test_a_stream_begins_before_its_request(make: Make, wire: Wire, tmp_path: Path) -> None:
    daemon = make({"recorder 1": recorder(wire)}).start()
    eventually(lambda: daemon.api("GET", "/recorders").json()[0]["recording"])
    wire.send(50)
    eventually(lambda: daemon.api("GET", "/recorders").json()[0]["packets"] == 50)
    stream = Stream(
        daemon, tmp_path / "s.pcap", interface=[wire.far], packets=10, lookback=20, id="s"
    )
    eventually(lambda: stream.has(24 + 50 * 116))
    wire.send(10)
    eventually(stream.ended)
    assert numbers(tmp_path / "s.pcap") == [*range(50), *range(10)]


def test_every_packet_of_a_fast_stream_and_no_memory_for_it(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    tables = {"general": {"memory": 20 << 20, "maxpackets": 10**6, "snaplength": 2000}}
    daemon = make({**tables, "recorder 1": recorder(wire)}).start()
    stream = Stream(daemon, tmp_path / "s.pcap", interface=[wire.far], packets=20_000, id="s")
    eventually(lambda: stream.has(24))
    wire.send(20_000, size=1400, rate=3000)  # more than the memory that the node may use
    eventually(stream.ended)
    capture = daemon.record("s")["captures"][0]
    assert capture["dropped"] == 0
    assert numbers(tmp_path / "s.pcap") == list(range(20_000))


def test_a_long_past_comes_at_once_and_does_not_count(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    daemon = make({"general": {"snaplength": 2000}, "recorder 1": recorder(wire)}).start()
    eventually(lambda: daemon.api("GET", "/recorders").json()[0]["recording"])
    wire.send(4000, size=1400, rate=20_000)
    eventually(lambda: daemon.api("GET", "/recorders").json()[0]["packets"] == 4000)
    stream = Stream(
        daemon, tmp_path / "s.pcap", interface=[wire.far], packets=5, lookback=20, id="s"
    )
    eventually(lambda: stream.has(24 + 4000 * 1416))
    assert daemon.record("s")["captures"][0]["state"] == "running"
    wire.send(5)
    eventually(stream.ended)
    assert numbers(tmp_path / "s.pcap") == [*range(4000), *range(5)]
    assert daemon.record("s")["captures"][0]["lookback"]["packets"] == 4000


def test_a_stream_does_not_feed_itself(daemon: DaemonProcess, tmp_path: Path) -> None:
    own = f"tcp port {daemon.port}"  # servers of other tests use lo too
    stream = Stream(daemon, tmp_path / "s.pcap", interface=["lo"], id="s", timeout=2, bpf=own)
    eventually(lambda: stream.has(24))
    daemon.api("GET", "/healthz")
    eventually(stream.ended)
    assert (tmp_path / "s.pcap").stat().st_size < 1_000_000


def test_an_id_that_is_known_is_no_stream_and_ends_nothing(
    daemon: DaemonProcess, wire: Wire
) -> None:
    daemon.request(interface=[wire.far], id="x", timeout=60)
    message = {"node": "any", "interface": [wire.far], "id": "x"}
    assert daemon.api("POST", "/stream", json=message).status_code == 409
    assert daemon.record("x")["state"] == "running"


def test_a_replayed_file_is_no_stream(make: Make, wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "x.pcap").write_bytes(bytes(24))
    daemon = make({"interface 1": {"name": "played", "replay": str(tmp_path / "x.pcap")}}).start()
    refused = daemon.api("POST", "/stream", json={"node": "any", "interface": ["played"]})
    assert (refused.status_code, "plays a file" in refused.text) == (400, True)


def test_a_client_that_leaves_ends_the_capture(make: Make, wire: Wire, tmp_path: Path) -> None:
    daemon = make({"recorder 1": recorder(wire)}).start()
    stream = Stream(daemon, tmp_path / "s.pcap", interface=[wire.far], id="s", timeout=60)
    eventually(lambda: stream.has(24))
    stream.leave.set()
    wire.send(5)
    eventually(stream.ended)
    eventually(lambda: daemon.record("s")["state"] == "finished")
    before = descriptors(daemon)
    for n in range(20):
        again = Stream(daemon, tmp_path / f"{n}.pcap", interface=[wire.far], id=f"t{n}", packets=1)
        eventually(partial(again.has, 24))
        wire.send(1)
        eventually(again.ended)
    eventually(lambda: descriptors(daemon) <= before + 1)


def descriptors(daemon: DaemonProcess) -> int:
    assert daemon.process is not None
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def test_a_client_that_does_not_read_holds_up_no_shutdown(make: Make, wire: Wire) -> None:
    daemon = make({"general": {"snaplength": 2000}}).start()
    with httpx2.stream(
        "POST",
        f"http://127.0.0.1:{daemon.port}/stream",
        json={"node": "any", "interface": [wire.far], "timeout": 60, "id": "s"},
        timeout=60,
    ) as response:
        assert response.status_code == 200
        wire.send(20_000, size=1400)
        eventually(lambda: daemon.record("s")["captures"][0]["packets"] > 0)
        assert daemon.stop() == 0


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"interface": ["lo", "any"]}, "one interface"),
        ({"alias": "x"}, "one interface"),
        ({"list": True}, "only a request for a capture"),
        ({"interface": ["lo"], "bpf": "portt"}, "bpf"),
        ({"interface": ["nope"]}, "nope"),
    ],
)
def test_what_can_not_be_streamed_is_refused(
    daemon: DaemonProcess, message: dict[str, Any], words: str
) -> None:
    refused = daemon.api("POST", "/stream", json={"node": "any", **message})
    assert refused.status_code == 400
    assert words in refused.text


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user of Wireshark, whose folders are empty."""
    (tmp_path / "home").mkdir()
    shown = subprocess.run(["tshark", "-G", "folders"], check=True, capture_output=True, text=True)
    found = re.search(r"^Extcap path:\s*(\S+)", shown.stdout, re.MULTILINE)
    assert found
    # the tests are root, for whom Wireshark 4.0 only has the folder of the whole host
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", found[1]], check=True)
    path = f"{PCAPDAEMON.parent}:{os.environ['PATH']}"
    yield {**os.environ, "HOME": str(tmp_path / "home"), "PATH": path}
    subprocess.run(["umount", found[1]], check=True)


def run(home: dict[str, str], *words: str) -> str:
    done = subprocess.run(words, env=home, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def install(home: dict[str, str], *daemons: DaemonProcess) -> str:
    urls = (word for one in daemons for word in ("--url", f"http://127.0.0.1:{one.port}"))
    return run(home, str(PCAPDAEMON), "extcap", "--install", *urls).strip()


def test_wireshark_lists_and_captures(
    make: Make, wire: Wire, tmp_path: Path, home: dict[str, str]
) -> None:
    daemon = make({"general": {"node": "web-1"}, "recorder 1": recorder(wire)}).start()
    gone = make()
    install(home, gone, daemon)
    shown = run(home, "tshark", "-D")
    name = f"pcapdaemon-1-{wire.far}"
    assert f"{name} (web-1: {wire.far}, recorded)" in shown
    eventually(lambda: daemon.api("GET", "/recorders").json()[0]["recording"])
    wire.send(7)
    eventually(lambda: daemon.api("GET", "/recorders").json()[0]["packets"] == 7)
    file = tmp_path / "w.pcapng"
    words = ["tshark", "-i", name, "-w", str(file), "-c", "10", "-f", "udp"]
    words += ["-o", f"extcap.pcapdaemon_1_{wire.far}.lookback:20"]
    capturing = subprocess.Popen(words, env=home, stderr=subprocess.PIPE)
    try:
        eventually(lambda: daemon.api("GET", "/captures").json())
        eventually(lambda: daemon.api("GET", "/captures").json()[0]["captures"][0]["packets"] >= 7)
        wire.send(3)
        _, errors = capturing.communicate(timeout=60)
    finally:
        capturing.kill()
    assert capturing.returncode == 0, errors
    assert numbers(file) == [*range(7), *range(3)]
    assert daemon.api("GET", "/captures").json()[0]["bpf"] == "udp"


def test_the_protocol_of_extcap(make: Make, wire: Wire, home: dict[str, str]) -> None:
    daemon = make({"recorder 1": recorder(wire)}).start()
    program, chosen = install(home, daemon), ["--extcap-interface", f"pcapdaemon-0-{wire.far}"]
    first, *others = run(home, program, "--extcap-interfaces", "--extcap-version=4.4").splitlines()
    assert first.startswith("extcap {version=")
    assert any(f"{{value=pcapdaemon-0-{wire.far}}}" in line for line in others)
    assert run(home, program, "--extcap-dlts", *chosen) == (
        "dlt {number=1}{name=EN10MB}{display=Ethernet}\n"
    )
    config = run(home, program, "--extcap-config", *chosen)
    assert "{call=--lookback}" in config
    assert "{range=0,120}" in config
    assert run(home, program, *chosen, "--extcap-capture-filter", "udp port 5") == ""
    assert "syntax error" in run(home, program, *chosen, "--extcap-capture-filter", "portt")
    wrong = subprocess.run(
        [program, "--extcap-dlts", "--extcap-interface", "eth0"],
        env=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (wrong.returncode, "none of this program" in wrong.stderr) == (2, True)


def test_merge_on_the_command_line(
    daemon: DaemonProcess, wire: Wire, tmp_path: Path, home: dict[str, str]
) -> None:
    for name in ("a", "b"):
        daemon.request(interface=[wire.far], id=name, packets=5)
        wire.send(5)
        eventually(lambda name=name: daemon.record(name)["state"] == "finished")  # type: ignore[misc]
    files = sorted(map(str, daemon.captures.iterdir()))
    merged = tmp_path / "all.pcapng"
    run(home, str(PCAPDAEMON), "merge", *files, "-w", str(merged))
    assert numbers(merged) == [*range(5), *range(5)]
    wrong = subprocess.run(
        [PCAPDAEMON, "merge", daemon.config, "-w", tmp_path / "x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (wrong.returncode, "it begins with" in wrong.stderr) == (1, True)
    assert not list(tmp_path.glob("*x*"))
    assert json.loads(
        run(home, str(PCAPDAEMON), "list", "--json", "--url", f"http://127.0.0.1:{daemon.port}")
    )
