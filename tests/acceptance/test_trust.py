"""Who may do what on a daemon: signatures, policies, the door, and the audit log."""

import json
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pcapdaemon.trust.requesters import digest
from tests.acceptance.conftest import Make
from tests.aws import MotoServer
from tests.helpers import Wire, certificates, eventually
from tests.kafka_server import KafkaServer, produce
from tests.servers import PCAPDAEMON, DaemonProcess, RedisServer
from tests.signing import Signer, moment

TOKENS = {name: f"token-of-{name}-0123456789" for name in ("admin", "narrow", "reader", "old")}
ALICE, BOB, STRANGER = Signer("alice"), Signer("bob"), Signer("stranger")


def bearer(name: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Authorization": f"Bearer {TOKENS[name]}"}}


def requester(name: str, **more: Any) -> dict[str, Any]:
    token = {"tokens": [digest(TOKENS[name].encode())]} if name in TOKENS else {}
    return {"name": name, **token, **more}


ALL = ["capture", "dryrun", "cancel-all", "list-all", "fetch-all", "audit"]


def sections(wire: Wire, tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {
        "interface 1": {"name": wire.far},
        "general": {"signatures": "require", **more.pop("general", {})},
        "audit": {"file": str(tmp_path / "audit.jsonl"), "required": True},
        "requester 1": requester("admin", may=ALL),
        "requester 2": requester(
            "narrow",
            keys=[ALICE.line],
            interfaces=["rx*"],
            payload="headers",
            maxpackets=50,
            maxlookback=0,
            formats=["pcap"],
            destinations=["local"],
            maxcaptures=2,
        ),
        "requester 3": requester("reader", may=["list"], keys=[BOB.line]),
        "requester 4": requester("old", until="2020-01-01"),
        **more,
    }


@pytest.fixture
def trusting(make: Make, wire: Wire, tmp_path: Path) -> DaemonProcess:
    """A daemon that takes only what it can trust."""
    return make(sections(wire, tmp_path)).start()


def audit_of(tmp_path: Path) -> list[dict[str, Any]]:
    path = tmp_path / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def verified(*paths: Path) -> None:
    command = [str(PCAPDAEMON), "audit", "verify", *map(str, paths)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server."""
    server = RedisServer(tmp_path).start()
    yield server
    server.kill()


Send = Callable[[dict[str, Any]], str]
Publish = Callable[[bytes], object]


def on_redis(tmp_path: Path, **more: str) -> Iterator[tuple[dict[str, Any], Publish]]:
    server = RedisServer(tmp_path).start()
    table = {"listen": True, "host": "127.0.0.1", "port": server.port, **more}
    try:
        with server.client() as client:
            if more:
                yield {"redis": table}, lambda body: client.xadd("requests", {"request": body})
            else:
                yield {"redis": table}, lambda body: client.publish("capture", body)
    finally:
        server.kill()


def on_kafka(tmp_path: Path) -> Iterator[tuple[dict[str, Any], Publish]]:
    server = KafkaServer(tmp_path / "kafka").start()
    server.create("capture")
    producer = server.producer()
    table = {"listen": True, "server": [server.address], "topic": "capture"}
    try:
        yield {"kafka": table}, lambda body: produce(producer, "capture", body)
    finally:
        server.kill()


def on_sqs(tmp_path: Path) -> Iterator[tuple[dict[str, Any], Publish]]:
    server = MotoServer(tmp_path).start()
    url = server.queue("capture")
    account = {"endpoint": server.url, "region": "us-east-1", "accessid": "x", "accesskey": "x"}
    table = {"listen": True, "queue": "capture", "waitseconds": 1, **account}

    def send(body: bytes) -> object:
        return server.sqs.send_message(QueueUrl=url, MessageBody=body.decode())

    try:
        yield {"sqs": table}, send
    finally:
        server.kill()


Making = Callable[[Path], Iterator[tuple[dict[str, Any], Publish]]]
BUSES: dict[str, Making] = {
    "redis": on_redis,
    "redis stream": partial(on_redis, stream="requests"),
    "kafka": on_kafka,
    "sqs": on_sqs,
}


def over_http(daemon: DaemonProcess, message: dict[str, Any]) -> str:
    answer = daemon.api("POST", "/captures", json=message)
    words = {202: "accepted", 401: "untrusted", 403: "forbidden", 400: "invalid"}
    return words.get(answer.status_code, str(answer.status_code))


@pytest.fixture(params=["http", *BUSES])
def bus(
    request: pytest.FixtureRequest, make: Make, wire: Wire, tmp_path: Path
) -> Iterator[tuple[DaemonProcess, Send]]:
    """A daemon, and what sends a message and returns what became of it: a word."""
    if request.param == "http":
        daemon = make(sections(wire, tmp_path)).start()
        yield daemon, partial(over_http, daemon)
        return
    making = contextmanager(BUSES[request.param])
    with making(tmp_path) as (tables, publish):
        results = {"events": ["accepted", "rejected"]}
        daemon = make(sections(wire, tmp_path, results=results, **tables)).start()
        connected = partial(daemon.logged, "source connected")
        eventually(lambda: [one for one in connected() if one["source"] != "http"], 60)
        found: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=listen, args=(daemon, found), daemon=True).start()
        assert found.get(timeout=30) == {}  # it listens

        def send(message: dict[str, Any]) -> str:
            publish(json.dumps(message).encode())
            result = found.get(timeout=30)
            kind = result["type"].rpartition(".")[2]
            return str(result["data"]["kind"] if kind == "rejected" else kind)

        yield daemon, send
        daemon.end()


def listen(daemon: DaemonProcess, found: "queue.Queue[dict[str, Any]]") -> None:
    """Read accepted and rejected requests as server-sent events, until the daemon ends."""
    address, headers = f"http://127.0.0.1:{daemon.port}/events", bearer("admin")["headers"]
    with (
        suppress(httpx2.TransportError),
        httpx2.stream("GET", address, headers=headers, timeout=None) as events,
    ):
        for line in events.iter_lines():
            if line.startswith(": listening"):
                found.put({})
            elif line.startswith("data: "):
                result = json.loads(line.removeprefix("data: "))
                if result["type"].endswith((".accepted", ".rejected")):
                    found.put(result)


def test_nothing_is_done_that_a_policy_forbids(
    bus: tuple[DaemonProcess, Send], wire: Wire, tmp_path: Path
) -> None:
    daemon, send = bus
    numbers = iter(range(1000))
    # over HTTP, whoever does not sign is a user of this host
    nobody = "forbidden" if isinstance(send, partial) else "untrusted"

    def message(by: Signer = ALICE, outside: dict[str, Any] | None = None, **more: Any) -> Any:
        whole = {"node": "any", "interface": [wire.far], "packets": 5, "duration": 1, **more}
        return by.message({"id": f"m{next(numbers)}", **whole}, **(outside or {}))

    cases: list[tuple[str, dict[str, Any]]] = [
        ("accepted", message()),
        ("forbidden", message(packets=51)),
        ("forbidden", message(lookback=1)),
        ("forbidden", message(format="pcapng")),
        ("forbidden", message(merge=True)),
        ("forbidden", message(destinations=["s3"])),
        ("forbidden", message(by=BOB)),
        ("forbidden", message(interface=["lo"])),
        ("forbidden", message(interface=["any"])),
        (nobody, {"node": "any", "interface": [wire.far], "id": "unsigned"}),
        ("untrusted", message(by=STRANGER)),
        ("untrusted", message(issued_at=moment(-61))),
        ("untrusted", message(issued_at=moment(600))),
        ("untrusted", {**message(), "jws": message()["jws"][:-2]}),
        ("untrusted", {**message(), "jws": 5}),
        ("accepted", message(outside={"packets": 10**6, "interface": ["lo"]})),
    ]
    assert [send(one) for _, one in cases] == [what for what, _ in cases]
    accepted = [one for what, one in cases if what == "accepted"]
    for one in accepted:
        found = daemon.api("GET", f"/captures/{one['id']}", **bearer("admin")).json()
        assert (found["requester"], found["limits"]["packets"]) == ("narrow", 5)
        assert [capture["interface"] for capture in found["captures"]] == [wire.far]
    lines = eventually(lambda: _with(audit_of(tmp_path), "refused", 7))
    asked = [one["id"] for one in lines if one["event"] == "accepted"]
    assert asked == [one["id"] for one in accepted]
    assert all(one["key"] == ALICE.fingerprint for one in lines if one["event"] == "accepted")
    verified(tmp_path / "audit.jsonl")


def _with(lines: list[dict[str, Any]], event: str, number: int) -> list[dict[str, Any]]:
    return lines if sum(one["event"] == event for one in lines) >= number else []


def test_a_message_is_obeyed_once(trusting: DaemonProcess, wire: Wire) -> None:
    message = ALICE.message(
        {"id": "once", "node": "any", "interface": [wire.far], "packets": 5, "duration": 1}
    )
    first = trusting.api("POST", "/captures", json=message)
    assert first.status_code == 202
    eventually(lambda: trusting.logged("request finished", id="once"))
    again = trusting.api("POST", "/captures", json=message)
    assert again.status_code == 202
    assert "accepted before" in again.text
    trusting.reported("request accepted", 1, id="once")


def test_after_a_restart_older_signatures_are_worth_nothing(
    trusting: DaemonProcess, wire: Wire
) -> None:
    message = ALICE.message({"id": "x", "node": "any", "interface": [wire.far], "duration": 1})
    trusting.stop()
    trusting.start()
    answer = trusting.api("POST", "/captures", json=message)
    assert answer.status_code == 401
    assert "before this node started" in answer.text


def test_nobody_can_occupy_the_id_of_another(trusting: DaemonProcess, wire: Wire) -> None:
    base = {"node": "any", "interface": [wire.far], "duration": 30}
    mine = {**base, "id": "same"}
    assert trusting.api("POST", "/captures", json=mine, **bearer("admin")).status_code == 202
    answer = trusting.api("POST", "/captures", json=ALICE.message({**mine, "packets": 5}))
    assert answer.status_code == 202
    assert answer.json()["id"] == "same@narrow"
    assert answer.json()["warnings"]
    running = trusting.api("POST", "/captures", json=ALICE.message({"id": "l", "list": True}))
    assert [one["id"] for one in running.json()["running"]] == ["same@narrow"]
    cancel = {"id": "c", "cancel": "same"}
    assert trusting.api("POST", "/captures", json=ALICE.message(cancel)).json()["state"] == (
        "cancelled"
    )
    eventually(lambda: trusting.logged("request finished", id="same@narrow"))
    seen = trusting.api("GET", "/captures/same", **bearer("admin")).json()
    assert (seen["state"], seen["requester"]) == ("running", "admin")
    again = {"id": "c2", "cancel": "same"}
    assert trusting.api("POST", "/captures", json=ALICE.message(again)).status_code == 404


def test_requesters_see_and_end_only_what_is_theirs(trusting: DaemonProcess, wire: Wire) -> None:
    base = {"node": "any", "interface": [wire.far], "duration": 30, "packets": 5}
    for name in ("admin", "narrow"):
        answer = trusting.api(
            "POST", "/captures", json={**base, "id": f"of-{name}"}, **bearer(name)
        )
        assert answer.status_code == 202, answer.text
    assert _ids(trusting, "admin") == {"of-admin", "of-narrow"}
    assert _ids(trusting, "narrow") == {"of-narrow"}
    assert _ids(trusting, "reader") == set()
    assert _status(trusting, "GET", "/captures/of-admin", "narrow") == 404
    assert _status(trusting, "DELETE", "/captures/of-admin", "narrow") == 404
    assert _status(trusting, "DELETE", "/captures/of-narrow", "reader") == 404
    assert _status(trusting, "DELETE", "/captures/of-narrow", "admin") == 202
    for name, status in (("reader", 403), ("old", 401)):
        answer = trusting.api("POST", "/captures", json={**base, "id": "no"}, **bearer(name))
        assert answer.status_code == status, answer.text


def _ids(daemon: DaemonProcess, name: str) -> set[str]:
    return {one["id"] for one in daemon.api("GET", "/captures", **bearer(name)).json()}


def _status(daemon: DaemonProcess, method: str, path: str, name: str) -> int:
    return daemon.api(method, path, **bearer(name)).status_code


def test_requesters_see_only_interfaces_that_they_may_use(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    named = {
        "recorder 1": {"interface": "lo", "memory": "8MiB"},
        "interface 1": {"name": wire.far, "alias": ["both"]},
        "interface 2": {"name": "lo", "alias": ["both", "inner"]},
        "profile 1": {"name": "inside", "interface": ["lo"]},
        "profile 2": {"name": "outside", "interface": [wire.far], "packets": 5},
        "profile 3": {"name": "any", "alias": ["both"]},
    }
    daemon = make(sections(wire, tmp_path, **named)).start()

    def seen(name: str) -> tuple[set[str], dict[str, list[str]], set[str]]:
        found = daemon.api("GET", "/interfaces", **bearer(name)).json()
        about = daemon.api("GET", "/about", **bearer(name)).json()
        order = {"id": "l", "list": True}
        listed = daemon.api("POST", "/captures", json=order, **bearer(name)).json()
        allowed = {one["name"] for one in found}
        assert set(listed["interface"]) <= allowed
        assert [one["interface"] for one in listed["recorders"]] == ["lo"] * ("lo" in allowed)
        return {one["name"] for one in found}, about["aliases"], set(about["profiles"])

    every, names, profiles = seen("admin")
    assert {"lo", wire.far} <= every
    assert names == {"both": [wire.far, "lo"], "inner": ["lo"]}
    assert profiles == {"inside", "outside", "any"}
    every, names, profiles = seen("narrow")
    assert wire.far in every
    assert all(name.startswith("rx") for name in every)
    assert names == {"both": [wire.far]}
    assert profiles == {"outside", "any"}


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"nodes": ["other*"]}, "[[requester]] nodes"),
        ({"sources": ["kafka"]}, "[[requester]] sources"),
        ({"until": "2020-01-01"}, "[[requester]] until"),
        ({}, "allowed"),
    ],
)
def test_a_policy_is_explained_with_all_its_limits(
    make: Make, wire: Wire, tmp_path: Path, limit: dict[str, Any], words: str
) -> None:
    config = make({"requester 1": requester("oncall", **limit)}).config
    request = json.dumps({"node": "any", "interface": [wire.far], "jws": "of.somebody.else"})
    command = [str(PCAPDAEMON), "policy", "explain", "-", "--config", str(config)]
    said = subprocess.run(
        [*command, "--as", "oncall"],
        input=request,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert words in said.stdout, said.stderr
    assert said.returncode == (words != "allowed")


def test_a_savefile_is_for_its_requester(
    trusting: DaemonProcess, wire: Wire, tmp_path: Path
) -> None:
    message = {"node": "any", "interface": [wire.far], "packets": 5, "id": "file", "timeout": 5}
    assert trusting.api("POST", "/captures", json=message, **bearer("narrow")).status_code == 202
    wire.send(5)
    eventually(lambda: trusting.logged("request finished", id="file"))
    name = trusting.api("GET", "/captures/file", **bearer("narrow")).json()["captures"][0][
        "file_name"
    ]
    path = f"/captures/file/files/{name}"
    assert _status(trusting, "GET", path, "narrow") == 200
    assert _status(trusting, "GET", path, "admin") == 200
    assert _status(trusting, "GET", path, "reader") == 403
    assert _status(trusting, "POST", f"{path}/link", "reader") == 403
    assert _status(trusting, "GET", f"{path}/packets", "reader") == 403
    eventually(lambda: _with(audit_of(tmp_path), "fetched", 2))
    lines = trusting.api("GET", "/audit", **bearer("admin")).json()
    fetched = [one for one in lines if one["event"] == "fetched"]
    assert [one["requester"] for one in fetched] == ["narrow", "admin"]
    assert _status(trusting, "GET", "/audit", "narrow") == 403


def test_a_wrong_token_is_on_record(trusting: DaemonProcess, tmp_path: Path) -> None:
    for token in ("wrong", digest(TOKENS["admin"].encode())):
        wrong = {"Authorization": f"Bearer {token}"}
        assert trusting.api("GET", "/captures", headers=wrong).status_code in (401, 403)
    assert trusting.api("GET", "/captures").status_code == 403
    assert trusting.api("GET", "/healthz").status_code == 200
    assert trusting.api("GET", "/console/").status_code == 200


def test_a_narrow_requester_joins_no_wide_file(make: Make, wire: Wire, tmp_path: Path) -> None:
    daemon = make(sections(wire, tmp_path, general={"coalesce": 60})).start()
    message = {"node": "any", "interface": [wire.far], "duration": 30, "packets": 50}
    wide = daemon.api("POST", "/captures", json={**message, "id": "wide"}, **bearer("admin"))
    narrow = daemon.api("POST", "/captures", json={**message, "id": "small"}, **bearer("narrow"))
    same = daemon.api("POST", "/captures", json={**message, "id": "same"}, **bearer("narrow"))
    assert (wide.status_code, narrow.status_code) == (202, 202)
    assert "joined" not in narrow.json()
    assert same.json()["joined"] == "small"


def test_quotas_hold_over_a_restart(make: Make, wire: Wire, tmp_path: Path) -> None:
    own = {"statedir": str(tmp_path / "state")}
    tables = sections(wire, tmp_path, general=own)
    tables["requester 2"] = {**tables["requester 2"], "daily_captures": 2}
    daemon = make(tables).start()
    message = {"node": "any", "interface": [wire.far], "duration": 1, "packets": 5}

    def tried(name: str) -> int:
        answer = daemon.api("POST", "/captures", json={**message, "id": name}, **bearer("narrow"))
        return answer.status_code

    assert tried("q1") == 202
    eventually(lambda: daemon.logged("request finished", id="q1"))
    daemon.stop()
    daemon.start()
    assert tried("q2") == 202
    assert tried("q3") == 429
    admin = daemon.api("POST", "/captures", json={**message, "id": "q4"}, **bearer("admin"))
    assert admin.status_code == 202


def test_requests_at_the_same_moment_stay_within_a_quota(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    tables = sections(wire, tmp_path)
    tables["requester 2"] = {**tables["requester 2"], "daily_captures": 3, "maxcaptures": 8}
    daemon = make(tables).start()
    message = {"node": "any", "interface": [wire.far], "duration": 1, "packets": 5}

    def tried(number: int) -> int:
        asked = {**message, "id": f"same{number}", "snap": 100 + number}  # not one to join
        return daemon.api("POST", "/captures", json=asked, **bearer("narrow")).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(tried, range(8))) == [202] * 3 + [429] * 5


def test_without_a_line_in_the_audit_log_nothing_is_captured(
    trusting: DaemonProcess, wire: Wire, tmp_path: Path
) -> None:
    message = {"node": "any", "interface": [wire.far], "duration": 1, "packets": 5}
    log = tmp_path / "audit.jsonl"
    eventually(log.exists)
    log.rename(tmp_path / "moved")
    log.mkdir()
    answer = trusting.api("POST", "/captures", json={**message, "id": "no"}, **bearer("admin"))
    assert answer.status_code == 503
    assert "audit" in answer.text
    log.rmdir()
    (tmp_path / "moved").rename(log)
    answer = trusting.api("POST", "/captures", json={**message, "id": "yes"}, **bearer("admin"))
    assert answer.status_code == 202
    eventually(lambda: _with(audit_of(tmp_path), "captured", 0))
    verified(log)
    assert not [
        one for one in audit_of(tmp_path) if one.get("id") == "no" and one["event"] == "accepted"
    ]


def test_a_user_of_the_host_is_known_on_the_socket(make: Make, wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    tables = sections(wire, tmp_path, http={"socket": str(path)})
    tables["requester 5"] = {"name": "operator", "users": ["nobody"], "may": ["list-all"]}
    tables["requester 6"] = {"name": "root", "users": ["0"], "may": ALL}
    daemon = make(tables).start()
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent != Path("/") and parent.stat().st_uid == os.geteuid():
            parent.chmod(parent.stat().st_mode | 0o055)
    message = {"node": "any", "interface": [wire.far], "duration": 20, "id": "mine"}
    answer = by_socket(path, "POST", "/captures", message)
    assert answer[0] == 202
    assert by_socket(path, "GET", "/captures/mine", user=65534)[0] == 200
    assert by_socket(path, "DELETE", "/captures/mine", user=65534)[0] == 403  # it may only look
    assert by_socket(path, "GET", "/captures", user=12345)[0] == 403
    assert daemon.api("GET", "/captures").status_code == 401  # the port: it can't know who
    shown = subprocess.run(
        [PCAPDAEMON, "status", "mine", "--config", daemon.config, "--json"],
        check=True,
        capture_output=True,
        timeout=30,
    )
    assert json.loads(shown.stdout)["requester"] == "root"
    daemon.stop()
    assert not path.exists()


def by_socket(
    path: Path, method: str, target: str, body: Any = None, user: int = 0
) -> tuple[int, Any]:
    """Send a request on a Unix socket as a user, and return the status and the answer."""
    program = (
        "import httpx2, json, os, sys\n"
        "path, method, target, body, user = sys.argv[1:]\n"
        "client = httpx2.Client(transport=httpx2.HTTPTransport(uds=path), timeout=30)\n"
        "os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))\n"
        "answer = client.request(method, 'http://localhost' + target, json=json.loads(body))\n"
        "print(answer.status_code, answer.text)\n"
    )
    arguments = [str(path), method, target, json.dumps(body), str(user)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    status, _, text = done.stdout.partition(" ")
    return int(status), json.loads(text)


def test_tls_knows_clients_and_takes_new_certificates(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    certificates(tmp_path)
    client_certificate(tmp_path, "robot")
    tls = {
        "certificate_file": str(tmp_path / "server.pem"),
        "key_file": str(tmp_path / "server.key"),
        "client_ca_file": str(tmp_path / "ca.pem"),
    }
    tables = sections(wire, tmp_path, http=tls)
    tables["requester 5"] = {"name": "robot", "certificates": ["robot"], "may": ["list-all"]}
    daemon = make(tables).start()

    def get(path: str, certificate: bool, **more: Any) -> httpx2.Response:
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        if certificate:
            context.load_cert_chain(tmp_path / "robot.pem", tmp_path / "robot.key")
        address = f"https://127.0.0.1:{daemon.port}{path}"
        return httpx2.get(address, verify=context, timeout=30, **more)

    assert get("/captures", certificate=True).status_code == 200
    assert get("/captures", certificate=False).status_code == 403
    assert get("/captures", certificate=False, **bearer("admin")).status_code == 200
    with pytest.raises(httpx2.TransportError):
        daemon.api("GET", "/healthz")  # without TLS
    certificates(tmp_path)  # of another authority
    eventually(lambda: daemon.logged("configuration reloaded"), 30)
    assert get("/captures", certificate=False, **bearer("admin")).status_code == 200
    shown = subprocess.run(
        [PCAPDAEMON, "list", "--config", daemon.config, "--token-file", _token(tmp_path)],
        check=True,
        capture_output=True,
        timeout=30,
        env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "ca.pem")},
    )
    assert shown.returncode == 0


def _token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKENS["admin"])
    return path


def client_certificate(directory: Path, name: str) -> None:
    for command in (
        f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr",
        f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days 1 -out {name}.pem",
    ):
        subprocess.run(
            ["openssl", *command.split()], cwd=directory, check=True, capture_output=True
        )


def test_the_command_line_signs(make: Make, wire: Wire, tmp_path: Path) -> None:
    key = tmp_path / "id"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(command, check=True)
    tables = sections(wire, tmp_path, trust={"audience": "prod"})
    tables["requester 5"] = {"name": "human", "keys": [key.with_suffix(".pub").read_text()]}
    tables["requester 6"] = {"name": "local", "may": ["list-all"]}  # to see what becomes of it
    daemon = make(tables).start()
    agent = subprocess.run(["ssh-agent", "-s"], check=True, capture_output=True, text=True).stdout
    words = [line.partition(";")[0] for line in agent.splitlines()]
    found = dict(word.split("=", 1) for word in words if "=" in word)
    try:
        environment = {**os.environ, **found}
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env=environment)
        for n, sign in enumerate(("agent", str(key))):
            done = subprocess.run(
                [
                    *(PCAPDAEMON, "request", "--config", daemon.config, "--sign", sign),
                    *("-i", wire.far, "--duration", "1", "--id", f"cli{n}", "--json"),
                ],
                check=False,
                capture_output=True,
                text=True,
                env=environment,
                timeout=60,
            )
            assert json.loads(done.stdout)["requester"] == "human", done.stderr
        unsigned = subprocess.run(
            [PCAPDAEMON, "request", "--config", daemon.config, "-i", wire.far],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert unsigned.returncode == 1
        assert "local may not do this" in unsigned.stderr
    finally:
        subprocess.run(["kill", found["SSH_AGENT_PID"]], check=True)


def test_who_signs_but_may_not_read_the_record_learns_that_it_runs(
    trusting: DaemonProcess, wire: Wire, tmp_path: Path
) -> None:
    key = ALICE.to_file(tmp_path / "alice")
    address = f"http://127.0.0.1:{trusting.port}"
    words = ["--sign", str(key), "-i", wire.far, "--duration", "1", "--node", "any"]
    one = subprocess.run(
        [PCAPDAEMON, "request", "--url", address, *words, "--id", "one", "--json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (one.returncode, json.loads(one.stdout)["state"]) == (0, "running"), one.stderr
    assert "can't be followed without a token" in one.stderr
    assert "[[requester]]" in one.stderr
    two = subprocess.run(
        [PCAPDAEMON, "request", "--url", address, "--url", address, *words, "--id", "two"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "running" in two.stdout
    assert "rejected" not in two.stdout


def test_a_trigger_may_do_what_its_policy_says(make: Make, wire: Wire, tmp_path: Path) -> None:
    log = tmp_path / "eve.json"
    log.touch()
    request = {"interface": wire.far, "duration": 1}
    tables = sections(wire, tmp_path)
    tables["trigger 1"] = {"name": "ids", "kind": "json", "file": str(log), "request": request}
    tables["trigger 2"] = {"name": "free", "kind": "json", "file": str(log), "request": request}
    tables["requester 5"] = {"name": "trigger:ids", "payload": "headers", "maxpackets": 7}
    daemon = make(tables).start()
    connected = partial(daemon.logged, "source connected")
    eventually(lambda: {"trigger:ids", "trigger:free"} <= {one["source"] for one in connected()})
    with log.open("a") as file:
        file.write('{"alert": 1}\n')
    accepted = eventually(lambda: daemon.logged("request accepted"))
    assert accepted[0]["source"] == "trigger:ids"
    record = daemon.api("GET", f"/captures/{accepted[0]['id']}", **bearer("admin")).json()
    assert (record["requester"], record["limits"]["packets"]) == ("trigger:ids", 7)
    refused = eventually(lambda: daemon.logged("request rejected"))
    assert "trigger:free may do nothing here" in str(refused[0])
    daemon.reported("request accepted", 1)


def test_a_nodes_key_signs_what_it_reports_and_asks(
    make: Make, wire: Wire, tmp_path: Path, redis: RedisServer
) -> None:
    key = tmp_path / "node"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "web1", "-f", str(key)]
    subprocess.run(command, check=True)
    line = key.with_suffix(".pub").read_text().strip()
    bus = {"listen": True, "host": "127.0.0.1", "port": redis.port, "results": "results"}
    results = {"key_file": str(key), "node_keys": [line]}
    tables = sections(wire, tmp_path, redis=bus, results=results, console={"fleet": True})
    tables["general"]["node"] = "web1"
    tables["requester 5"] = {"name": "node", "keys": [line], "may": ["list-all"]}
    daemon = make(tables).start()
    eventually(lambda: daemon.logged("source connected", source="redis"))
    with redis.client() as client:  # what another one says of the node
        data = {"id": "x", "node": "web1", "running": [], "version": "forged"}
        event = {"specversion": "1.0", "type": "pcapdaemon.request.list", "data": data}
        client.publish("results", json.dumps(event))
    fleet = eventually(lambda: daemon.api("GET", "/fleet", **bearer("admin")).json()["nodes"], 60)
    assert [one["node"] for one in fleet] == ["web1"]
    assert fleet[0]["version"] != "forged"
    assert daemon.api("GET", "/fleet", **bearer("narrow")).status_code == 403


def test_ids_and_room_are_taken_before_anything_waits(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    tables = sections(wire, tmp_path, general={"maxcaptures": 2})
    daemon = make(tables).start()
    message = {"node": "any", "interface": [wire.far], "duration": 20, "packets": 5}

    def post(n: int) -> int:
        name = ("admin", "narrow")[n % 2]
        own = {**message, "id": "same" if n < 4 else f"r{n}"}
        return daemon.api("POST", "/captures", json=own, **bearer(name)).status_code

    with ThreadPoolExecutor(12) as pool:
        found = Counter(pool.map(post, range(12)))
    assert found[202] >= 2
    daemon.reported("request accepted", 2)
    assert not daemon.logged("a request failed in an unforeseen way")
    running = daemon.api("GET", "/captures", **bearer("admin")).json()
    assert sum(one["state"] == "running" for one in running) == 2


def test_a_stream_goes_to_nobody_but_its_requester(trusting: DaemonProcess, wire: Wire) -> None:
    signed = ALICE.message({"id": "s", "node": "any", "interface": [wire.far], "duration": 1})
    answer = trusting.api("POST", "/stream", json=signed, **bearer("admin"))
    assert answer.status_code == 400
    assert "can't be signed" in answer.text


def test_a_signed_order_is_obeyed_once(trusting: DaemonProcess) -> None:
    order = BOB.message({"id": "l1", "list": True})
    assert trusting.api("POST", "/captures", json=order).status_code == 200
    again = trusting.api("POST", "/captures", json=order)
    assert again.status_code == 409
    assert "obeyed once" in again.text


def test_whoever_reaches_the_port_from_elsewhere_is_not_local(
    make: Make, wire: Wire, tmp_path: Path
) -> None:
    tables = sections(wire, tmp_path, http={"host": "0.0.0.0"})
    tables["requester 5"] = {"name": "local", "may": ALL}
    daemon = make(tables).start()
    assert daemon.api("GET", "/captures").status_code == 401
    wrong = {"Authorization": "Bearer nonsense"}
    assert daemon.api("GET", "/captures", headers=wrong).status_code == 401
    assert daemon.api("GET", "/captures", **bearer("admin")).status_code == 200


def take_right(daemon: DaemonProcess, right: str) -> None:
    """Reload the configuration without this right."""
    text = daemon.config.read_text()
    assert f'"{right}", ' in text
    daemon.config.write_text(text.replace(f'"{right}", ', ""))
    daemon.signal(signal.SIGHUP)


def test_streams_end_when_rights_change(trusting: DaemonProcess) -> None:
    address = f"http://127.0.0.1:{trusting.port}/events"
    with httpx2.stream("GET", address, headers=bearer("admin")["headers"], timeout=60) as events:
        lines = events.iter_lines()
        next(lines)
        take_right(trusting, "list-all")
        for _ in lines:
            pass  # it ends
    eventually(lambda: trusting.logged("configuration reloaded"))


def test_packets_end_when_rights_change(trusting: DaemonProcess, wire: Wire) -> None:
    address = f"http://127.0.0.1:{trusting.port}/stream"
    message = {"node": "any", "interface": [wire.far], "timeout": 60, "duration": 60, "id": "s"}
    headers = bearer("admin")["headers"]
    with httpx2.stream("POST", address, json=message, headers=headers, timeout=60) as packets:
        parts = packets.iter_bytes()
        next(parts)
        take_right(trusting, "fetch-all")
        for _ in parts:
            pass  # it ends
    record = trusting.api("GET", "/captures/s", **bearer("admin")).json()
    assert record["captures"][0]["stop_reason"] == "stopped"
