"""What all sources share: age, deduplication, floods, cancelling, lists, dry runs, addressing."""

import json
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Make
from tests.aws import MotoServer
from tests.cloudshark import CloudSharkServer
from tests.helpers import Wire, eventually, numbers
from tests.servers import DaemonProcess, RedisServer, wait_for_file


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path).start()
    yield server
    server.kill()


def on(redis: RedisServer, **more: Any) -> dict[str, Any]:
    return {"listen": True, "host": "127.0.0.1", "port": redis.port, **more}


def ready(daemon: DaemonProcess) -> DaemonProcess:
    eventually(lambda: daemon.api("GET", "/readyz").status_code == 200)
    return daemon


def publish(redis: RedisServer, **message: Any) -> None:
    with redis.client() as client:
        assert client.publish("capture", json.dumps(message)) == 1


def ago(**time_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**time_ago)).isoformat()


def test_what_is_too_old_is_refused_with_an_answer(make: Make, wire: Wire) -> None:
    daemon = make().start()
    assert daemon.request(interface=[wire.far], issued_at=ago(seconds=30)).status_code == 202
    old = daemon.request(interface=[wire.far], issued_at=ago(seconds=90))
    assert old.status_code == 410
    assert "90 s old; this node accepts requests up to 60 s" in old.json()["errors"][0]["message"]
    ahead = daemon.request(interface=[wire.far], issued_at=ago(hours=-1))
    assert ahead.status_code == 400
    assert "in the future" in ahead.json()["detail"]
    assert daemon.request(interface=[wire.far], issued_at=ago(minutes=-1)).status_code == 202, (
        "clocks differ by so much"
    )
    daemon.request(interface=[wire.far], issued_at=ago(hours=-1))
    daemon.reported("clocks differ", 1, source="http")  # said once
    for wrong, words in (
        (5, "must be a string, not an integer"),
        ("yesterday", "issued_at"),
        ("2026-01-01", "issued_at"),
    ):
        refused = daemon.request(interface=[wire.far], issued_at=wrong)
        assert refused.status_code == 400
        assert words in refused.text


def test_the_brokers_time_counts_too(make: Make, redis: RedisServer, wire: Wire) -> None:
    daemon = ready(make({"redis": on(redis, stream="requests")}).start())
    body = json.dumps({"node": "any", "interface": [wire.far], "id": "old"})
    with redis.client() as client:
        client.xadd("requests", {"request": body}, id=f"{int(time.time() * 1000) - 90_000}-0")
    eventually(lambda: daemon.logged("request rejected", id="old", kind="expired"))
    with redis.client() as client:
        eventually(lambda: client.xinfo_groups("requests")[0]["pending"] == 0)


def test_an_id_is_captured_once_over_all_sources_and_a_restart(
    make: Make, redis: RedisServer, tmp_path: Path, wire: Wire
) -> None:
    state = str(tmp_path / "state")
    sections = {"redis": on(redis), "general": {"statedir": state}}
    daemon = ready(make(sections).start())
    publish(redis, node="any", interface=[wire.far], id="one", timeout=1)
    eventually(lambda: daemon.logged("request finished", id="one"))
    assert daemon.request(interface=[wire.far], id="one").status_code == 202
    eventually(
        lambda: daemon.logged("request seen before", id="one")
    )  # the log is written a moment later
    daemon.kill()
    again = ready(daemon.start())
    publish(redis, node="any", interface=[wire.far], id="one", timeout=1)
    eventually(lambda: len(again.logged("request seen before", id="one")) == 2)
    assert again.request(interface=[wire.far], id="one").json()["href"] == "/captures/one"
    again.reported("request accepted", 1, id="one")


def test_a_message_without_id_is_known_by_its_place_on_the_bus(
    make: Make, redis: RedisServer, tmp_path: Path, wire: Wire
) -> None:
    sections = {
        "redis": on(redis, stream="requests"),
        "general": {"statedir": str(tmp_path / "state")},
    }
    daemon = ready(make(sections).start())
    with redis.client() as client:
        client.xadd("requests", {"request": json.dumps({"node": "any", "interface": [wire.far]})})
        eventually(lambda: daemon.logged("request accepted"))
        daemon.kill()
        # as if it had been killed after it accepted, but before it acknowledged
        client.xgroup_setid("requests", client.xinfo_groups("requests")[0]["name"], 0)
    ready(daemon.start())
    eventually(lambda: daemon.logged("request seen before"))
    daemon.reported("request accepted", 1)


