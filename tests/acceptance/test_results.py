"""Requesters receive the results of their requests."""

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from tests.acceptance.conftest import Make
from tests.acceptance.test_cli import command
from tests.contracts.sources import Shared
from tests.helpers import Wire, eventually
from tests.servers import DaemonProcess, RedisServer, free_port
from tests.webhook import SECRET, Receiver


class Ear:
    """Collects what is published on a channel, in a thread."""

    def __init__(self, server: RedisServer, channel: str = "results") -> None:
        self.results: list[dict[str, Any]] = []
        self._server, self._channel = server, channel
        self._pubsub: Any = server.client().pubsub()  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(channel)
        assert self._pubsub.get_message(timeout=5)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._pubsub.close()

    def kinds(self) -> list[str]:
        return [result["type"].removeprefix("pcapdaemon.request.") for result in self.results]

    def of(self, kind: str) -> dict[str, Any]:
        found = eventually(
            lambda: [r["data"] for r in self.results if r["type"].endswith(f".{kind}")], 15
        )
        data: dict[str, Any] = found[0]
        return data

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                message: Any = self._pubsub.get_message(timeout=0.2)
            except (redis.RedisError, OSError, ValueError):
                time.sleep(0.05)
                continue
            if message and message["type"] == "message":
                self.results.append(json.loads(message["data"]))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path).start()
    yield made
    made.kill()


Listen = Callable[..., Ear]


@pytest.fixture
def listen(server: RedisServer) -> Iterator[Listen]:
    """Makes listeners on channels, and closes them."""
    ears: list[Ear] = []

    def one(channel: str = "results") -> Ear:
        ears.append(Ear(server, channel))
        return ears[-1]

    yield one
    for ear in ears:
        ear.close()


def section(server: RedisServer, **more: Any) -> dict[str, dict[str, Any]]:
    return {
        "redis": {
            "listen": True,
            "host": "127.0.0.1",
            "port": server.port,
            "results": "results",
            **more,
        }
    }


def publish(server: RedisServer, **message: Any) -> None:
    with server.client() as client:
        eventually(lambda: client.publish("capture", json.dumps({"node": "any", **message})))


def test_on_redis_the_whole_story_comes_on_the_channel_and_in_the_stream(
    make: Make, server: RedisServer, listen: Listen, wire: Wire
) -> None:
    daemon = make(section(server)).start()
    ear = listen()
    publish(server, interface=[wire.far], id="reported", packets=20, customer="acme", sha256=True)
    eventually(lambda: daemon.logged("capture started", id="reported"))
    wire.send(20)
    manifest = ear.of("finished")
    (capture,) = manifest["captures"]
    savefile = Path(capture["delivered"]["local"]["where"]).read_bytes()
    assert (capture["packets"], capture["complete"], capture["missing"], manifest["final"]) == (
        20,
        True,
        [],
        True,
    )
    assert capture["sha256"] == hashlib.sha256(savefile).hexdigest()
    assert ear.kinds() == ["finished"]
    publish(server, interface=[wire.far], id="bad", packets=0, bpf="x" * 5000, snap="x")
    problems = {problem["field"] for problem in ear.of("rejected")["problems"]}
    assert problems == {"packets", "bpf", "snap"}
    with server.client() as client:
        entries: Any = client.xrange("results")
    assert [json.loads(fields[b"result"])["type"] for _, fields in entries] == [
        r["type"] for r in ear.results
    ]


def test_redis_that_is_gone_at_the_moment_of_the_answer(
    make: Make, server: RedisServer, listen: Listen, wire: Wire
) -> None:
    daemon = make(section(server)).start()
    publish(server, interface=[wire.far], id="later", packets=5)
    eventually(lambda: daemon.logged("capture started", id="later"))
    server.kill()
    wire.send(5)
    eventually(lambda: daemon.logged("request finished", id="later"))
    server.start()
    ear = listen()
    with server.client() as client:
        eventually(lambda: ear.results or client.xlen("results"), 15)
        eventually(lambda: client.xlen("results") == 1)


