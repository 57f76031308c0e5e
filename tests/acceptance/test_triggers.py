"""Alerts start captures: each way in, with packets from before the alert."""

import base64
import hashlib
import hmac
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.conftest import Make
from tests.acceptance.test_cli import command
from tests.aws import KEYS
from tests.helpers import Wire, eventually, numbers, tshark
from tests.kafka_server import produce
from tests.servers import DaemonProcess, RedisServer, free_port
from tests.webhook import Plain

if TYPE_CHECKING:
    from tests.contracts.sources import Shared

FLOW = {
    "src_ip": "10.99.0.1",
    "src_port": 9000,
    "dest_ip": "10.99.0.2",
    "dest_port": 9000,
    "proto": "UDP",
}


def suricata(sid: int = 4711, flow_id: int = 77, age: float = 0.0, **more: Any) -> dict[str, Any]:
    """Return an alert of Suricata about the packets that `Wire.send` sends."""
    at = datetime.fromtimestamp(time.time() - age, UTC).isoformat()
    alert = {"gid": 1, "signature_id": sid, "signature": "a \x1b[31m sign", "severity": 1}
    return {
        "timestamp": at,
        "event_type": "alert",
        "flow_id": flow_id,
        **FLOW,
        "alert": alert,
        **more,
    }


def trigger(wire: Wire, **more: Any) -> dict[str, Any]:
    """Return a `[[trigger]]` for alerts of Suricata."""
    request = {"interface": wire.far, "packets": 20, "duration": 3, **more.pop("request", {})}
    return {"name": "ids", "kind": "suricata", "flow": "required", "request": request, **more}


@pytest.fixture
def made(make: Make, wire: Wire, tmp_path: Path) -> Callable[..., DaemonProcess]:
    """Return a function that starts a daemon with a trigger and a recorder."""

    def start(**more: Any) -> DaemonProcess:
        general = {"statedir": str(tmp_path / "state"), "rate": 0}
        sections = {
            "general": general,
            "recorder 1": {"interface": wire.far, "memory": "16MiB"},
            "trigger 1": trigger(wire, **more),
        }
        daemon = make(sections).start()
        eventually(lambda: daemon.logged("recorder records"))
        return daemon

    return start