def test_rates_are_kept_in_all_and_per_customer(make: Make, wire: Wire) -> None:
    daemon = make({"general": {"rate": 4, "customer_rate": 2}}).start()
    answers = [
        daemon.request(interface=[wire.far], customer=customer)
        for customer in ("a", "a", "a", "b", "c", "d")
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 429, 202, 202, 429]
    assert "2 requests a minute from customer a" in answers[2].text
    assert "4 requests a minute ([general] rate)" in answers[5].text


def test_what_a_node_is_too_busy_for_is_given_back_and_taken_later(
    make: Make, redis: RedisServer, wire: Wire
) -> None:
    daemon = ready(
        make({"redis": on(redis, stream="requests"), "general": {"maxcaptures": 1}}).start()
    )
    assert daemon.request(interface=[wire.far], id="first").status_code == 202
    with redis.client() as client:
        client.xadd(
            "requests",
            {
                "request": json.dumps(
                    {"node": "any", "interface": [wire.far], "id": "second", "timeout": 1}
                )
            },
        )
    eventually(lambda: daemon.logged("request returned to its source", id="second"))
    daemon.api("DELETE", "/captures/first")
    eventually(lambda: daemon.logged("request finished", id="second"))
    assert not daemon.logged("request rejected")


def test_an_equal_request_joins_and_the_longest_limits_win(make: Make, wire: Wire) -> None:
    daemon = make({"general": {"coalesce": 30}}).start()
    one = daemon.request(interface=[wire.far], id="one", bpf="udp", packets=10, timeout=1)
    two = daemon.request(interface=[wire.far], id="two", bpf="udp", packets=30, timeout=5)
    other = daemon.request(interface=[wire.far], id="other", bpf="tcp", timeout=1)
    assert "joined" not in one.json()
    assert two.json()["joined"] == "one"
    assert "joined" not in other.json()
    wire.send(40)
    eventually(lambda: daemon.record("two")["state"] == "finished")
    first, second = daemon.record("one"), daemon.record("two")
    assert first["captures"] == second["captures"]
    assert first["captures"][0]["packets"] == 30
    assert first["state"] == "finished"
    assert len(numbers(wait_for_file(daemon.captures, "*one*"))) == 30
    late = daemon.request(interface=[wire.far], id="late", bpf="udp", timeout=1)
    assert "joined" not in late.json(), "what it could join is over"


def test_a_joined_request_may_leave_and_the_other_goes_on(make: Make, wire: Wire) -> None:
    daemon = make({"general": {"coalesce": 30}}).start()
    daemon.request(interface=[wire.far], id="one")
    assert daemon.request(interface=[wire.far], id="two").json()["joined"] == "one"
    daemon.api("DELETE", "/captures/one")
    wire.send(5)
    eventually(lambda: daemon.record("two")["captures"][0]["packets"] == 5)
    daemon.api("DELETE", "/captures/two")
    eventually(lambda: daemon.record("one")["state"] == daemon.record("two")["state"] == "finished")


def test_a_message_cancels_and_what_is_there_is_delivered(
    make: Make, redis: RedisServer, wire: Wire
) -> None:
    daemon = ready(make({"redis": on(redis)}).start())
    daemon.request(interface=[wire.far], id="long")
    wire.send(7)
    eventually(lambda: daemon.record("long")["captures"][0]["packets"] == 7)
    publish(redis, cancel="somebody else's")
    publish(redis, cancel="long", node="another node")
    publish(redis, cancel="long")
    eventually(lambda: daemon.record("long")["state"] == "finished")
    assert len(numbers(wait_for_file(daemon.captures, "*long*"))) == 7
    daemon.reported("request cancelled", 1, id="long", source="redis")
    assert daemon.api("POST", "/captures", json={"cancel": "long"}).status_code == 404
    assert daemon.api("POST", "/captures", json={"cancel": 5}).status_code == 400