def test_all_events_as_server_sent_events_which_end_with_the_daemon(
    daemon: DaemonProcess, wire: Wire
) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    listening = threading.Event()

    def listen() -> None:
        with httpx2.stream(
            "GET", f"http://127.0.0.1:{daemon.port}/events", params={"id": "sse"}, timeout=30
        ) as response:
            kind = ""
            for line in response.iter_lines():
                listening.set()
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    heard.append((kind, json.loads(line.removeprefix("data: "))))

    thread = threading.Thread(target=listen)
    thread.start()
    assert listening.wait(10)
    daemon.request(interface=[wire.far], id="other", timeout=1)
    daemon.request(interface=[wire.far], id="sse", packets=30, timeout=5)
    eventually(lambda: daemon.logged("capture started", id="sse"))
    wire.send(10)
    eventually(
        lambda: any(kind == "progress" and event["data"]["packets"] == 10 for kind, event in heard)
    )
    wire.send(20)
    eventually(lambda: heard and heard[-1][0] == "finished")
    kinds = [kind for kind, _ in heard if kind != "progress"]
    assert kinds == ["accepted", "started", "captured", "delivered", "finished"]
    assert {event["subject"] for _, event in heard} == {"sse"}
    begun = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - begun < 5
    thread.join(5)
    assert not thread.is_alive()


def test_webhook_is_signed_and_sent_again_until_it_is_taken(make: Make, wire: Wire) -> None:
    port = free_port()
    hook: dict[str, Any] = {
        "webhook": f"http://127.0.0.1:{port}/hook?key=s3cret-in-url",
        "secret": SECRET,
    }
    daemon = make({"results": {**hook, "events": ["accepted", "finished"]}}).start()
    record = daemon.request(wait=True, interface=[wire.far], id="hooked", timeout=1).json()
    assert record["state"] == "finished", "nobody listens there, and nothing waits for it"
    receiver = Receiver(port)
    receiver.statuses = [503, 500]
    try:
        eventually(lambda: len(receiver.events) == 2, 20)
        assert [event["type"].rpartition(".")[2] for event in receiver.events] == [
            "accepted",
            "finished",
        ]
        assert receiver.forged == 0
        assert "s3cret" not in daemon.log_path.read_text()
    finally:
        receiver.close()


def test_a_request_says_where_its_results_go(
    make: Make, server: RedisServer, listen: Listen, wire: Wire
) -> None:
    daemon = make(section(server, results=["results", "netops"])).start()
    ear, other = listen("netops"), listen()
    refused = daemon.request(interface=[wire.far], reply_to="nowhere")
    assert refused.status_code == 400
    assert "netops, results" in refused.json()["detail"]
    daemon.request(
        interface=[wire.far],
        id="by http",
        reply_to="netops",
        reply_events=["accepted", "finished"],
        timeout=1,
    )
    assert ear.of("finished")["id"] == "by http"
    assert ear.kinds() == ["accepted", "finished"]
    assert other.results == []


def test_the_end_of_the_daemon_is_told_as_incomplete(
    make: Make, server: RedisServer, listen: Listen, wire: Wire
) -> None:
    daemon = make(section(server)).start()
    ear = listen()
    publish(server, interface=[wire.far], id="cut")
    eventually(lambda: daemon.logged("capture started", id="cut"))
    wire.send(5)
    daemon.signal(signal.SIGTERM)
    manifest = ear.of("finished")
    (capture,) = manifest["captures"]
    assert (capture["stop_reason"], capture["complete"]) == ("shutdown", False)
    assert "shut down" in capture["missing"][0]
    assert daemon.wait() == 0


def test_an_interface_that_goes_away_makes_it_incomplete(daemon: DaemonProcess, wire: Wire) -> None:
    import subprocess

    daemon.request(interface=[wire.far], id="gone")
    eventually(lambda: daemon.logged("capture started", id="gone"))
    wire.send(7)
    subprocess.run(["ip", "link", "del", wire.far], check=True)
    eventually(lambda: daemon.record("gone")["state"] == "finished")
    (capture,) = daemon.record("gone")["captures"]
    assert (capture["complete"], capture["missing"]) == (False, ["the interface went down or away"])


def test_drops_make_it_incomplete_and_are_counted(make: Make, wire: Wire) -> None:
    daemon = make(
        {"capture": {"buffer": 131072}, "general": {"maxpackets": 10**7, "maxbytes": 10**9}}
    ).start()
    daemon.request(
        interface=[wire.far], id="drops", duration=3, packets=10**7, bytes=10**9, timeout=3
    )
    eventually(lambda: daemon.logged("capture started", id="drops"))
    assert daemon.process
    daemon.signal(signal.SIGSTOP)
    wire.send(20_000, size=1000)
    daemon.signal(signal.SIGCONT)
    eventually(lambda: daemon.record("drops")["state"] == "finished")
    (capture,) = daemon.record("drops")["captures"]
    dropped = capture["dropped"]
    assert dropped > 0
    assert dropped + capture["packets"] == 20_000 == capture["received"]
    assert capture["missing"] == [
        f"{dropped} packets were dropped: the kernel's buffer was full ([capture] buffer)"
    ]
    metrics = daemon.api("GET", "/metrics").text
    assert f'pcapdaemon_dropped_packets_total{{by="kernel"}} {float(dropped)}' in metrics
    assert "pcapdaemon_captures_incomplete_total 1.0" in metrics


