"""Alerts of real systems: Alertmanager, and snmptrapd with traps of all versions."""

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.conftest import Make
from tests.helpers import Wire, eventually, numbers
from tests.servers import PCAPDAEMON, DaemonProcess, Server, free_port

TOKEN = "a-token-of-the-alertmanager"  # of this test


class Alertmanager(Server):
    """An Alertmanager that sends its alerts to a trigger at once."""

    def __init__(self, directory: Path, url: str) -> None:
        self.port = free_port()
        receiver = {
            "name": "pcapdaemon",
            "webhook_configs": [
                {"url": url, "http_config": {"authorization": {"credentials": TOKEN}}}
            ],
        }
        route = {
            "receiver": "pcapdaemon",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
        }
        config = directory / "alertmanager.yml"
        config.write_text(json.dumps({"route": route, "receivers": [receiver]}))
        self._process = subprocess.Popen(
            [
                "prometheus-alertmanager",
                f"--config.file={config}",
                f"--storage.path={directory}/alertmanager",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--cluster.listen-address=",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._answers)

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/-/ready", timeout=2).is_success
        except httpx2.TransportError:
            return False

    def alert(self, age: float, over: bool = False, **labels: str) -> None:
        """Give it an alert that began some seconds ago, as Prometheus does."""
        began = datetime.fromtimestamp(time.time() - age, UTC)
        alert: dict[str, Any] = {
            "labels": {"alertname": "Retransmits", **labels},
            "annotations": {"summary": "too many retransmissions"},
            "startsAt": began.isoformat(),
            "generatorURL": "http://prometheus:9090/graph?g0.expr=x",
        }
        if over:
            alert["endsAt"] = datetime.now(UTC).isoformat()
        url = f"http://127.0.0.1:{self.port}/api/v2/alerts"
        assert httpx2.post(url, json=[alert], timeout=10).is_success


def recorder(wire: Wire) -> dict[str, Any]:
    return {"recorder 1": {"interface": wire.far, "memory": "16MiB"}}


@pytest.fixture
def alertmanager(make: Make, wire: Wire, tmp_path: Path) -> Iterator[Any]:
    table = {
        "name": "am",
        "kind": "alertmanager",
        "token": TOKEN,
        "match": {"labels.alertname": "Retrans*"},
        "lookback": 10,
        "on_resolved": "stop",
        "request": {
            "interface": wire.far,
            "duration": 30,
            "timeout": 30,
            "comment": "{annotations.summary}",
        },
    }
    general = {"maxtimeout": 60, "statedir": str(tmp_path / "state")}
    daemon = make({**recorder(wire), "general": general, "trigger 1": table}).start()
    eventually(lambda: daemon.logged("recorder records"))
    server = Alertmanager(tmp_path, f"http://127.0.0.1:{daemon.port}/triggers/am")
    yield daemon, server
    server.kill()


def recorded(daemon: DaemonProcess, packets: int) -> None:
    eventually(lambda: daemon.api("GET", "/recorders").json()[0]["packets"] >= packets)


def test_an_alert_of_alertmanager_is_one_capture_until_it_is_resolved(
    alertmanager: Any, wire: Wire
) -> None:
    daemon, server = alertmanager
    wire.send(20)
    recorded(daemon, 20)
    labels = {"src_ip": "10.99.0.1", "dst_ip": "10.99.0.2", "dst_port": "9000", "proto": "udp"}
    for _ in range(10):
        server.alert(2, **labels)
    (accepted,) = eventually(lambda: daemon.logged("request accepted"))
    name = accepted["id"]
    server.alert(1, alertname="Other")
    eventually(lambda: daemon.logged("capture started", id=name))
    wire.send(5)
    recorded(daemon, 25)
    server.alert(2, over=True, **labels)
    eventually(lambda: daemon.logged("request finished", id=name))
    (capture,) = daemon.record(name)["captures"]
    assert (capture["stop_reason"], capture["lookback"]["packets"]) == ("stopped", 20)
    assert numbers(daemon.captures / capture["file_name"]) == [*range(20), *range(5)]
    daemon.reported("request accepted", 1)
    cause = daemon.record(name)["cause"]
    assert (cause["system"], cause["title"]) == ("alertmanager", "too many retransmissions")
    found = daemon.api("GET", "/captures", params={"cause": "retransmissions"}).json()
    assert [one["id"] for one in found] == [name]


USER, ENGINE = "watcher", "0x8000000001020304"
KEYS = ("a-long-password", "another-password")


@pytest.fixture
def traps(make: Make, wire: Wire, tmp_path: Path) -> Iterator[tuple[DaemonProcess, str]]:
    table = {
        "name": "snmp",
        "kind": "snmp",
        "match": {"trap": "iso.3.6.1.6.3.1.1.5.*"},
        "flow": "host",
        "flow_from": {"src": "address"},
        "request": {"interface": "lo", "duration": 1, "tags": "trap:{trap}"},
    }
    daemon = make({"trigger 1": table}).start()
    address = f"127.0.0.1:{free_port()}"
    config = tmp_path / "snmptrapd.conf"
    command = f"{PCAPDAEMON} trigger snmp --url http://127.0.0.1:{daemon.port}"
    config.write_text(
        "authCommunity execute public\n"
        f"createUser -e {ENGINE} {USER} SHA {KEYS[0]} AES {KEYS[1]}\n"
        f"authUser execute {USER}\n"
        f"traphandle default {command}\n"
    )
    log = tmp_path / "log"
    state = {
        "MIBS": "",
        "SNMP_PERSISTENT_DIR": str(tmp_path / "snmp"),
        "PATH": "/usr/sbin:/usr/bin:/bin",
    }
    server = subprocess.Popen(
        ["snmptrapd", "-f", "-C", "-c", str(config), "-Lf", str(log), address], env=state
    )
    eventually(lambda: log.exists() and "NET-SNMP version" in log.read_text())
    yield daemon, address
    server.kill()
    server.wait()


V3 = (
    *("-v3", "-e", ENGINE, "-u", USER, "-l", "authPriv"),
    *("-a", "SHA", "-A", KEYS[0], "-x", "AES", "-X", KEYS[1]),
)


@pytest.mark.parametrize(
    ("options", "trap"),
    [
        (("-v1", "-c", "public"), ("1.3.6.1.4.1.8072.2.3", "127.0.0.1", "2", "0", "")),
        (("-v2c", "-c", "public"), ("", "1.3.6.1.6.3.1.1.5.3")),
        (V3, ("", "1.3.6.1.6.3.1.1.5.3")),
    ],
    ids=["v1", "v2c", "v3"],
)
def test_a_trap_of_each_version_starts_a_capture(
    traps: tuple[DaemonProcess, str], options: tuple[str, ...], trap: tuple[str, ...]
) -> None:
    daemon, address = traps
    index = ("1.3.6.1.2.1.2.2.1.1.3", "i", "3")
    send = ["snmptrap", "-m", "", *options, address, *trap, *index]
    for _ in range(2):
        subprocess.run(send, check=True, capture_output=True)
    eventually(lambda: len(daemon.logged("alert judged", trigger="snmp")) == 2)
    (accepted,) = daemon.reported("request accepted", 1)
    assert "host 127.0.0.1" in accepted["bpf"]
    record = daemon.record(accepted["id"])
    assert record["tags"] == "trap:iso.3.6.1.6.3.1.1.5.3"
    other = ["snmptrap", "-m", "", "-v2c", "-c", "wrong", address, "", "1.3.6.1.6.3.1.1.5.4"]
    subprocess.run(other, check=True, capture_output=True)
    eventually(lambda: daemon.logged("request finished"))
    daemon.reported("alert judged", 2)  # a trap with a wrong community starts nothing
