"""Captures that are aimed at pods, namespaces, processes and units, by the installed daemon."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Make
from tests.helpers import eventually, numbers
from tests.privileges import capability, opened_to_users
from tests.servers import PCAPDAEMON, DaemonProcess
from tests.targets import Cluster, Pod


@pytest.fixture
def cluster(tmp_path: Path, sender: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "node", sender)
    yield cluster
    cluster.close()


@pytest.fixture
def daemon(make: Make, cluster: Cluster) -> DaemonProcess:
    return make({"targets": cluster.section(inside=True)}).start()


def begin(daemon: DaemonProcess, **message: Any) -> str:
    """Send a request, and return its id when its capture has begun."""
    answer = daemon.request(**{"timeout": 60, **message})
    assert answer.status_code == 202, answer.text
    name = str(answer.json()["id"])
    eventually(lambda: all(one["started_at"] for one in daemon.record(name)["captures"]))
    return name


def ended(daemon: DaemonProcess, name: str) -> list[dict[str, Any]]:
    """Wait for the end of a request, and return its captures."""
    eventually(lambda: daemon.record(name)["state"] == "finished")
    return list(daemon.record(name)["captures"])


def the_file(capture: dict[str, Any]) -> Path:
    return Path(capture["delivered"]["local"]["where"])


def test_a_pod_is_captured_by_name_in_both_directions(
    daemon: DaemonProcess, cluster: Cluster
) -> None:
    web, _ = cluster.pod("shop/web-1"), cluster.pod("shop/db-0")
    name = begin(daemon, pod="shop/web-*", packets=20, format="pcapng", tags="mine")
    web.sends(10)
    web.wire.send(10)
    (capture,) = ended(daemon, name)
    target = {"pod": "shop/web-1", "uid": web.uid, "container": ["app"], "inside": False}
    assert capture["target"] == target
    assert (capture["interface"], capture["packets"]) == (web.interface, 20)
    assert (capture["complete"], capture["one_sided"]) == (True, False)
    described = subprocess.run(
        ["tshark", "-r", the_file(capture), "-T", "fields", "-e", "frame.interface_description"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert set(described.stdout.split("\n")) - {""} == {"pod shop/web-1, the end on the host"}
    assert b'"target": {"pod": "shop/web-1"' in the_file(capture).read_bytes()
    eventually(lambda: daemon.logged("capture stopped", id=name, target=target))


def test_the_node_is_chosen_by_the_pod(daemon: DaemonProcess, cluster: Cluster) -> None:
    pod = cluster.pod("shop/web-1")
    answer = daemon.api("POST", "/captures", json={"pod": "shop/db-*"}).json()
    assert answer["state"] == "elsewhere"
    assert answer["detail"] == "this node has no pod shop/db-*"
    both = {"pod": ["shop/web-1"], "container": "db"}
    assert daemon.api("POST", "/captures", json=both).json()["state"] == "elsewhere"
    begin(daemon, id="mine", pod=pod.name)
    with_node = daemon.request(node="other", pod=pod.name).json()
    assert with_node["state"] == "elsewhere"


def test_the_end_of_a_pod_ends_its_capture_which_is_complete(
    daemon: DaemonProcess, cluster: Cluster
) -> None:
    pod = cluster.pod("shop/web-1")
    name = begin(daemon, pod="shop/web-1")
    pod.wire.send(10)
    pod.sends(5)
    eventually(lambda: daemon.record(name)["captures"][0]["packets"] == 15)
    pod.end()
    (capture,) = ended(daemon, name)
    assert (capture["stop_reason"], capture["packets"]) == ("gone", 15)
    assert capture["complete"], capture["missing"]


def test_a_pod_of_the_same_name_is_the_one_that_runs(
    daemon: DaemonProcess, cluster: Cluster
) -> None:
    """The kernel uses the number of a namespace again, and the kubelet keeps old logs."""
    old = cluster.pod("shop/db-0")
    old.end()
    new = cluster.pod("shop/db-0")
    assert old.log.exists()
    name = begin(daemon, pod="shop/db-0", packets=3)
    new.wire.send(3)
    (capture,) = ended(daemon, name)
    assert (capture["interface"], capture["target"]["uid"]) == (new.interface, new.uid)


def test_inside_is_the_loopback_of_the_pod(daemon: DaemonProcess, cluster: Cluster) -> None:
    pod = cluster.pod("shop/web-1")
    name = begin(daemon, pod="shop/web-1", inside=True, interface=["lo"], packets=4)
    pod.sends(4, "lo")
    (capture,) = ended(daemon, name)
    assert (capture["interface"], capture["target"]["inside"]) == ("lo@shop/web-1", True)
    assert numbers(the_file(capture)) == [0, 1, 2, 3]


def test_the_end_of_a_pod_ends_a_capture_inside(daemon: DaemonProcess, cluster: Cluster) -> None:
    pod = cluster.pod("shop/web-1")
    name = begin(daemon, pod="shop/web-1", inside=True)
    pod.sends(4, "lo")
    eventually(lambda: daemon.record(name)["captures"][0]["packets"] >= 4)
    pod.end()
    (capture,) = ended(daemon, name)
    assert (capture["stop_reason"], capture["complete"]) == ("gone", True)


def test_only_one_direction_is_reported(daemon: DaemonProcess, cluster: Cluster) -> None:
    pod = cluster.pod("shop/web-1")
    name = begin(daemon, pod="shop/web-1", packets=10)
    pod.sends(10)
    (capture,) = ended(daemon, name)
    assert (capture["complete"], capture["one_sided"]) == (False, True)
    assert "bpf_redirect_peer" in capture["missing"][0]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("host", "shop/web-1: it shares the network of the host; name an interface instead"),
        ("apart", "shop/web-1: no interface of this host leads to it"),
    ],
)
def test_what_the_host_does_not_show_is_refused_in_words(
    daemon: DaemonProcess, cluster: Cluster, kind: str, words: str
) -> None:
    cluster.pod("shop/web-1", kind)
    answer = daemon.request(pod="shop/web-1")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "pod"
    assert answer.json()["errors"][0]["message"].startswith(words)


def test_what_has_no_end_on_the_host_is_seen_inside(
    daemon: DaemonProcess, cluster: Cluster
) -> None:
    pod = cluster.pod("shop/web-1", "apart")
    name = begin(daemon, pod="shop/web-1", inside=True, interface="lo", packets=2)
    pod.sends(2, "lo")
    assert ended(daemon, name)[0]["packets"] == 2


def test_the_node_says_what_is_allowed(make: Make, cluster: Cluster) -> None:
    cluster.pod("shop/web-1")
    cluster.pod("bank/vault-0")
    allowed = cluster.section(allow=["pod:shop/*"])
    daemon = make({"targets": allowed}).start()
    problem = daemon.request(pod="bank/vault-0").json()["errors"][0]["message"]
    assert problem == "bank/vault-0: [targets] allow does not allow it"
    name = begin(daemon, pod="*/*")
    assert [one["target"]["pod"] for one in daemon.record(name)["captures"]] == ["shop/web-1"]
    problem = daemon.request(pod="shop/web-1", inside=True).json()["errors"][0]["message"]
    assert problem == "shop/web-1: [targets] inside is not set on this node"
    assert daemon.request(pod="no/such", inside=True).json()["state"] == "elsewhere"
    answer = daemon.api("POST", "/captures", json={"cancel": "x", "pod": "no/such"})
    assert "can't be combined with cancel" in answer.text
    problem = daemon.request(process=1).json()["errors"][0]["message"]
    assert problem == "1: [targets] allow does not allow it"


def test_too_many_interfaces_are_refused_with_their_names(make: Make, cluster: Cluster) -> None:
    for number in range(3):
        cluster.pod(f"shop/web-{number}")
    daemon = make({"targets": cluster.section(most=2)}).start()
    problem = daemon.request(pod="shop/*").json()["errors"][0]["message"]
    words = "shop/*: 3 interfaces, and [targets] most = 2: shop/web-0, shop/web-1, shop/web-2"
    assert problem == words


def _of_netns(pod: Pod) -> dict[str, Any]:
    name = f"test-{pod.interface}"
    subprocess.run(["ip", "netns", "attach", name, str(pod.process.pid)], check=True)
    return {"netns": name}


def _of_unit(pod: Pod) -> dict[str, Any]:
    unit = pod.cluster.cgroup / "system.slice" / "web.service"
    unit.mkdir(parents=True)
    (unit / "cgroup.procs").write_text(f"{pod.process.pid}\n")
    return {"unit": "web"}


@pytest.mark.parametrize(
    "message_of",
    [
        _of_netns,
        _of_unit,
        lambda pod: {"process": pod.process.pid},
        lambda pod: {"container": pod.id[:12]},
    ],
    ids=["netns", "unit", "process", "container"],
)
def test_other_targets(
    daemon: DaemonProcess, cluster: Cluster, message_of: Callable[[Pod], dict[str, Any]]
) -> None:
    pod = cluster.pod("shop/web-1")
    message = message_of(pod)
    try:
        name = begin(daemon, **message, packets=3)
    finally:
        if "netns" in message:
            subprocess.run(["ip", "netns", "del", message["netns"]], check=True)
    pod.wire.send(3)
    (capture,) = ended(daemon, name)
    assert (capture["interface"], capture["packets"]) == (pod.interface, 3)


def test_no_privilege_but_that_of_capturing_is_needed(make: Make, cluster: Cluster) -> None:
    pod = cluster.pod("shop/web-1")
    daemon = opened_to_users(make({"targets": cluster.section(inside=True)}))
    daemon.start(wrapper=capability("+net_raw"))
    status = Path(f"/proc/{daemon.process.pid}/status").read_text() if daemon.process else ""
    assert "CapEff:\t0000000000002000" in status
    name = begin(daemon, pod="shop/web-1", packets=2)
    pod.wire.send(2)
    assert ended(daemon, name)[0]["packets"] == 2
    answer = daemon.request(pod="shop/web-1", inside=True, interface="lo")
    assert answer.status_code == 503
    assert "CAP_SYS_ADMIN" in answer.json()["hint"]


def test_results_say_what_an_interface_leads_to(daemon: DaemonProcess, cluster: Cluster) -> None:
    pod = cluster.pod("shop/web-1")
    answer = daemon.request(pod="shop/web-1", dryrun=True).json()
    assert answer["targets"][pod.interface]["pod"] == "shop/web-1"


def test_the_command_line_lists_and_captures_targets(tmp_path: Path, cluster: Cluster) -> None:
    pod, _ = cluster.pod("shop/web-1"), cluster.pod("shop/agent", "host")
    config = tmp_path / "c.toml"
    lines = [f"{key} = {json.dumps(value)}" for key, value in cluster.section().items()]
    own = [f"localdir = '{tmp_path}'", "writelocal = true", "[http]", "listen = true"]
    config.write_text("\n".join(["[general]", *own, "[targets]", *lines]))
    command = [str(PCAPDAEMON), "targets", "--config", str(config), "--json"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    found = {row["target"]: row for row in rows}
    assert found["pod:shop/web-1"]["interfaces"] == [pod.interface]
    assert "shares the network" in found["pod:shop/agent"]["reason"]
    file = tmp_path / "f.pcap"
    command = [str(PCAPDAEMON), "capture", "--config", str(config), "--pod", "shop/web-1"]
    with subprocess.Popen(
        [*command, "-c", "3", "-w", str(file)], stderr=subprocess.PIPE, text=True
    ) as capture:
        assert capture.stderr
        assert "capturing on" in capture.stderr.readline()
        pod.wire.send(3)
    assert numbers(file) == [0, 1, 2]


def recorded(daemon: DaemonProcess) -> dict[str, str | None]:
    """Return the pod of each recorder that records."""
    rows = daemon.api("GET", "/recorders").json()
    return {one["interface"]: (one["target"] or {}).get("pod") for one in rows if one["recording"]}


def of_pods(total: int = 64) -> dict[str, Any]:
    return {"pods": "shop/*", "memory": 8 << 20, "total": total << 20}


def test_pods_have_recorders_as_they_come_and_go(make: Make, cluster: Cluster) -> None:
    first = cluster.pod("shop/web-1")
    cluster.pod("bank/vault-0")
    tables = {"targets": cluster.section(), "recorder 1": of_pods()}
    daemon = make(tables).start()
    eventually(lambda: recorded(daemon) == {first.interface: "shop/web-1"})
    second = cluster.pod("shop/web-2")
    there = {first.interface: "shop/web-1", second.interface: "shop/web-2"}
    eventually(lambda: recorded(daemon) == there)
    second.wire.send(6)
    second.sends(4)

    def looks_back() -> bool:
        name = begin(daemon, pod="shop/web-2", lookback=60, packets=1, timeout=1)
        (capture,) = ended(daemon, name)
        return bool(capture["lookback"]["packets"] == 10)

    eventually(looks_back)
    first.end()
    eventually(lambda: recorded(daemon) == {second.interface: "shop/web-2"})
    daemon.write_config({"targets": cluster.section()})
    daemon.signal(signal.SIGHUP)
    eventually(lambda: recorded(daemon) == {})
    assert daemon.stop() == 0


def test_the_recorders_of_pods_have_one_budget(make: Make, cluster: Cluster) -> None:
    pods = [cluster.pod(f"shop/web-{number}") for number in range(3)]
    daemon = make({"targets": cluster.section(), "recorder 1": of_pods(total=16)}).start()
    both = {pod.interface: pod.name for pod in pods[:2]}
    eventually(lambda: recorded(daemon) == both)
    words = "pods have no recorder: [[recorder]] total is used up"
    (line,) = eventually(lambda: daemon.logged(words))
    assert line["pods"] == ["shop/web-2"]
    pods[0].end()
    eventually(lambda: recorded(daemon) == {pod.interface: pod.name for pod in pods[1:]})


def test_several_pods_in_one_file(daemon: DaemonProcess, cluster: Cluster, tmp_path: Path) -> None:
    pods = [cluster.pod("shop/web-1"), cluster.pod("shop/web-2", container="other")]
    name = begin(daemon, pod="shop/*", merge=True, packets=6)
    for pod in pods:
        pod.sends(3)
    (capture,) = ended(daemon, name)
    assert capture["target"]["pod"] == "shop/web-1+shop/web-2"
    assert capture["target"]["container"] == ["app", "other"]
    assert capture["one_sided"]
    answer = daemon.request(pod="shop/*", merge=True, dryrun=True).json()
    assert answer["targets"]["+".join(pod.interface for pod in pods)]["pod"]


def test_a_request_of_a_pod_that_has_ended_is_answered_as_before(
    daemon: DaemonProcess, cluster: Cluster
) -> None:
    pod = cluster.pod("shop/web-1")
    name = begin(daemon, pod="shop/web-1", id="once")
    assert daemon.request(pod="shop/web-1", id="once", dryrun=True).json()["state"] == "dryrun"
    pod.end()
    ended(daemon, name)
    again = daemon.request(pod="shop/web-1", id="once")
    assert again.status_code == 202, again.text
    assert again.json()["interface"] == [pod.interface]


@contextmanager
def napping(directory: Path, name: bytes, pods: Sequence[Pod]) -> Iterator[list[int]]:
    """Run a program of that name in each pod, and yield the processes."""
    program = os.fsencode(directory) + b"/" + name
    shutil.copyfile(b"/bin/sleep", program)
    os.chmod(program, 0o755)
    processes = [
        subprocess.Popen([b"nsenter", b"--net=/proc/%d/ns/net" % pod.process.pid, program, b"100"])
        for pod in pods
    ]
    try:
        called = name[:15] + b"\n"
        for one in processes:
            eventually(lambda pid=one.pid: Path(f"/proc/{pid}/comm").read_bytes() == called)  # type: ignore[misc]
        yield [one.pid for one in processes]
    finally:
        for one in processes:
            one.kill()
            one.wait()


def test_names_of_processes_may_be_any_bytes(
    daemon: DaemonProcess, cluster: Cluster, tmp_path: Path
) -> None:
    pod = cluster.pod("shop/web-1")
    with napping(tmp_path, b"\xff\xfe", [pod]), napping(tmp_path, b"nap-of-one", [pod]):
        answer = daemon.request(process=["nap-of-one"], dryrun=True).json()
    assert answer["targets"][pod.interface]["process"] == "nap-of-one", answer


def test_inside_never_is_the_network_of_the_host(daemon: DaemonProcess, cluster: Cluster) -> None:
    """Also if one process of a pod in the host's network has another one, or a name leads there."""
    agent, other = cluster.pod("kube-system/agent", "host"), cluster.pod("shop/web-1")
    procs = agent.scope / "cgroup.procs"
    procs.write_text(f"{agent.process.pid}\n{other.process.pid}\n")
    subprocess.run(["ip", "netns", "attach", "own", str(os.getpid())], check=True)
    try:
        for kind, name in (("pod", "kube-system/agent"), ("netns", "own")):
            for inside in (False, True):
                message: dict[str, Any] = {kind: name, "inside": inside}
                answer = daemon.request(**message)
                assert answer.status_code == 400
                assert "shares the network of the host" in answer.text
    finally:
        subprocess.run(["ip", "netns", "del", "own"], check=True)


@pytest.mark.parametrize("device", ["dbus-system", "nflog:1", "usbmon0", "a/b", 16 * "x", ""])
def test_only_interfaces_are_captured_inside(
    daemon: DaemonProcess, cluster: Cluster, device: str
) -> None:
    cluster.pod("shop/web-1")
    answer = daemon.request(pod="shop/web-1", inside=True, interface=[device])
    assert answer.status_code == 400
    assert "is no name of a network interface" in answer.text
    answer = daemon.request(pod="shop/web-1", inside=True, interface=["eth9"])
    assert answer.status_code == 400
    assert answer.json()["hint"] == ""


def test_processes_of_one_name_in_several_namespaces_are_several_targets(
    daemon: DaemonProcess, cluster: Cluster, tmp_path: Path
) -> None:
    pods = [cluster.pod("shop/web-1"), cluster.pod("shop/web-2")]
    with napping(tmp_path, b"nap-of-many", pods) as pids:
        for inside in (False, True):
            answer = daemon.request(process="nap-of-many", inside=inside, dryrun=True).json()
            names = {one["process"] for one in answer["targets"].values()}
            assert names == {f"nap-of-many.{pid}" for pid in pids}