def post(daemon: DaemonProcess, alert: Any, **more: Any) -> Any:
    answer = daemon.api("POST", "/triggers/ids", json=alert, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()["alerts"]


def savefile(daemon: DaemonProcess, name: str) -> Path:
    """Wait for the end of a request, and return its savefile."""
    eventually(lambda: daemon.logged("request finished", id=name))
    (capture,) = daemon.record(name)["captures"]
    return daemon.captures / str(capture["file_name"])


def recorded(daemon: DaemonProcess, packets: int) -> None:
    eventually(lambda: daemon.api("GET", "/recorders").json()[0]["packets"] >= packets)


def test_an_alert_gets_the_packets_of_its_flow_from_before_it(
    made: Callable[..., DaemonProcess], wire: Wire
) -> None:
    daemon = made(lookback=10, request={"tags": "sid:{alert.signature_id},{alert.signature}"})
    wire.send(20)
    other_flow(wire)
    recorded(daemon, 21)
    (judged,) = post(daemon, suricata(age=0.5))
    assert (judged["outcome"], judged["id"]) == ("sent", "ids-77-1-4711")
    file = savefile(daemon, judged["id"])
    assert numbers(file) == list(range(20))
    assert {host for (host,) in tshark(file, "ip.dst")} == {"10.99.0.2"}
    record = daemon.record(judged["id"])
    assert record["cause"]["system"] == "suricata"
    assert "\x1b" not in json.dumps(record, ensure_ascii=False)
    assert record["captures"][0]["lookback"]["packets"] == 20
    found = daemon.api("GET", "/captures?cause=ids-none").json()
    assert found == []
    assert [one["id"] for one in daemon.api("GET", "/captures?cause=suricata").json()] == [
        "ids-77-1-4711"
    ]


def other_flow(wire: Wire) -> None:
    """Send a packet of another flow."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((wire.near, 0))
        ethernet = bytes.fromhex("ffffffffffff0200000000010800")
        address = bytes((10, 99, 0, 1)), bytes((10, 99, 0, 3))
        header = b"\x45\0\0\x1c\0\0\0\0\x40\x11\0\0" + b"".join(address)
        sender.send(ethernet + header + bytes.fromhex("1b58232900080000"))


def test_sent_ten_times_it_is_one_capture_also_after_a_restart(
    made: Callable[..., DaemonProcess],
) -> None:
    daemon = made(cooldown=3600, request={"duration": 1})
    alert = suricata()
    outcomes = [post(daemon, alert)[0]["outcome"] for _ in range(10)]
    assert outcomes == ["sent"] + ["cooldown"] * 9
    daemon.stop()
    daemon.start()
    assert post(daemon, alert)[0]["outcome"] == "cooldown"
    daemon.reported("request accepted", 1)
    assert post(daemon, suricata(flow_id=78))[0]["outcome"] == "sent"


def test_a_storm_is_bounded_and_the_node_still_answers(
    made: Callable[..., DaemonProcess], wire: Wire
) -> None:
    daemon = made(rate=5, request={"duration": 1})
    outcomes = [post(daemon, suricata(flow_id=n))[0]["outcome"] for n in range(200)]
    assert 5 <= outcomes.count("sent") < 10
    assert outcomes.count("rate") == 200 - outcomes.count("sent")
    assert daemon.request(interface=[wire.far], id="by-hand", duration=1).status_code == 202
    text = daemon.api("GET", "/metrics").text
    assert f'alerts_total{{outcome="rate",trigger="ids"}} {outcomes.count("rate")}.0' in text
    said = partial(daemon.logged, "alert without a capture")
    eventually(lambda: len(said()) >= 60)
    assert len(said()) < 120, "60 a minute, and the rest is counted"


def test_a_thousand_different_alerts_at_once_leave_a_node_that_answers(
    made: Callable[..., DaemonProcess], wire: Wire, tmp_path: Path
) -> None:
    log = tmp_path / "eve.json"
    log.touch()
    daemon = made(file=str(log), request={"duration": 1})
    eventually(lambda: daemon.logged("source connected", source="trigger:ids"))
    before = daemon.resident()
    with log.open("a") as file:
        file.writelines(json.dumps(suricata(flow_id=n)) + "\n" for n in range(1000))
    answer = daemon.request(interface=[wire.far], id="by-hand", duration=1)
    assert answer.status_code == 202

    def judged() -> float:
        found = re.findall(r'alerts_total{.*trigger="ids"} (\S+)', metrics(daemon))
        return sum(map(float, found))

    eventually(lambda: judged() == 1000)
    assert 10 <= float(re.findall(r'outcome="sent",trigger="ids"} (\S+)', metrics(daemon))[0]) < 30
    assert daemon.resident() - before < 64 << 20


def metrics(daemon: DaemonProcess) -> str:
    return daemon.api("GET", "/metrics").text


def test_of_a_group_most_new_ones_are_judged_and_malformed_ones_use_up_no_rate(
    make: Make, wire: Wire
) -> None:
    table = {"name": "am", "kind": "alertmanager", "rate": 4, "most": 2}
    request = {"interface": wire.far, "duration": 1, "comment": "{labels.x}"}
    daemon = make({"trigger 1": {**table, "request": request}}).start()
    began = datetime.now(UTC).isoformat()

    def outcomes(*names: str) -> list[str]:
        labels = {name: {"x": name} if name.islower() else {} for name in names}
        alerts = [{"labels": labels[n], "startsAt": began, "fingerprint": n} for n in names]
        answer = daemon.api("POST", "/triggers/am", json={"alerts": alerts})
        return [one["outcome"] for one in answer.json()["alerts"]]

    assert outcomes("a", "b", "c") == ["sent", "sent", "too-many"]
    assert outcomes("a", "b", "c") == ["cooldown", "cooldown", "sent"]
    assert [outcomes(name) for name in "QRSTU"] == [["malformed"]] * 5
    assert outcomes("d") == ["sent"]
    assert outcomes("e") == ["rate"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"src_ip": "10.99.0.1 or port 22"}, "flow.src: must be an IPv4 or IPv6 address"),
        ({"dest_port": "80 or 81"}, "flow.dport: must be an integer"),
        ({"proto": "TCP) or (udp"}, "flow.proto: must be"),
        ({"src_ip": None, "dest_ip": None}, "flow: the alert names no address"),
    ],
)
def test_what_is_malformed_never_widens_a_capture(
    made: Callable[..., DaemonProcess], change: dict[str, Any], words: str
) -> None:
    daemon = made()
    (judged,) = post(daemon, suricata(**change))
    assert judged["outcome"] == "malformed"
    assert words in judged["reason"]
    assert not daemon.logged("request accepted")


def test_only_alerts_that_match_start_captures(made: Callable[..., DaemonProcess]) -> None:
    daemon = made(match={"alert.severity": "<=1", "alert.signature": ["ET *", "a *"]})
    assert post(daemon, suricata())[0]["outcome"] == "sent"
    low = suricata(flow_id=2)
    low["alert"]["severity"] = 2
    assert post(daemon, low)[0]["outcome"] == "no-match"
    assert post(daemon, {"event_type": "flow"}) == []


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"Authorization": "Bearer s3cret-token"}, "", 200),
        ({"Authorization": "Basic " + base64.b64encode(b"x:s3cret-token").decode()}, "", 200),
        ({}, "?access_token=s3cret-token", 200),
        ({}, "", 401),
        ({}, "?access_token=wrong", 401),
        ({"Authorization": "Bearer wrong"}, "?access_token=s3cret-token", 401),
        ({"Authorization": "Basic !!"}, "", 401),
        ({"Authorization": "Bearer the-other-token"}, "", 401),
    ],
)
def test_tokens(make: Make, wire: Wire, headers: dict[str, str], query: str, status: int) -> None:
    sections = {
        "http": {"token": "the-other-token"},
        "trigger 1": trigger(wire, token="s3cret-token"),
    }
    daemon = make(sections).start()
    answer = daemon.api("POST", f"/triggers/ids{query}", json=suricata(), headers=headers)
    assert answer.status_code == status
    assert "s3cret" not in daemon.log_path.read_text()


def test_signatures(make: Make, wire: Wire) -> None:
    now, key = str(int(time.time())), b"long-secret"
    body = json.dumps(suricata()).encode()

    def signed(prefix: bytes) -> str:
        return hmac.new(key, prefix + body, hashlib.sha256).hexdigest()

    standard = base64.b64encode(
        hmac.digest(base64.b64decode("bG9uZy1zZWNyZXQ="), f"m.{now}.".encode() + body, "sha256")
    ).decode()
    kinds: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
        "grafana": (
            {"timestamp_header": "X-Time"},
            {"X-Time": now, "X-Grafana-Alerting-Signature": signed(now.encode() + b":")},
        ),
        "github": ({}, {"X-Hub-Signature-256": "sha256=" + signed(b"")}),
        "pagerduty": ({}, {"X-PagerDuty-Signature": f"v1=00,v1={signed(b'')}"}),
        "standard-webhooks": (
            {"secret": "whsec_bG9uZy1zZWNyZXQ="},
            {
                "webhook-id": "m",
                "webhook-timestamp": now,
                "webhook-signature": f"v1,x v1,{standard}",
            },
        ),
    }
    tables = {
        f"trigger {n}": trigger(
            wire, **{"name": kind, "signature": kind, "secret": key.decode(), **more}
        )
        for n, (kind, (more, _)) in enumerate(kinds.items())
    }
    daemon = make({**tables, "general": {"rate": 0}}).start()
    for kind, (_, headers) in kinds.items():
        path, plain = f"/triggers/{kind}", {"Content-Type": "application/json"}
        good = daemon.api("POST", path, content=body, headers={**plain, **headers})
        assert good.json()["alerts"][0]["outcome"] == "sent", kind
        for wrong in ({}, {name: value[:-1] + "!" for name, value in headers.items()}):
            bad = daemon.api("POST", path, content=body, headers={**plain, **wrong})
            assert bad.status_code == 401, kind
        other = daemon.api("POST", path, content=body + b" ", headers={**plain, **headers})
        assert other.status_code == 401, kind


def test_a_group_is_judged_alert_by_alert_and_busy_is_503(make: Make, wire: Wire) -> None:
    began = datetime.now(UTC).isoformat()
    group = {"kind": "alertmanager", "name": "am", "flow": "none", "on_resolved": "stop"}
    request = {"interface": wire.far, "duration": 30, "timeout": 30}
    tables = {
        "trigger 1": {**group, "request": request},
        "general": {"maxcaptures": 1, "maxtimeout": 60},
    }
    daemon = make(tables).start()

    def alert(name: str, status: str = "firing") -> dict[str, Any]:
        labels = {"alertname": name, "instance": "web1:9100"}
        return {"status": status, "labels": labels, "startsAt": began, "fingerprint": name}

    def send(*alerts: dict[str, Any]) -> Any:
        return daemon.api("POST", "/triggers/am", json={"alerts": alerts})

    first = send(alert("a"), alert("b"))
    assert (first.status_code, first.headers["retry-after"]) == (503, "1")
    assert [one["outcome"] for one in first.json()["alerts"]] == ["sent", "busy"]
    again = send(alert("a"), alert("b"))
    assert [one["outcome"] for one in again.json()["alerts"]] == ["cooldown", "busy"]
    resolved = send(alert("a", "resolved"), alert("b", "resolved")).json()["alerts"]
    assert [one["outcome"] for one in resolved] == ["resolved", "resolved"]
    identity = first.json()["alerts"][0]["id"]
    eventually(lambda: daemon.record(identity)["state"] == "finished")
    assert daemon.record(identity)["captures"][0]["stop_reason"] == "stopped"
    eventually(lambda: send(alert("b")).json()["alerts"][0]["outcome"] == "sent")


def test_check_says_whether_alerts_can_come(
    made: Callable[..., DaemonProcess], tmp_path: Path
) -> None:
    daemon = made(file=str(tmp_path / "none" / "eve.json"))
    missing = command("check", "--config", daemon.config)
    assert (missing.returncode, "none/eve.json: No such file" in missing.stdout) == (1, True)
    eventually(lambda: daemon.logged("source not connected", source="trigger:ids"))
    (tmp_path / "none").mkdir()
    assert command("check", "--config", daemon.config).returncode == 0
    eventually(lambda: daemon.logged("source connected", source="trigger:ids"))


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"not json", {"Content-Type": "application/json"}, 400),
        (b'{"a": 1}', {"Content-Type": "application/json"}, 400),
        (b"[" * 60_000, {"Content-Type": "application/json"}, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b"{}", {}, 415),
        (b" " * ((1 << 20) + 1), {"Content-Type": "application/json"}, 413),
    ],
)
def test_what_is_no_alert_is_refused(
    made: Callable[..., DaemonProcess], body: bytes, headers: dict[str, str], status: int
) -> None:
    daemon = made(kind="falco")
    assert daemon.api("POST", "/triggers/ids", content=body, headers=headers).status_code == status
    assert daemon.api("POST", "/triggers/none", content=body, headers=headers).status_code == 404


def test_a_cloudevent_in_both_modes(make: Make, wire: Wire) -> None:
    request = {"interface": wire.far, "duration": 1, "comment": "{data.what}"}
    paths = {"src": "data.from", "dst": "data.to"}
    table = {"name": "ce", "kind": "cloudevents", "flow_from": paths, "request": request}
    daemon = make({"trigger 1": table}).start()
    data = {"what": "lost", "from": "10.99.0.1", "to": "10.99.0.2"}
    attributes = {"specversion": "1.0", "source": "/x", "id": "7", "type": "net.lost"}
    kind = "application/cloudevents+json"
    structured = daemon.api(
        "POST",
        "/triggers/ce",
        content=json.dumps({**attributes, "data": data}),
        headers={"Content-Type": kind},
    )
    binary = daemon.api(
        "POST",
        "/triggers/ce",
        json=data,
        headers={f"ce-{name}": value for name, value in attributes.items()},
    )
    assert structured.json()["alerts"][0]["outcome"] == "sent"
    assert binary.json()["alerts"][0]["outcome"] == "cooldown", "it is the same event"
    asked = daemon.api("OPTIONS", "/triggers/ce", headers={"WebHook-Request-Origin": "x.example"})
    assert asked.headers["webhook-allowed-origin"] == "x.example"


def test_a_followed_file_gives_each_alert_once_over_rotations_and_restarts(
    made: Callable[..., DaemonProcess], tmp_path: Path
) -> None:
    log = tmp_path / "eve.json"
    log.write_text(json.dumps(suricata(flow_id=1)) + "\n")
    daemon = made(file=str(log), rate=1000, request={"duration": 1})
    eventually(lambda: daemon.logged("source connected", source="trigger:ids"))
    with log.open("a") as file:
        file.write(json.dumps({"event_type": "dns"}) + "\n")
        file.write(json.dumps(suricata(flow_id=2)) + "\n" + json.dumps(suricata(flow_id=3))[:50])
        file.flush()
        eventually(lambda: ids(daemon) == {2})
        file.write(json.dumps(suricata(flow_id=3))[50:] + "\n")
        file.flush()
        eventually(lambda: ids(daemon) == {2, 3})
        log.rename(tmp_path / "eve.json.1")
        file.write(json.dumps(suricata(flow_id=4)) + "\n")  # the writer has not reopened it yet
    log.write_text(json.dumps(suricata(flow_id=5)) + "\n")
    eventually(lambda: ids(daemon) == {2, 3, 4, 5})
    daemon.stop()
    log.rename(tmp_path / "eve.json.2")
    with (tmp_path / "eve.json.2").open("a") as file:
        file.write(json.dumps(suricata(flow_id=6)) + "\n")
    log.write_text(json.dumps(suricata(flow_id=7)) + "\n")
    daemon.start()
    eventually(lambda: ids(daemon) == {2, 3, 4, 5, 6, 7})
    daemon.reported("request accepted", 6)  # none is there twice


def ids(daemon: DaemonProcess) -> set[int]:
    """Return the flows for which a capture was accepted."""
    return {int(line["id"].split("-")[1]) for line in daemon.logged("request accepted")}


@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_a_unix_socket(made: Callable[..., DaemonProcess], tmp_path: Path, kind: str) -> None:
    path = tmp_path / "eve.sock"
    daemon = made(socket=str(path), socket_type=kind, request={"duration": 1})
    eventually(lambda: daemon.logged("source connected", source="trigger:ids"))
    types = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM}
    with socket.socket(socket.AF_UNIX, types[kind]) as sender:
        sender.connect(str(path))
        for number in (1, 2):
            sender.send(json.dumps(suricata(flow_id=number)).encode() + b"\n")
    eventually(lambda: ids(daemon) == {1, 2})
    assert path.stat().st_mode & 0o007 == 0
    daemon.kill()
    daemon.start()
    eventually(lambda: len(daemon.logged("source connected", source="trigger:ids")) == 2)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_syslog(make: Make, wire: Wire, protocol: str) -> None:
    port = free_port()
    pattern = r"refused (?P<src>[0-9.]+):(?P<sport>[0-9]+) -> (?P<dst>[0-9.]+)"
    paths = {"src": "src", "sport": "sport", "dst": "dst"}
    table = {
        "name": "fw",
        "kind": "syslog",
        "syslog": f"{protocol}://127.0.0.1:{port}",
        "pattern": pattern,
        "match": {"app": "kernel", "severity": "<=4"},
        "flow": "required",
        "flow_from": paths,
        "key": "src",
        "request": {"interface": wire.far, "duration": 1},
    }
    daemon = make({"trigger 1": table}).start()
    eventually(lambda: daemon.logged("source connected", source="trigger:fw"))
    words = ["logger", f"--{protocol}", "-n", "127.0.0.1", "-P", str(port), "-t", "kernel"]
    for more in (["--rfc3164"], ["--rfc5424"], ["--rfc5424", "--octet-count"]):
        if protocol == "udp" and "--octet-count" in more:
            continue
        text = f"refused 10.99.0.{len(more)}:7000 -> 10.99.0.9"
        subprocess.run([*words, *more, "-p", "kern.warning", text], check=True)
        subprocess.run([*words, *more, "-p", "kern.info", f"x {text}"], check=True)
        name = f"fw-10.99.0.{len(more)}"
        eventually(lambda name=name: daemon.logged("request accepted", id=name))  # type: ignore[misc]
    accepted = daemon.logged("request accepted")[0]  # at least two are there
    assert "src host 10.99.0.1 and src port 7000 and dst host 10.99.0.9" in accepted["bpf"]


def test_lines_of_syslog_that_begin_with_digits_and_idle_connections(
    make: Make, wire: Wire
) -> None:
    port = free_port()
    table = {
        "name": "fw",
        "kind": "syslog",
        "syslog": f"tcp://127.0.0.1:{port}",
        "pattern": r"from (?P<who>[a-z]+)",
        "key": "who",
        "rate": 100,
        "request": {"interface": wire.far, "duration": 1},
    }
    daemon = make({"trigger 1": table}).start()
    eventually(lambda: daemon.logged("source connected", source="trigger:fw"))
    texts = [
        f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} host app: from a\n".encode(),
        b"7 days from b\n",
        b"16 <13>x from eeeee",
        b"<13>from g\n",
    ]
    with socket.create_connection(("127.0.0.1", port)) as sender:
        for text in texts:
            sender.sendall(text)
        for name in ("a", "b", "eeeee", "g"):
            eventually(lambda name=name: daemon.logged("request accepted", id=f"fw-{name}"))  # type: ignore[misc]
    with socket.create_connection(("127.0.0.1", port)) as sender:
        sender.sendall(b"9" * (2 << 20))
        eventually(lambda: daemon.logged("a connection with alerts broke off"))
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(70)]
    eventually(lambda: daemon.logged("too many connections with alerts"))
    for one in idle:
        one.close()

    def taken() -> bool:
        with socket.create_connection(("127.0.0.1", port)) as sender:
            sender.sendall(b"<13>from h\n")
        return bool(daemon.logged("request accepted", id="fw-h"))

    eventually(taken)


def test_a_wrong_token_takes_a_while_and_its_body_is_not_read(make: Make, wire: Wire) -> None:
    sections = {"trigger 1": trigger(wire, token="s3cret-token")}
    daemon = make(sections).start()
    begun = time.monotonic()
    answer = daemon.api("POST", "/triggers/ids", content=b" " * (2 << 20))
    assert answer.status_code == 401
    assert time.monotonic() - begun >= 0.5


def test_the_command_passes_alerts_and_tries_them_out(
    made: Callable[..., DaemonProcess], wire: Wire, tmp_path: Path
) -> None:
    daemon = made(lookback=5, match={"alert.severity": "<=2"}, request={"duration": 1})
    file = tmp_path / "alert.json"
    file.write_text(json.dumps(suricata()))
    tried = command("trigger", "test", "ids", file, "--config", daemon.config)
    assert tried.returncode == 0, tried.stderr
    assert "matches: alert.severity = '<=2'" in tried.stdout
    assert f"dryrun: would capture on {wire.far}" in tried.stdout
    assert '"flow": {"proto": "udp", "src": "10.99.0.1", "sport": 9000' in tried.stdout
    assert not daemon.logged("request accepted")
    url = ("--url", f"http://127.0.0.1:{daemon.port}")
    sent = command("trigger", "ids", file, *url)
    assert (sent.returncode, sent.stdout) == (0, "sent: ids-77-1-4711\n")
    lines = "".join(json.dumps(suricata(flow_id=n)) + "\n" for n in (1, 2))
    many = command("trigger", "ids", "--lines", *url, stdin=lines)
    assert many.stdout == "sent: ids-1-1-4711\nsent: ids-2-1-4711\n"
    wrong = command("trigger", "none", file, *url)
    assert (wrong.returncode, "no trigger 'none'" in wrong.stderr) == (1, True)
    other = command("trigger", "ids", *url, stdin='{"a": 1}')
    assert (other.returncode, "not a Suricata event" in other.stderr) == (1, True)
    wire.send(3)
    recorded(daemon, 3)
    name = daemon.request(interface=[wire.far], lookback=10, duration=1, wait=True, id="all").json()
    read = daemon.captures / name["captures"][0]["file_name"]
    counted = command("trigger", "test", "ids", file, "--config", daemon.config, "--read", read)
    assert re.search(r"packets: [1-9]", counted.stdout)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path).start()
    yield server
    server.kill()


def test_requests_go_out_on_a_bus(make: Make, wire: Wire, redis: RedisServer) -> None:
    table = trigger(wire, send="redis", request={"node": "any"})
    daemon = make({"redis": {"listen": True, "port": redis.port}, "trigger 1": table}).start()
    eventually(lambda: daemon.logged("source connected", source="redis"))
    assert post(daemon, suricata())[0]["outcome"] == "sent"
    eventually(lambda: daemon.logged("request accepted", source="redis", id="ids-77-1-4711"))


@pytest.mark.parametrize("way", ["channel", "stream"])
def test_alerts_come_on_a_channel_or_a_stream_of_their_own(
    make: Make, wire: Wire, redis: RedisServer, way: str
) -> None:
    table = trigger(wire, **{way: "alerts"})
    daemon = make({"redis": {"listen": True, "port": redis.port}, "trigger 1": table}).start()
    eventually(lambda: daemon.logged("source connected", source="trigger:ids"))
    with redis.client() as client:
        if way == "channel":
            client.publish("alerts", json.dumps(suricata()))
        else:
            client.xadd("alerts", {"eve": json.dumps(suricata())})
    eventually(lambda: daemon.logged("request accepted", id="ids-77-1-4711"))
    assert not daemon.logged("request rejected")


def test_alerts_come_on_a_topic_of_kafka(make: Make, wire: Wire, shared: "Shared") -> None:
    shared.kafka.create("requests-t")
    shared.kafka.create("alerts-t")
    section = {"listen": True, "server": shared.kafka.address, "topic": "requests-t"}
    daemon = make({"kafka": section, "trigger 1": trigger(wire, topic="alerts-t")}).start()
    eventually(lambda: daemon.logged("source connected", source="trigger:ids"))
    produce(shared.kafka.producer(), "alerts-t", json.dumps(suricata()).encode())
    eventually(lambda: daemon.logged("request accepted", id="ids-77-1-4711"))
    assert not daemon.logged("request rejected")


def test_an_alarm_of_cloudwatch_comes_on_a_queue_with_its_envelope(
    make: Make, wire: Wire, shared: "Shared"
) -> None:
    requests, alarms = shared.moto.queue("requests-q"), shared.moto.queue("alarms-q")
    section = {
        "listen": True,
        "url": requests,
        "endpoint": shared.moto.url,
        "region": KEYS["region_name"],
        "accessid": KEYS["aws_access_key_id"],
        "accesskey": KEYS["aws_secret_access_key"],
        "waitseconds": 1,
    }
    table = {
        "name": "cloudwatch",
        "kind": "json",
        "queue": alarms,
        "match": {"detail-type": "CloudWatch Alarm*", "detail.state.value": "ALARM"},
        "key": "id",
        "at": "time",
        "request": {"interface": wire.far, "duration": 1, "comment": "{resources.0}"},
    }
    daemon = make({"sqs": section, "trigger 1": table}).start()
    eventually(lambda: daemon.logged("source connected", source="trigger:cloudwatch"))
    alarm = {
        "id": "c4c1",
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "time": datetime.now(UTC).isoformat(),
        "resources": ["arn:aws:cloudwatch:eu-central-1:1:alarm:Loss"],
        "detail": {"state": {"value": "ALARM"}},
    }
    shared.moto.sqs.send_message(QueueUrl=alarms, MessageBody=json.dumps(alarm))
    eventually(lambda: daemon.logged("request accepted", id="cloudwatch-c4c1"))
    assert daemon.record("cloudwatch-c4c1")["comment"].endswith("alarm:Loss")
    eventually(lambda: shared.moto.left(alarms) == 0)


ABOUT: dict[str, Callable[[str], dict[str, Any]]] = {
    "alertmanager": lambda at: {
        "alerts": [
            {
                "status": "firing",
                "labels": {"src_ip": "10.99.0.1", "dst_ip": "10.99.0.2", "proto": "udp"},
                "startsAt": at,
                "fingerprint": "1",
            }
        ]
    },
    "falco": lambda at: {
        "rule": "x",
        "priority": "Critical",
        "output": "x",
        "time": at,
        "output_fields": {"fd.cip": "10.99.0.1", "fd.sip": "10.99.0.2", "fd.l4proto": "udp"},
    },
    "zeek": lambda at: {
        "ts": at,
        "note": "x",
        "uid": "C1",
        "id.orig_h": "10.99.0.2",
        "id.resp_h": "10.99.0.1",
        "id.resp_p": 9000,
        "proto": "udp",
    },
    "suricata": lambda at: {**suricata(), "timestamp": at},
}
ABOUT["grafana"] = ABOUT["alertmanager"]
"""Alerts of each system about the packets that `Wire.send` sends, by the time of the alert."""


@pytest.mark.parametrize("kind", ABOUT)
def test_each_system_gets_exactly_the_packets_of_its_flow_from_before_the_alert(
    made: Callable[..., DaemonProcess], wire: Wire, kind: str
) -> None:
    daemon = made(kind=kind, lookback=10)
    wire.send(20)
    other_flow(wire)
    recorded(daemon, 21)
    alert = ABOUT[kind]((datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    (judged,) = post(daemon, alert)
    assert judged["outcome"] == "sent", judged
    assert numbers(savefile(daemon, judged["id"])) == list(range(20))
    assert post(daemon, alert)[0]["outcome"] == "cooldown"
    (capture,) = daemon.record(judged["id"])["captures"]
    assert capture["lookback"]["asked"] == pytest.approx(11, abs=1)


def test_the_system_that_caused_it_learns_where_the_packets_are(make: Make, wire: Wire) -> None:
    grafana, other = Plain(), Plain()
    one = {
        "name": "grafana",
        "kind": "grafana",
        "url": f"{grafana.url}",
        "token": "a-service-account",
        "match": {"cause.system": "suricata"},
    }
    two = {
        "name": "chat",
        "url": other.url,
        "body": {"text": "{id} has {captures.0.packets} packets"},
        "match": {"captures.0.packets": ">0"},
    }
    general = {"rate": 0}
    recorder = {"interface": wire.far, "memory": "16MiB"}
    sections = {"callback 1": one, "callback 2": two, "general": general, "recorder 1": recorder}
    daemon = make({**sections, "trigger 1": trigger(wire, lookback=10)}).start()
    eventually(lambda: daemon.logged("recorder records"))
    grafana.statuses.append(503)
    wire.send(20)
    recorded(daemon, 20)
    post(daemon, suricata())
    daemon.request(interface=[wire.far], duration=1, id="by-hand", wait=True)
    ((headers, note),) = eventually(lambda: grafana.requests)
    assert headers["authorization"] == "Bearer a-service-account"
    assert note["tags"] == ["pcapdaemon", "ids-77-1-4711"]
    assert f"20 packets on {daemon.record('by-hand')['node']}: {daemon.captures}" in note["text"]
    assert abs(note["time"] / 1000 - time.time()) < 60
    (_, words) = eventually(lambda: other.requests)[0]
    assert words == {"text": "ids-77-1-4711 has 20 packets"}
    assert len(other.requests) == 1
    assert "s3cret" not in daemon.log_path.read_text()
    grafana.close()
    other.close()


def test_a_reload_exchanges_triggers(made: Callable[..., DaemonProcess], wire: Wire) -> None:
    daemon = made()
    daemon.write_config({"trigger 1": trigger(wire, name="other")})
    daemon.signal(1)
    eventually(lambda: daemon.logged("configuration reloaded"))
    assert daemon.api("POST", "/triggers/ids", json=suricata()).status_code == 404
    assert daemon.api("POST", "/triggers/other", json=suricata()).status_code == 200
    assert os.path.exists(daemon.config)
