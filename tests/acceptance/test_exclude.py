"""What no capture and no recorder keeps (`[general] exclude`)."""

import struct
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Make
from tests.acceptance.test_cli import command
from tests.helpers import Wire, eventually, numbers
from tests.servers import DaemonProcess

TOKEN = "a-secret-token"


def finished(daemon: DaemonProcess, name: str, headers: Any = None) -> dict[str, Any]:
    def state() -> Any:
        return daemon.api("GET", f"/captures/{name}", headers=headers).json()

    eventually(lambda: state()["state"] == "finished", 20)
    return dict(state()["captures"][0])


@pytest.mark.parametrize("bpf", ["", "tcp", "tcp or udp"])
def test_a_capture_does_not_have_the_token_of_the_api(make: Make, bpf: str) -> None:
    daemon = make({"http": {"token": TOKEN}, "general": {"snaplength": "64KiB"}}).start()
    headers = {"authorization": f"Bearer {TOKEN}"}
    body = {"node": "any", "interface": ["lo"], "id": "one", "duration": 2, "bpf": bpf}
    assert daemon.api("POST", "/captures", json=body, headers=headers).status_code == 202
    for _ in range(5):
        daemon.api("GET", "/readyz", headers=headers)
    send(9000)
    found = finished(daemon, "one", headers)
    assert bool(found["packets"]) >= ("udp" in bpf)
    for file in daemon.captures.glob("*.pcap"):
        assert TOKEN.encode() not in file.read_bytes()
        assert seen(file, f"tcp port {daemon.port}") == 0


def seen(file: Path, expression: str) -> int:
    """Return how many packets of a file tcpdump finds with a filter."""
    command = ["tcpdump", "-nr", str(file), expression]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    return len(shown.stdout.splitlines())


def send(port: int) -> None:
    subprocess.run(["bash", "-c", f"echo hello >/dev/udp/127.0.0.1/{port}"], check=True)


@pytest.mark.parametrize("recorded", [False, True])
def test_no_filter_of_a_request_gets_around_it(make: Make, wire: Wire, recorded: bool) -> None:
    recorder = {"recorder 1": {"interface": wire.far, "memory": "8MiB"}} if recorded else {}
    daemon = make({"general": {"exclude": "udp port 9000"}, **recorder}).start()
    if recorded:
        eventually(lambda: daemon.logged("recorder records", interface=wire.far))
    filters: tuple[str, ...] = (
        "",
        "udp",
        "udp port 9000",
        "not (tcp)",
        "udp\nor tcp",
        "udp or vlan",
    )
    filters += ("udp or geneve", "udp or (vlan and vlan)", "mpls or udp", "pppoes or udp")
    for number, bpf in enumerate(filters):
        name = f"r{number}"
        assert daemon.request(interface=[wire.far], id=name, bpf=bpf, duration=1).status_code == 202
        eventually(partial(daemon.logged, "capture started", id=name))
        wire.send(5)
        assert finished(daemon, name)["packets"] == 0, bpf
    for bpf in ("udp) or (udp", "tcp) or (udp port 9000", "(udp", "udp)"):
        refused = daemon.request(interface=[wire.far], bpf=bpf)
        assert refused.status_code == 400, bpf
        assert "parenthesis" in refused.text


def test_a_recorder_does_not_keep_it(make: Make, wire: Wire) -> None:
    recorder = {"interface": wire.far, "memory": "8MiB"}
    daemon = make({"general": {"exclude": "udp port 9000"}, "recorder 1": recorder}).start()
    eventually(lambda: daemon.logged("recorder records", interface=wire.far))
    wire.send(100)
    daemon.request(interface=[wire.far], id="past", lookback=20, duration=1)
    assert finished(daemon, "past")["packets"] == 0
    assert daemon.api("GET", "/recorders").json()[0]["packets"] == 0


def test_the_savefile_says_what_was_left_out(make: Make, wire: Wire) -> None:
    daemon = make({"general": {"exclude": "udp port 1234", "format": "pcapng"}}).start()
    daemon.request(interface=[wire.far], id="one", bpf="udp", packets=3)
    eventually(lambda: daemon.logged("capture started", id="one"))
    wire.send(3)
    eventually(lambda: daemon.logged("request finished", id="one"))
    (file,) = daemon.captures.glob("*.pcapng")
    assert numbers(file) == [0, 1, 2]
    shown = subprocess.run(["capinfos", file], capture_output=True, text=True, check=True).stdout
    assert "not (udp port 1234) and (udp)" in shown


@pytest.mark.parametrize("exclude", ["prt 8723", "tcp) or (udp", "host uploads.example.com"])
def test_a_wrong_exclusion_is_refused(make: Make, exclude: str) -> None:
    found = command("check", "--config", make({"general": {"exclude": exclude}}).config)
    assert found.returncode == 2
    assert "[general] exclude: " in found.stderr


def test_packets_of_which_none_can_match_are_captured_as_they_are(
    make: Make, tmp_path: Path
) -> None:
    """As on nlmon: libpcap compiles no filter for TCP on netlink messages."""
    netlink, size = 253, 32
    file = tmp_path / "netlink.pcap"
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, netlink)
    file.write_bytes(head + struct.pack("<IIII", 1, 0, size, size) + bytes(size))
    played = {"name": "nl0", "replay": str(file)}
    daemon = make({"general": {"exclude": "tcp port 1"}, "interface 1": played}).start()
    daemon.request(interface=["nl0"], id="one")
    assert finished(daemon, "one")["packets"] == 1
    refused = daemon.request(interface=["nl0"], bpf="tcp port 2")
    assert refused.status_code == 400


def test_without_a_token_nothing_is_left_out(daemon: DaemonProcess) -> None:
    daemon.request(interface=["lo"], id="one", bpf=f"tcp port {daemon.port}", packets=5)
    eventually(lambda: daemon.logged("capture started", id="one"))
    assert finished(daemon, "one")["packets"] == 5
