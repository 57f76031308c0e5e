"""The daemon, used like its users do."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.conftest import Make
from tests.helpers import Wire, eventually, numbers, tshark
from tests.privileges import capability, opened_to_users
from tests.servers import PCAPDAEMON, DaemonProcess, RedisServer, free_port, wait_for_file

ROOT = Path(__file__).parents[2]


def running(daemon: DaemonProcess, request_id: str) -> bool:
    record = daemon.record(request_id)
    return bool(record.get("captures")) and all(
        capture["state"] == "running" for capture in record["captures"]
    )


def test_embedded_default_says_three_lines_and_the_one_to_try_works(make: Make) -> None:
    daemon = make().start([])
    lines = [line for line in daemon.log_path.read_text().splitlines() if not line.startswith("{")]
    assert len(lines) == 3
    assert "http://127.0.0.1:8723" in lines[0]
    assert str(daemon.directory / "captures") in lines[1]
    command = (
        lines[2].removeprefix("try: ").replace('"packets": 10', '"packets": 10, "id": "tried"')
    )
    curl = subprocess.Popen(["sh", "-c", f"{command} -sS"], stdout=subprocess.PIPE)
    daemon.port = 8723
    eventually(lambda: running(daemon, "tried"))
    for _ in range(10):
        daemon.api("GET", "/healthz")
    answer = json.loads(curl.communicate(timeout=20)[0])
    assert answer["captures"][0]["packets"] == 10
    assert (
        len(tshark(Path(answer["captures"][0]["delivered"]["local"]["where"]), "frame.number"))
        == 10
    )
    assert daemon.stop() == 0


def test_term_in_the_middle_of_a_capture_delivers_it_and_ends_with_0(
    daemon: DaemonProcess, wire: Wire
) -> None:
    daemon.request(interface=[wire.far], id="cut")
    eventually(lambda: running(daemon, "cut"))
    wire.send(100)
    assert daemon.stop() == 0
    assert numbers(wait_for_file(daemon.captures, "*cut.pcap")) == list(range(100))
    eventually(
        lambda: daemon.logged("capture stopped", id="cut", stop_reason="shutdown", packets=100)
    )


def test_second_signal_ends_at_once(make: Make, wire: Wire) -> None:
    daemon = make().start()
    daemon.lose_directory()
    daemon.request(interface=[wire.far], id="stuck")
    eventually(lambda: running(daemon, "stuck"))
    wire.send(10)
    daemon.signal(signal.SIGTERM)
    eventually(lambda: daemon.logged("delivery delayed"))
    daemon.signal(signal.SIGINT)
    assert daemon.wait(2) == 1


def test_what_cannot_be_delivered_before_the_end_is_named(make: Make, wire: Wire) -> None:
    daemon = make({"general": {"draintime": 1}}).start()
    daemon.lose_directory()
    daemon.request(interface=[wire.far], id="lost")
    eventually(lambda: running(daemon, "lost"))
    wire.send(10)
    assert daemon.stop() == 0
    (lost,) = daemon.reported("savefile lost", 1, id="lost")
    assert (lost["packets"], lost["destination"]) == (10, "local")


def test_directory_that_is_gone_for_a_while_is_retried_until_it_is_back(
    daemon: DaemonProcess, wire: Wire
) -> None:
    daemon.lose_directory()
    daemon.request(interface=[wire.far], id="late", packets=5)
    eventually(lambda: running(daemon, "late"))
    wire.send(5)
    eventually(
        lambda: (
            "No such file or directory; will be retried"
            in daemon.record("late")["captures"][0]["reason"]
        )
    )
    daemon.captures.mkdir()
    assert numbers(wait_for_file(daemon.captures, "*late.pcap", 20)) == list(range(5))
    assert eventually(lambda: daemon.record("late")["state"] == "finished")
    assert daemon.record("late")["captures"][0]["state"] == "delivered"


def test_interface_deleted_under_a_capture(daemon: DaemonProcess, wire: Wire) -> None:
    daemon.request(interface=[wire.far], id="gone")
    eventually(lambda: running(daemon, "gone"))
    wire.send(7)
    subprocess.run(["ip", "link", "del", wire.far], check=True)
    assert numbers(wait_for_file(daemon.captures, "*gone.pcap")) == list(range(7))
    assert daemon.record("gone")["captures"][0]["stop_reason"] == "interface-down"


def test_interface_that_came_up_a_moment_ago_is_captured_on(
    daemon: DaemonProcess, wire: Wire
) -> None:
    subprocess.run(
        ["ip", "link", "add", "new0", "type", "veth", "peer", "name", "new1"], check=True
    )
    try:
        assert daemon.request(interface=["new1"], id="new").status_code == 400, "it is down"
        subprocess.run(["ip", "link", "set", "new1", "up"], check=True)
        assert daemon.request(interface=["new1"], id="new2").status_code == 202
        assert daemon.api("DELETE", "/captures/new2").status_code == 202
    finally:
        subprocess.run(["ip", "link", "del", "new0"], check=True)


def test_nothing_captured_is_an_answer_and_no_file(daemon: DaemonProcess, wire: Wire) -> None:
    record = daemon.request(wait=True, interface=[wire.far], timeout=1).json()
    assert record["captures"][0]["state"] == "empty"
    assert record["captures"][0]["stop_reason"] == "idle"
    assert list(daemon.captures.iterdir()) == []


def test_several_interfaces_are_several_captures_under_one_id(
    daemon: DaemonProcess, wire: Wire
) -> None:
    daemon.request(interface=[wire.near, wire.far, "nope9"], id="two", packets=5)
    wire.send(5)
    eventually(lambda: daemon.record("two")["state"] == "finished")
    captures = {capture["interface"]: capture for capture in daemon.record("two")["captures"]}
    assert captures[wire.near]["packets"] == captures[wire.far]["packets"] == 5
    assert captures["nope9"]["state"] == "failed"
    assert len(list(daemon.captures.iterdir())) == 2


def test_200_requests_in_a_second_are_all_answered_and_memory_stays_under_its_budget(
    make: Make, wire: Wire
) -> None:
    daemon = make({"general": {"memory": 64 << 20, "maxcaptures": 16}}).start()
    sending = wire.sending(3_000_000, size=1000, rate=100_000)
    message: dict[str, Any] = {
        "interface": [wire.far],
        "packets": 50_000,
        "bytes": 50_000_000,
        "duration": 5,
    }
    most = [0]

    def one(number: int) -> Any:
        answer = daemon.request(id=f"storm-{number}", **message)
        most[0] = max(most[0], daemon.resident())
        return answer

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(one, range(200)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {202, 429}
    assert statuses.count(202) >= 1
    assert all(
        "maxcaptures" in a.json()["detail"] or "memory" in a.json()["detail"]
        for a in answers
        if a.status_code == 429
    )
    accepted = [f"storm-{number}" for number, status in enumerate(statuses) if status == 202]
    while not all(daemon.record(name)["state"] == "finished" for name in accepted):
        most[0] = max(most[0], daemon.resident())
    sending.kill()
    sending.wait()
    assert most[0] < (64 + 80) << 20
    for name in accepted:
        capture = daemon.record(name)["captures"][0]
        assert capture["state"] == "delivered", capture
        assert capture["stop_reason"] in ("packets", "bytes", "duration", "memory")
    assert daemon.stop() == 0


def test_reload_changes_what_changed_and_refuses_what_is_wrong_whole(
    make: Make, wire: Wire
) -> None:
    daemon = make().start()
    daemon.request(interface=[wire.far], id="before")
    eventually(lambda: running(daemon, "before"))
    daemon.config.write_text(daemon.config.read_text() + "\nmaxpackets = 7\n")
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.logged("configuration reloaded"))
    assert "maxpackets = 7" in daemon.request(interface=[wire.far], packets=8).json()["detail"]
    assert running(daemon, "before"), "what runs is left alone"
    daemon.config.write_text(daemon.config.read_text() + "\nsnaplength = 'x'\nmaxbytes = -1\n")
    daemon.signal(signal.SIGHUP)
    refused = eventually(lambda: daemon.logged("configuration refused, the old one is kept"))
    assert len(refused[0]["problems"]) == 2
    assert daemon.request(interface=[wire.far], packets=8).status_code == 400
    assert daemon.stop() == 0


def test_reload_switches_syslog_on(make: Make, tmp_path: Path) -> None:
    daemon = make().start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "syslog"))
        syslog.settimeout(10)
        daemon.write_config({"syslog": {"address": str(tmp_path / "syslog"), "priority": 30}})
        daemon.signal(signal.SIGHUP)
        eventually(
            lambda: syslog.recv(2000).startswith(b'<30>pcapdaemon: event="configuration reloaded"')
        )
        assert daemon.stop() == 0


def test_reload_moves_the_api_and_keeps_the_old_where_the_new_port_is_taken(make: Make) -> None:
    daemon = make().start()
    old = daemon.port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon.port = taken.getsockname()[1]
        daemon.write_config({})
        daemon.signal(signal.SIGHUP)
        eventually(lambda: daemon.logged("configuration refused, the old one is kept"))
    daemon.port = old
    assert daemon.api("GET", "/readyz").status_code == 200
    daemon.port = free_port()
    daemon.write_config({})
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.logged("configuration reloaded"))
    assert daemon.api("GET", "/healthz").status_code == 200
    assert daemon.stop() == 0


def test_reload_moves_the_api_to_another_address_of_the_same_port_and_back_where_that_fails(
    make: Make,
) -> None:
    daemon = make().start()
    token = {"authorization": "Bearer long-enough"}
    daemon.write_config({"http": {"host": "0.0.0.0", "token": "long-enough"}})
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.logged("configuration reloaded"))
    assert daemon.api("GET", "/readyz").status_code == 401
    assert daemon.api("GET", "/readyz", headers=token).status_code == 200
    daemon.write_config({"http": {"host": "192.0.2.99", "token": "long-enough"}})
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.logged("configuration refused, the old one is kept"))
    assert daemon.api("GET", "/readyz", headers=token).status_code == 200
    assert daemon.stop() == 0


def test_who_waits_for_a_result_gets_it_though_the_api_moves(make: Make, wire: Wire) -> None:
    daemon = make().start()
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(
            daemon.request(wait=True, interface=[wire.far], id="w", packets=5)
        )
    )
    waiting.start()
    eventually(lambda: running(daemon, "w"))
    daemon.port = free_port()
    daemon.write_config({})
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.logged("configuration reloaded"))
    wire.send(5)
    waiting.join()
    assert answers[0].json()["captures"][0]["state"] == "delivered"
    assert daemon.api("GET", "/captures/w").json()["state"] == "finished"
    assert "Traceback" not in daemon.log_path.read_text()
    assert daemon.stop() == 0


def test_a_reload_just_before_or_after_the_end_is_told_does_no_harm(make: Make, wire: Wire) -> None:
    for first, second in ((signal.SIGHUP, signal.SIGTERM), (signal.SIGTERM, signal.SIGHUP)):
        daemon = make().start()
        assert daemon.request(interface=[wire.far], id="kept").status_code == 202
        wire.send(5)
        daemon.write_config({"http": {"token": "something else"}})
        daemon.signal(first)
        daemon.signal(second)
        assert daemon.wait() == 0
        assert numbers(wait_for_file(daemon.captures, "*kept.pcap")) == list(range(5))
        assert "Traceback" not in daemon.log_path.read_text()


def test_a_configuration_that_no_check_foresaw_does_not_end_the_daemon(make: Make) -> None:
    daemon = make().start()
    daemon.config.write_text(
        daemon.config.read_text() + '\n[redis]\nlisten = true\nauth_file = "a\\u0000b"\n'
    )
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.logged("configuration refused, the old one is kept"))
    assert daemon.stop() == 0


def test_a_directory_that_cannot_be_written_is_said_at_start(make: Make) -> None:
    daemon = make({"general": {"localdir": "/no/such/directory"}}).start()
    reported = eventually(lambda: daemon.logged("destination not ready"))
    assert "No such file or directory" in reported[0]["reason"]


def test_the_id_of_a_request_that_runs_is_out_of_reach_for_others(
    daemon: DaemonProcess, wire: Wire
) -> None:
    daemon.request(interface=[wire.far], id="mine", timeout=60)
    known = daemon.request(interface=["nope"], id="mine")
    assert (known.status_code, known.json()["interface"]) == (202, [wire.far]), (
        "answered as the first was"
    )
    with httpx2.Client(base_url=f"http://127.0.0.1:{daemon.port}", timeout=60) as client:
        for _ in range(1100):
            client.post("/captures", json={"node": "any", "interface": ["nope"]})
    assert daemon.record("mine")["state"] == "running"
    wire.send(3)
    daemon.api("DELETE", "/captures/mine")
    assert numbers(wait_for_file(daemon.captures, "*mine.pcap")) == [0, 1, 2]


def test_systemd_that_does_not_listen_is_no_reason_to_end(make: Make) -> None:
    daemon = make(
        env={**os.environ, "NOTIFY_SOCKET": "/no/such/socket", "WATCHDOG_USEC": "50000"}
    ).start()
    assert daemon.api("GET", "/healthz").status_code == 200
    assert daemon.stop() == 0


def test_systemd_is_told_and_the_watchdog_fed(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(path))
        notified.settimeout(10)
        environment = {**os.environ, "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "200000"}
        daemon = make(env=environment).start()
        reported = {notified.recv(100) for _ in range(4)}
        assert reported == {b"READY=1", b"WATCHDOG=1"}
        daemon.signal(signal.SIGTERM)
        eventually(lambda: notified.recv(100) == b"STOPPING=1")
        assert daemon.wait() == 0


@pytest.fixture
def unprivileged(make: Make, tmp_path_factory: pytest.TempPathFactory) -> DaemonProcess:
    """A daemon with directories that an ordinary user can use."""
    return opened_to_users(make())


def test_an_ordinary_user_with_cap_net_raw_alone_captures(
    unprivileged: DaemonProcess, wire: Wire
) -> None:
    unprivileged.start(wrapper=capability("+net_raw"))
    assert unprivileged.process
    status = Path(f"/proc/{unprivileged.process.pid}/status").read_text()
    assert "CapEff:\t0000000000002000" in status
    assert "CapBnd:\t0000000000002000" in status
    assert unprivileged.request(interface=[wire.far], id="user", packets=5).status_code == 202
    wire.send(5)
    path = wait_for_file(unprivileged.captures, "*user.pcap")
    assert numbers(path) == list(range(5))
    assert path.stat().st_uid == 65534
    assert unprivileged.stop() == 0


def test_without_cap_net_raw_the_answer_says_how_to_give_it(
    unprivileged: DaemonProcess, wire: Wire
) -> None:
    unprivileged.start(wrapper=capability())
    answer = unprivileged.request(interface=[wire.far])
    assert answer.status_code == 503
    assert "permission" in answer.json()["detail"].lower()
    assert "AmbientCapabilities=CAP_NET_RAW" in answer.json()["hint"]


def test_the_unit_is_as_closed_as_it_is_said_to_be() -> None:
    unit = ROOT / "packaging" / "pcapdaemon.service"
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    last = (
        subprocess.run(command, check=True, capture_output=True, text=True)
        .stdout.strip()
        .splitlines()[-1]
    )
    level = float(last.partition("pcapdaemon.service: ")[2].split()[0])
    assert level <= 2.5


def test_the_originals_flags_and_its_redis_messages(make: Make, tmp_path: Path, wire: Wire) -> None:
    redis = RedisServer(tmp_path).start()
    daemon = make()
    flags = [
        "-redisnode",
        "127.0.0.1",
        f"-redisport={redis.port}",
        "-redischannel",
        "cap",
        "-writelocal",
        "-destdir",
    ]
    daemon.start([*flags, str(daemon.captures), "-panic"])
    eventually(lambda: daemon.logged("source connected", source="redis"))
    message = {
        **{
            "node": "any",
            "interface": [wire.far],
            "tags": "blah,tagme,stuff",
            "bpf": "udp and port 9000",
            "snap": 1500,
        },
        **{
            "customer": "importantcustomer",
            "packets": 25,
            "alertid": 655443,
            "timeout": 15,
            "folder": "myfolder",
        },
        **{
            "bucket": "mybucket",
            "acl": "public-read",
            "region": "us-east-1",
            "endpoint": "s3.amazonaws.com",
        },
    }
    with redis.client() as client:
        client.publish("cap", json.dumps(message))
        eventually(lambda: daemon.logged("capture started"))
        wire.send(30)
    path = wait_for_file(daemon.captures, f"{socket.gethostname()}-{wire.far}-*.pcap")
    assert numbers(path) == list(range(25))
    assert daemon.stop() == 0
    redis.kill()


def test_the_originals_configuration_as_it_is(make: Make) -> None:
    daemon = make()
    original = ROOT / "tests" / "unit" / "original.conf"
    refused = subprocess.run(
        [PCAPDAEMON, "-config", original],
        cwd=daemon.directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert refused.returncode == 2
    assert "[[interface]] eth0: this host has no such interface" in refused.stderr
    assert "Traceback" not in refused.stderr
    subprocess.run(
        ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0peer"], check=True
    )
    try:
        daemon.start(["-config", str(original)])
        for destination in ("s3", "cloudshark"):
            eventually(partial(daemon.logged, "destination not ready", destination=destination))
        for source in ("redis", "kafka", "sqs"):
            eventually(partial(daemon.logged, "source not connected", source=source))
        assert daemon.stop() == 0
    finally:
        subprocess.run(["ip", "link", "del", "eth0"], check=True)


def test_redis_killed_under_it_is_told_by_readyz_and_comes_back(
    make: Make, tmp_path: Path, wire: Wire
) -> None:
    redis = RedisServer(tmp_path).start()
    daemon = make({"redis": {"listen": True, "host": "127.0.0.1", "port": redis.port}}).start()
    eventually(lambda: daemon.api("GET", "/readyz").status_code == 200)
    with redis.client() as client:
        client.publish(
            "capture", json.dumps({"node": "any", "interface": [wire.far], "id": "through"})
        )
    eventually(lambda: running(daemon, "through"))
    redis.kill()
    eventually(lambda: daemon.api("GET", "/readyz").status_code == 503)
    assert daemon.api("GET", "/readyz").json()["sources"]["redis"]["connected"] is False
    assert running(daemon, "through"), "a lost source does not end a capture"
    redis.start()
    eventually(lambda: daemon.api("GET", "/readyz").status_code == 200, 3)
    assert daemon.stop() == 0
    redis.kill()


def test_messages_of_strangers_reach_the_log_escaped_and_never_end_it(
    make: Make, tmp_path: Path, wire: Wire
) -> None:
    redis = RedisServer(tmp_path).start()
    daemon = make(
        {
            "redis": {"listen": True, "host": "127.0.0.1", "port": redis.port},
            "general": {"logrequests": True},
        }
    ).start()
    eventually(lambda: daemon.logged("source connected", source="redis"))
    with redis.client() as client:
        for body in (
            b"\xff\x00",
            b"[" * 60_000,
            b"{",
            b"x" * 1_000_000,
            json.dumps({"node": "any", "tags": "\x1b[31m\r\n\x9b"}),
        ):
            client.publish("capture", body)
        client.publish(
            "capture",
            json.dumps(
                {
                    "node": "any",
                    "interface": ["lo"],
                    "id": "last",
                    "bpf": "\x1b]0;x\x07",
                    "duration": 1,
                }
            ),
        )
    eventually(lambda: daemon.logged("request rejected", id="last"))
    raw = daemon.log_path.read_bytes()
    assert b"\x1b" not in raw
    assert b"\x9b" not in raw.replace("\u009b".encode(), b"\x9b")
    daemon.reported("request rejected", 6)
    redis.kill()


def test_packetdebug_logs_a_line_for_each_packet_where_it_is_allowed(
    make: Make, wire: Wire
) -> None:
    daemon = make({"general": {"allow_packetdebug": True}}).start()
    daemon.request(interface=[wire.far], id="debug", packets=3, packetdebug=True)
    wire.send(3, size=77)
    lines = eventually(
        lambda: (
            len(daemon.logged("packet", id="debug")) == 3 and daemon.logged("packet", id="debug")
        )
    )
    assert lines
    assert "captured 77 length 77" in lines[0]["packet"]


def test_a_port_that_is_taken_is_said_in_words(make: Make) -> None:
    first, second = make(), make()
    first.start()
    second.port = first.port
    second.write_config({})
    refused = subprocess.run(
        [PCAPDAEMON, "run", "--config", second.config],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert refused.returncode == 2
    assert "Address already in use" in refused.stderr
    assert "hint:" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_interface_that_the_host_lacks_is_an_error_unless_optional(make: Make) -> None:
    daemon = make()
    daemon.config.write_text(
        daemon.config.read_text() + '\n[[interface]]\nname = "nope0"\nalias = ["a"]\n'
    )
    command = [str(PCAPDAEMON), "run", "--config", str(daemon.config)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert (refused.returncode, "nope0" in refused.stderr) == (2, True)
    daemon.config.write_text(daemon.config.read_text() + "optional = true\n")
    daemon.start()
    assert "no such interface" in daemon.request(alias=["a"]).json()["detail"]


def test_idle_daemon_leaves_no_descriptor_or_thread_behind_after_many_captures(
    daemon: DaemonProcess, wire: Wire
) -> None:
    assert daemon.process
    proc = Path(f"/proc/{daemon.process.pid}")

    def held() -> tuple[int, int]:
        return len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir()))

    def several(prefix: str) -> None:
        for number in range(20):
            assert (
                daemon.request(interface=[wire.far], id=f"{prefix}{number}", duration=1).status_code
                == 202
            )
        wire.send(10)
        eventually(
            lambda: all(daemon.record(f"{prefix}{n}")["state"] == "finished" for n in range(20))
        )

    several("warm")
    time.sleep(0.2)  # until the test's own last connection is closed
    descriptors, threads = held()
    several("again")
    several("more")
    eventually(lambda: held()[0] <= descriptors and held()[1] <= threads)