def test_request_follows_several_nodes_over_http(make: Make, wire: Wire) -> None:
    nodes = [make({"general": {"node": name}}).start() for name in ("a", "b")]
    urls = [word for node in nodes for word in ("--url", f"http://127.0.0.1:{node.port}")]
    away = ("--url", f"http://127.0.0.1:{free_port()}")
    words = ("request", *urls, "-i", wire.far, "--timeout", "1", "--id", "both")
    result = command(*words, "--json")
    assert result.returncode == 0, result.stderr
    assert sorted(record["node"] for record in json.loads(result.stdout)) == ["a", "b"]
    table = command(*words[:-1], "again", *away)
    assert table.returncode == 1
    assert "unreachable" in table.stdout
    assert "Traceback" not in table.stderr
    assert table.stdout.count("empty") == 2


def test_metrics_tell_of_captures_deliveries_and_memory(
    make: Make, tmp_path: Path, wire: Wire
) -> None:
    daemon = make({"spool": {"dir": str(tmp_path / "spool")}}).start()
    daemon.request(interface=[wire.far], id="m", packets=10)
    eventually(lambda: daemon.logged("capture started", id="m"))
    assert "pcapdaemon_captures_running 1.0" in daemon.api("GET", "/metrics").text
    wire.send(10)
    eventually(lambda: daemon.logged("request finished", id="m"))
    text = daemon.api("GET", "/metrics").text
    for line in (
        "pcapdaemon_captures_running 0.0",
        'pcapdaemon_captures_total{reason="packets"} 1.0',
        "pcapdaemon_captured_packets_total 10.0",
        'pcapdaemon_deliveries_total{destination="local",outcome="delivered"} 1.0',
        'pcapdaemon_delivery_seconds_count{destination="local"} 1.0',
        "pcapdaemon_request_to_armed_seconds_count 1.0",
        'pcapdaemon_last_packet_to_delivered_seconds_count{destination="local"} 1.0',
        'pcapdaemon_requests_total{outcome="accepted",source="http"} 1.0',
        "pcapdaemon_spool_files 0.0",
        f"pcapdaemon_memory_budget_bytes {float(256 << 20)}",
    ):
        assert line.replace(f"{float(256 << 20)}", "2.68435456e+08") in text, line


def test_a_webhook_that_cannot_be_reached_is_reported_before_the_first_result(make: Make) -> None:
    port = free_port()
    daemon = make(
        {"results": {"webhook": f"http://127.0.0.1:{port}/?key=s3cret", "secret": SECRET}}
    )
    found = command("check", "--config", daemon.config)
    assert found.returncode == 1
    assert "WRONG results webhook: webhook 127.0.0.1: " in found.stdout
    daemon.start()
    eventually(lambda: daemon.logged("results can't be sent now", place="webhook"))
    daemon.reported("results can't be sent now", 1)
    daemon.request(interface=["nope"])
    eventually(lambda: len(daemon.logged("results can't be sent now")) == 2)
    metrics = daemon.api("GET", "/metrics").text
    assert 'pcapdaemon_results_delayed_total{place="webhook"} 1.0' in metrics
    receiver = Receiver(port)
    eventually(lambda: receiver.events)
    assert "ok    results webhook: " in command("check", "--config", daemon.config).stdout
    assert daemon.stop() == 0
    assert "s3cret" not in daemon.log_path.read_text() + found.stdout
    receiver.close()


def test_check_tries_every_place_for_results(make: Make, shared: Shared) -> None:
    shared.kafka.create("check-results")
    shared.moto.queue("check-results")
    keys = {"accessid": "test", "accesskey": "test", "region": "us-east-1"}
    tables = {
        "kafka": {
            "listen": True,
            "server": shared.kafka.address,
            "topic": "check",
            "results": ["check-results", "no-such-topic"],
        },
        "sqs": {
            "listen": True,
            "endpoint": shared.moto.url,
            "queue": "check-results",
            "results": "no-such-queue",
            **keys,
        },
    }
    lines = command("check", "--config", make(tables).config).stdout
    assert "ok    results kafka check-results: " in lines
    assert "WRONG results kafka no-such-topic: " in lines
    assert "WRONG results sqs no-such-queue: " in lines
