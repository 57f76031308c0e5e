"""Pods of a real containerd with CNI, captured by name."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Make
from tests.acceptance.test_targets import begin, ended, the_file
from tests.containerd import BRIDGE, Containerd, RealPod
from tests.helpers import eventually, tshark
from tests.privileges import capability, opened_to_users
from tests.servers import DaemonProcess

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    containerd = Containerd(tmp_path_factory.mktemp("containerd"))
    yield containerd
    containerd.close()


@pytest.fixture
def pod(containerd: Containerd) -> RealPod:
    return RealPod(containerd, "shop/web-1")


@pytest.fixture
def daemon(make: Make, containerd: Containerd) -> DaemonProcess:
    section = {"logs": str(containerd.logs), "inside": True}
    daemon = opened_to_users(make({"targets": section}))
    wrapper = [*containerd.inside, *capability("+net_raw")]
    return daemon.start(wrapper=wrapper)


def talk(pod: RealPod) -> None:
    """Send a datagram to the pod, whose kernel answers that nobody receives it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (pod.address, 4242))


def test_a_pod_is_captured_by_name_through_its_restart_and_its_end(
    daemon: DaemonProcess, containerd: Containerd, pod: RealPod
) -> None:
    assert daemon.process
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    assert "CapEff:\t0000000000002000" in status
    other = RealPod(containerd, "shop/db-0")
    name = begin(daemon, pod="shop/web-*", bpf="udp or icmp", format="pcapng")
    capture = daemon.record(name)["captures"][0]
    shown = subprocess.run(
        ["ip", "-o", "link", "show", "master", BRIDGE], check=True, capture_output=True, text=True
    )
    assert f" {capture['interface']}@" in shown.stdout
    assert capture["target"]["uid"] == pod.uid
    talk(other)
    talk(pod)
    eventually(lambda: daemon.record(name)["captures"][0]["packets"] >= 2)
    pod.restart()
    talk(pod)
    eventually(lambda: daemon.record(name)["captures"][0]["packets"] >= 4)
    pod.end()
    (capture,) = ended(daemon, name)
    assert (capture["stop_reason"], capture["complete"]) == ("gone", True), capture["missing"]
    rows = tshark(the_file(capture), "ip.src", "ip.dst")
    assert len(rows) == capture["packets"]
    assert {other.address} & {address for row in rows for address in row} == set()
    answer = daemon.api("POST", "/captures", json={"pod": "shop/web-1"}).json()
    assert answer["state"] == "elsewhere"
    other.end()


def test_the_pod_of_the_same_name_that_follows_is_found(
    daemon: DaemonProcess, containerd: Containerd
) -> None:
    first = RealPod(containerd, "shop/db-0")
    first.end()
    second = RealPod(containerd, "shop/db-0")
    name = begin(daemon, pod="shop/db-0", bpf="udp", packets=1)
    talk(second)
    (capture,) = ended(daemon, name)
    assert (capture["packets"], capture["target"]["uid"]) == (1, second.uid)
    by_id = begin(daemon, node="any", container=second.app[:12], bpf="udp", packets=1)
    talk(second)
    (capture,) = ended(daemon, by_id)
    assert capture["target"]["pod"] == "shop/db-0"
    second.end()
