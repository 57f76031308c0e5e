"""What people read at a terminal, and what the command line believes."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.conftest import Make
from tests.acceptance.test_cli import begun, capturing, command
from tests.helpers import Wire, eventually, numbers
from tests.servers import PCAPDAEMON, DaemonProcess, free_port

LISTENER = """
import os, sys, socket
os.setgid(4321); os.setuid(int(sys.argv[1]))
server = socket.create_server((sys.argv[3], int(sys.argv[2])))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    print(connection.recv(65536), flush=True)
    connection.close()
"""


class Listener:
    """A program of another user, who listens on a port and keeps what is sent to it."""

    def __init__(self, user: int, port: int, address: str = "127.0.0.1") -> None:
        words = [sys.executable, "-c", LISTENER, str(user), str(port), address]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        assert self._process.stdout.readline() == "ready\n"

    def heard(self) -> str:
        """End it, and return what was sent to it."""
        self._process.kill()
        heard, _ = self._process.communicate()
        return heard


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that all users can enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def api(daemon: DaemonProcess) -> tuple[str, str]:
    return "--url", f"http://127.0.0.1:{daemon.port}"


def test_a_dry_run_says_what_it_found(daemon: DaemonProcess, wire: Wire) -> None:
    shown = command("request", *api(daemon), "-i", wire.far, "-i", "nope0", "--dryrun")
    assert shown.returncode == 0
    assert f"dryrun: it would capture on {wire.far}\n" in shown.stdout
    assert "limits: packets 50000, bytes 95.4 MiB, duration 3600 s, timeout 10 s" in shown.stdout
    assert "unavailable: nope0: no such interface on this node" in shown.stdout
    assert "None" not in shown.stdout


def test_a_list_says_what_runs(daemon: DaemonProcess, wire: Wire) -> None:
    assert command("request", *api(daemon), "--list").stdout == "no request is running\n"
    daemon.request(interface=[wire.far], id="mine", bpf="udp port 9000", timeout=60)
    eventually(lambda: daemon.logged("capture started", id="mine"))
    shown = command("request", *api(daemon), "--list").stdout.splitlines()
    assert shown[0].split() == ["request", "since", "interface", "packets", "size", "filter"]
    assert shown[1].split()[0] == "mine"
    assert shown[1].split()[3:] == [wire.far, "0", "0", "B", "udp", "port", "9000"]


def test_a_request_for_another_node_has_a_status_of_its_own(
    daemon: DaemonProcess, wire: Wire
) -> None:
    shown = command("request", *api(daemon), "-i", wire.far, "--node", "another")
    name = daemon.api("GET", "/readyz").json()["node"]
    words = f"elsewhere: the request is for another node than {name}\n"
    assert (shown.returncode, shown.stdout) == (3, words)


def test_recorders_on_a_narrow_terminal_lose_nothing(make: Make, wire: Wire) -> None:
    daemon = make({"recorder 1": {"interface": wire.far, "seconds": 3600}}).start()
    eventually(lambda: daemon.logged("recorder records", interface=wire.far))
    wire.send(1234)
    line = f"stty cols 40; exec timeout 5 {PCAPDAEMON} recorders {' '.join(api(daemon))}"
    seen = subprocess.run(
        ["script", "-qec", line, "/dev/null"], capture_output=True, text=True, check=False
    )
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.stdout)
    assert "KiB" in shown


def test_recorders_fit_into_80_columns(make: Make, wire: Wire) -> None:
    capture_filter = " or ".join(f"udp port {number}" for number in range(9000, 9030))
    tables = {
        "recorder 1": {"interface": wire.far, "seconds": 3600, "filter": capture_filter},
        "recorder 2": {"interface": "a-long-name-123"},
    }
    daemon = make(tables).start()
    eventually(lambda: daemon.logged("recorder records", interface=wire.far))
    wire.send(12_000)
    line = f"stty cols 80; exec timeout 2.5 {PCAPDAEMON} recorders {' '.join(api(daemon))}"
    seen = subprocess.run(
        ["script", "-qec", line, "/dev/null"], capture_output=True, text=True, check=False
    ).stdout
    last = seen[seen.rindex("interface  ") :].splitlines()
    assert all(len(line) <= 80 for line in last), last
    assert last[0].split()[-1] == "captures"
    assert any("does not record" in line for line in last)
    assert "udp port 9029" in " ".join(last)


def guarded(directory: Path, mode: int = 0o600) -> Path:
    """Return a file with a token."""
    file = directory / "token"
    file.write_text("a-long-token")
    file.chmod(mode)
    return file


@pytest.mark.parametrize(("user", "is_stranger"), [(4321, True), (65534, True), (999, False)])
def test_the_token_is_not_sent_to_another_user_who_holds_the_port(
    user: int, is_stranger: bool, tmp_path: Path
) -> None:
    listener = Listener(user, port := free_port())
    url = f"http://127.0.0.1:{port}"
    shown = command("request", "--url", url, "--token-file", guarded(tmp_path), "--list")
    assert ("a-long-token" in listener.heard()) != is_stranger
    assert shown.returncode == 1
    assert ("who can't read the token" in shown.stderr) == is_stranger


def test_a_user_who_can_read_the_token_may_hold_the_port(open_directory: Path) -> None:
    listener = Listener(4321, port := free_port())
    url, file = f"http://localhost:{port}", guarded(open_directory, 0o644)
    shown = command("request", "--url", url, "--token-file", file, "--list")
    assert "a-long-token" in listener.heard()
    assert "who can't read the token" not in shown.stderr


def test_packets_stream_to_stdout_while_the_capture_goes_on(wire: Wire) -> None:
    words = ["capture", "-i", wire.far, "-w", "-"]
    with begun(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ours:
        capturing(ours)
        words = ["tcpdump", "-lnr", "-"]
        with subprocess.Popen(words, stdin=ours.stdout, stdout=subprocess.PIPE) as theirs:
            assert theirs.stdout
            for _ in range(3):  # each is there before the next is sent
                wire.send(1)
                assert b"10.99.0.1.9000 > 10.99.0.2" in theirs.stdout.readline()
            ours.send_signal(signal.SIGINT)
            assert theirs.wait(10) == 0
        assert ours.wait(10) == 0
        assert ours.stderr
        assert b" 3 " in ours.stderr.read()


def has_grown(file: Path, size: int) -> bool:
    return file.stat().st_size >= size


def test_a_stream_is_not_limited_by_memory_and_has_every_packet(wire: Wire, tmp_path: Path) -> None:
    config = tmp_path / "small.toml"
    config.write_text(
        "[http]\nlisten = true\n[general]\nwritelocal = true\nmemory = '16MiB'\n"
        "maxpackets = 10000000\nmaxbytes = '1GiB'\n[capture]\nbuffer = '8MiB'\n"
    )
    file = tmp_path / "stream.pcap"
    with file.open("wb") as to:
        words = ["capture", "--config", config, "-i", wire.far, "-c", 60_000, "-w", "-"]
        ours = begun(*words, stdout=to, stderr=subprocess.PIPE)
        capturing(ours)
        for part in range(1, 61):  # at the pace of the reader: the kernel's buffer is small
            wire.send(1000, size=1000)
            eventually(partial(has_grown, file, part * 1000 * 1000))
        assert ours.wait(20) == 0
        assert ours.stderr
        ours.stderr.close()
    assert file.stat().st_size > 3 * (16 << 20)
    assert numbers(file) == list(range(1000)) * 60


def test_a_reader_that_goes_away_ends_the_stream(wire: Wire) -> None:
    ours = begun(
        "capture", "-i", wire.far, "-w", "-", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    capturing(ours)
    assert ours.stdout
    ours.stdout.close()
    wire.send(10)
    assert ours.wait(10) == 1
    assert ours.stderr
    said = ours.stderr.read()
    ours.stderr.close()
    assert b"Broken pipe" in said
    assert b"Traceback" not in said


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.2", "[::ffff:127.0.0.1]", "10.99.7.1"])
def test_whatever_the_address_of_this_host_is_called(host: str, tmp_path: Path) -> None:
    subprocess.run(["ip", "addr", "replace", "10.99.7.1/32", "dev", "lo"], check=True)
    listener = Listener(4321, port := free_port(), "0.0.0.0")
    url = f"http://{host}:{port}"
    shown = command("request", "--url", url, "--token-file", guarded(tmp_path), "--list")
    assert listener.heard() == ""
    assert "who can't read the token" in shown.stderr


def test_a_stranger_on_another_address_is_in_nobodys_way(make: Make, tmp_path: Path) -> None:
    file = guarded(tmp_path)
    daemon = make({"http": {"token_file": str(file)}}).start()
    listener = Listener(4321, daemon.port, "127.0.0.2")
    shown = command("request", *api(daemon), "--token-file", file, "--list")
    assert listener.heard() == ""
    assert shown.stdout == "no request is running\n"


def test_a_token_goes_through_no_proxy_to_this_host(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-long-token")
    daemon = make({"http": {"token_file": str(file)}}).start()
    shown = subprocess.run(
        [PCAPDAEMON, "request", *api(daemon), "--token-file", file, "--list"],
        capture_output=True,
        text=True,
        env={**os.environ, "http_proxy": f"http://127.0.0.1:{free_port()}"},
        check=False,
    )
    assert shown.stdout == "no request is running\n"