def test_a_list_says_what_runs(daemon: DaemonProcess, wire: Wire) -> None:
    daemon.request(interface=[wire.far], id="one", bpf="udp")
    wire.send(3)
    eventually(lambda: daemon.record("one")["captures"][0]["packets"] == 3)
    listed = daemon.api("POST", "/captures", json={"list": True, "node": "any"}).json()
    assert (listed["state"], len(listed["running"])) == ("list", 1)
    one = listed["running"][0]
    assert (one["id"], one["bpf"], one["captures"][wire.far]["packets"]) == ("one", "udp", 3)


def test_a_dry_run_says_what_would_be_or_why_not_and_captures_nothing(
    daemon: DaemonProcess, wire: Wire
) -> None:
    would = daemon.request(
        interface=[wire.far, "nowhere0"], dryrun=True, packets=5, bpf="udp port 53"
    )
    assert would.status_code == 200
    assert would.json()["state"] == "dryrun"
    assert would.json()["interface"] == [wire.far]
    assert would.json()["limits"] == {
        "packets": 5,
        "bytes": 100_000_000,
        "duration": 3600,
        "timeout": 10,
    }
    assert would.json()["unavailable"] == {"nowhere0": "no such interface on this node"}
    assert daemon.request(interface=[wire.far], dryrun=True, packets=60_000).status_code == 400
    wrong = daemon.request(interface=[wire.far], dryrun=True, bpf="not a filter")
    assert wrong.status_code == 400
    assert "syntax error" in wrong.text
    assert daemon.api("GET", "/captures").json()[0]["state"] == "rejected"
    assert not daemon.logged("request accepted")


def test_a_node_has_the_name_and_the_labels_that_its_configuration_gives_it(
    make: Make, wire: Wire
) -> None:
    daemon = make({"general": {"node": "gateway-7"}})
    daemon.config.write_text(
        daemon.config.read_text() + '\n[general.labels]\nrole = "edge"\nSite = "fra1"\n'
    )
    daemon.start()

    def asked(**address: Any) -> int:
        answer = daemon.api(
            "POST", "/captures", json={"interface": [wire.far], "dryrun": True, **address}
        )
        return (
            answer.status_code
            if answer.status_code != 200
            else {"dryrun": 200, "elsewhere": 0}[answer.json()["state"]]
        )

    assert asked(node="gateway-7") == 200
    assert asked(nodere="^gateway-[0-9]$", labels={"role": "edge", "SITE": "fra*"}) == 200
    assert asked(node="any", labels={"role": "edge", "site": "lon*"}) == 0
    assert asked(node="any", labels={"rack": "*"}) == 0
    assert asked(node="any", labels={"role": 5}) == 400
    assert asked(node="any", labels=["edge"]) == 400
    assert asked(labels={"role": "edge"}) == 400


def test_a_deaf_source_is_told_by_readyz_and_by_a_metric_and_since_when(
    make: Make, redis: RedisServer, wire: Wire
) -> None:
    daemon = ready(make({"redis": on(redis)}).start())

    def metric(name: str) -> float:
        lines = daemon.api("GET", "/metrics").text.splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name)))

    assert metric('pcapdaemon_source_connected{source="redis"}') == 1
    redis.kill()
    killed_at = time.time()
    eventually(lambda: metric('pcapdaemon_source_connected{source="redis"}') == 0)
    assert abs(metric('pcapdaemon_source_since_timestamp_seconds{source="redis"}') - killed_at) < 3
    reported = daemon.api("GET", "/readyz")
    assert (reported.status_code, reported.json()["sources"]["redis"]["connected"]) == (503, False)
    assert abs(reported.json()["sources"]["redis"]["since"] - killed_at) < 3
    assert metric('pcapdaemon_source_connections_lost_total{source="redis"}') == 1
    daemon.request(interface=[wire.far], timeout=1)
    assert metric('pcapdaemon_requests_total{outcome="accepted",source="http"}') == 1


def test_with_ack_at_the_finish_a_capture_that_a_crash_ended_is_made_again(
    make: Make, tmp_path: Path, wire: Wire
) -> None:
    moto = MotoServer(tmp_path).start()
    try:
        url = moto.queue("finish")
        account = {
            "endpoint": moto.url,
            "region": "us-east-1",
            "accessid": "test",
            "accesskey": "test",
        }
        sqs = {
            "listen": True,
            "url": url,
            "ack": "finish",
            "visibility": 5,
            "waitseconds": 1,
            **account,
        }
        daemon = ready(make({"sqs": sqs, "general": {"statedir": str(tmp_path / "state")}}).start())
        body = json.dumps({"node": "any", "interface": [wire.far], "id": "one", "timeout": 3})
        moto.sqs.send_message(QueueUrl=url, MessageBody=body)
        eventually(lambda: daemon.logged("capture started", id="one"))
        daemon.kill()
        ready(daemon.start())
        eventually(lambda: len(daemon.logged("request accepted", id="one")) == 2, 15)
        eventually(lambda: daemon.logged("request finished", id="one"), 15)
        eventually(lambda: moto.left(url) == 0)
        moto.sqs.send_message(QueueUrl=url, MessageBody=body)
        eventually(lambda: daemon.logged("request seen before", id="one"))
        assert daemon.stop() == 0
    finally:
        moto.kill()


def test_a_request_for_an_address_is_only_for_the_node_that_has_it(
    daemon: DaemonProcess, wire: Wire
) -> None:
    subprocess.run(["ip", "addr", "add", "198.51.100.7/24", "dev", wire.far], check=True)
    for addresses, state in (
        (["198.51.100.7"], "running"),
        ("198.51.100.0/28", "running"),
        (["198.51.100.8", "203.0.113.0/24"], "elsewhere"),
        (["127.0.0.1"], "elsewhere"),
    ):
        time.sleep(1.1)  # the addresses are looked up once a second
        answer = daemon.request(interface=[wire.far], addresses=addresses, timeout=1)
        assert answer.json()["state"] == state
    assert daemon.request(interface=[wire.far], addresses=["web1"]).status_code == 400


def test_a_request_chooses_among_the_destinations(make: Make, wire: Wire, tmp_path: Path) -> None:
    server = CloudSharkServer(tmp_path).start()
    profile = {"name": "away", "interface": wire.far, "destinations": "cloudshark"}
    daemon = make({"cloudshark": server.section(), "profile 1": profile}).start()
    sending = wire.sending(10**9, rate=200)
    try:
        for name, fields in (
            ("away", {"profile": "away"}),
            ("both", {"interface": [wire.far]}),
            ("here", {"interface": [wire.far], "destinations": ["local"]}),
        ):
            daemon.request(wait=True, id=name, packets=3, **fields)
    finally:
        sending.kill()
        sending.wait()
    found = {n: set(daemon.record(n)["captures"][0]["delivered"]) for n in ("away", "both", "here")}
    assert found == {"away": {"cloudshark"}, "both": {"cloudshark", "local"}, "here": {"local"}}
    assert len(list(daemon.captures.glob("*.pcap"))) == 2
    wrong = daemon.request(interface=[wire.far], destinations=["s3"])
    assert "destinations: unknown 's3'; this node has: " in wrong.json()["detail"]
    server.kill()


def test_a_profile_gives_what_the_request_does_not_say(make: Make, wire: Wire) -> None:
    profile = {"name": "five", "interface": wire.far, "packets": 5, "format": "pcapng"}
    daemon = make({"profile 1": profile}).start()
    assert daemon.request(profile="five", id="a").status_code == 202
    assert daemon.request(profile="five", id="b", packets=7, format="pcap").status_code == 202
    unknown = daemon.request(profile="six")
    assert (unknown.status_code, "this node has: five" in unknown.text) == (400, True)
    for name in ("a", "b"):
        eventually(partial(daemon.logged, "capture started", id=name))
    wire.send(9)
    for name, packets, form in (("a", 5, ".pcapng"), ("b", 7, ".pcap")):
        eventually(partial(daemon.logged, "request finished", id=name))
        (file,) = daemon.captures.glob(f"*-{name}{form}")
        assert numbers(file) == list(range(packets))
