"""The HTTP API, used like any client would."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from pcapdaemon.api.listening import Tcp
from pcapdaemon.api.server import ApiServer
from pcapdaemon.sources.http import HttpSettings
from tests.acceptance.conftest import Make
from tests.helpers import Wire, eventually
from tests.servers import DaemonProcess, wait_for_file


def post(daemon: DaemonProcess, body: bytes, **headers: str) -> httpx2.Response:
    return daemon.api(
        "POST", "/captures", content=body, headers={"content-type": "application/json", **headers}
    )


def test_accepted_with_id_and_where_to_look(daemon: DaemonProcess, wire: Wire) -> None:
    answer = daemon.request(interface=[wire.far], id="a/b c?ü")
    assert answer.status_code == 202
    assert answer.json()["id"] == "a/b c?ü"
    record = daemon.api("GET", answer.headers["location"]).json()
    assert (record["id"], record["state"], record["source"]) == ("a/b c?ü", "running", "http")
    assert record["captures"][0]["linktype"] == "EN10MB"
    assert daemon.api("DELETE", answer.headers["location"]).status_code == 202
    eventually(lambda: daemon.api("GET", answer.headers["location"]).json()["state"] == "finished")


def test_live_counters_while_it_runs(daemon: DaemonProcess, wire: Wire) -> None:
    daemon.request(interface=[wire.far], id="live")
    wire.send(50)
    eventually(lambda: daemon.record("live")["captures"][0]["packets"] == 50)
    assert daemon.record("live")["captures"][0]["state"] == "running"


def test_wait_answers_with_the_result(daemon: DaemonProcess, wire: Wire) -> None:
    results: list[Any] = []
    waiting = threading.Thread(
        target=lambda: results.append(
            daemon.request(wait=True, interface=[wire.far], packets=3, id="w").json()
        )
    )
    waiting.start()
    eventually(lambda: daemon.record("w").get("captures", [{}])[0].get("state") == "running")
    wire.send(3)
    waiting.join()
    capture = results[0]["captures"][0]
    assert (capture["state"], capture["stop_reason"], capture["packets"]) == (
        "delivered",
        "packets",
        3,
    )
    assert capture["last_packet_at"] >= capture["first_packet_at"] > capture["started_at"] - 1


def test_a_kept_connection_does_not_hold_back_responses() -> None:
    server = ApiServer(HttpSettings(listen=True, port=0), lambda event: None, Tcp("127.0.0.1", 0))
    with server._socket, socket.create_connection(("127.0.0.1", server.port)):
        accepted, _ = server._socket.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_every_problem_of_a_request_as_problem_details(daemon: DaemonProcess) -> None:
    answer = daemon.request(interface="eth0", packets="x", timeout=99999, id=5, alertid=1.5)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert {error["field"] for error in body["errors"]} == {
        "interface",
        "packets",
        "timeout",
        "id",
        "alertid",
    }
    assert {"type", "title", "status", "detail"} <= body.keys()


def test_a_bad_filter_is_refused_in_libpcaps_words_by_field(
    daemon: DaemonProcess, wire: Wire
) -> None:
    body = daemon.request(interface=[wire.far], bpf="portt 5").json()
    assert (body["status"], body["errors"][0]["field"]) == (400, "bpf")
    assert "syntax error" in body["detail"]
    assert "pcap-filter(7)" in body["hint"]
    assert daemon.record(body["id"])["state"] == "rejected", (
        "the history says the same as the answer"
    )
    assert not daemon.logged("request accepted", id=body["id"])


def test_an_id_that_was_accepted_is_answered_as_before_and_not_captured_again(
    daemon: DaemonProcess, wire: Wire
) -> None:
    first = daemon.request(interface=[wire.far], id="one")
    again = daemon.request(interface=[wire.far], id="one")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["href"] == first.json()["href"]
    assert again.json()["warnings"] == ["it was accepted before, and is not captured again"]
    assert daemon.record("one")["state"] == "running"
    daemon.api("DELETE", "/captures/one")
    eventually(lambda: daemon.record("one")["state"] == "finished")
    assert daemon.request(wait=True, interface=[wire.far], id="one").json()["state"] == "finished"
    daemon.reported("request accepted", 1)


def test_without_dedupe_an_id_that_runs_is_a_conflict(make: Make, wire: Wire) -> None:
    daemon = make({"general": {"dedupe": 0}}).start()
    assert daemon.request(interface=[wire.far], id="one").status_code == 202
    assert daemon.request(interface=[wire.far], id="one").status_code == 409


def test_no_room_is_busy_and_later_there_is_room(make: Make, wire: Wire) -> None:
    daemon = make({"general": {"maxcaptures": 1}}).start()
    assert daemon.request(interface=[wire.far], id="first").status_code == 202
    busy = daemon.request(interface=[wire.far])
    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    assert "maxcaptures = 1" in busy.json()["detail"]
    daemon.api("DELETE", "/captures/first")
    eventually(lambda: daemon.record("first")["state"] == "finished")
    assert daemon.request(interface=[wire.far]).status_code == 202


def test_what_is_ignored_is_said(daemon: DaemonProcess, wire: Wire) -> None:
    answer = daemon.request(interface=[wire.far], frob=1, packetdebug=True)
    assert answer.json()["warnings"] == [
        "unknown field 'frob' is ignored",
        "packetdebug is ignored: [general] allow_packetdebug is not set",
    ]
    assert daemon.request(interface=["nope"], frob=1).json()["warnings"] == [
        "unknown field 'frob' is ignored"
    ]


def test_for_another_node_is_no_error(daemon: DaemonProcess) -> None:
    answer = daemon.request(node="elsewhere", interface=["lo"])
    assert (answer.status_code, answer.json()["state"]) == (200, "elsewhere")
    assert daemon.api("GET", "/captures").json() == []


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"host": "evil.example.com"}, 421),
        (b"{}", {"host": "evil.example.com:8723"}, 421),
        (b"{}", {"host": "localhost:evil"}, 421),
        (b"{}", {"host": "[::1]evil"}, 421),
        (b"{", {}, 400),
        (b"x" * 70_000, {}, 413),
        (b"", {}, 400),
    ],
)
def test_what_is_not_taken(
    daemon: DaemonProcess, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = post(daemon, body, **headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


@pytest.mark.parametrize(
    "host", ["localhost:8723", "127.0.0.1", "[::1]:8723", "127.9.9.9:1", "LOCALHOST", "localhost."]
)
def test_names_of_this_machine_are_taken(daemon: DaemonProcess, host: str) -> None:
    assert daemon.api("GET", "/captures", headers={"host": host}).status_code == 200


def test_unknown_requests_and_paths_are_not_found(daemon: DaemonProcess) -> None:
    assert daemon.api("GET", "/captures/nope").status_code == 404
    assert daemon.api("DELETE", "/captures/nope").json()["title"] == "Not found"
    for method, path, status in (
        ("GET", "/nonsense", 404),
        ("PUT", "/captures", 405),
        ("GET", "/captures?limit=0", 422),
    ):
        answer = daemon.api(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (
            status,
            "application/problem+json",
        )


def test_a_token_is_asked_for_by_everything_but_the_life_sign(make: Make) -> None:
    daemon = make({"http": {"host": "0.0.0.0", "token": "s3cret-token"}}).start()
    assert daemon.api("GET", "/healthz").status_code == 200
    for path in ("/readyz", "/captures", "/openapi.json", "/docs"):
        assert daemon.api("GET", path).status_code == 401
    wrong = daemon.api("GET", "/captures", headers={"authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, "Bearer")
    right = {"authorization": "bearer s3cret-token", "host": "node7.example.com"}
    assert daemon.api("GET", "/captures", headers=right).status_code == 200
    assert "s3cret" not in daemon.log_path.read_text()


def test_newest_first_and_no_more_than_asked_for(daemon: DaemonProcess) -> None:
    for number in range(5):
        daemon.request(interface=["nope"], id=str(number))
    assert [record["id"] for record in daemon.api("GET", "/captures?limit=3").json()] == [
        "4",
        "3",
        "2",
    ]


def test_openapi_describes_the_message(daemon: DaemonProcess) -> None:
    page = daemon.api("GET", "/docs")
    assert "POST /captures" in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    operation = daemon.api("GET", "/openapi.json").json()["paths"]["/captures"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert {"node", "interface", "bpf", "packets"} <= schema["properties"].keys()
    assert "429" in operation["responses"]


def test_a_client_that_sends_slowly_or_goes_holds_up_nobody(
    daemon: DaemonProcess, wire: Wire
) -> None:

    slow = socket.create_connection(("127.0.0.1", daemon.port))
    slow.sendall(
        b"POST /captures HTTP/1.1\r\nHost: localhost\r\nContent-Type:"
        b" application/json\r\nContent-Length: 500\r\n\r\n{"
    )
    assert daemon.request(interface=[wire.far], id="quick").status_code == 202
    slow.close()
    assert daemon.api("GET", "/healthz").status_code == 200
    assert json.loads(daemon.api("GET", "/captures/quick").text)["state"] == "running"


def test_what_balancers_proxies_and_browsers_expect(make: Make) -> None:
    daemon = make({"http": {"names": ["captures.example.com"]}}).start()
    for path in ("/healthz", "/readyz", "/captures", "/metrics", "/docs"):
        head, got = daemon.api("HEAD", path), daemon.api("GET", path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert got.headers["cache-control"] == "no-store"
        assert got.headers["x-content-type-options"] == "nosniff"
        assert got.headers["x-frame-options"] == "DENY"
    wrong = daemon.api("PUT", "/captures")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    named = {"host": "captures.example.com"}
    assert daemon.api("GET", "/healthz", headers=named).status_code == 200
    assert daemon.api("GET", "/healthz", headers={"host": "example.com"}).status_code == 421
    front = daemon.api("GET", "/", follow_redirects=True)
    assert "/console/" in str(front.url)


def test_the_description_is_openapi_3_1(daemon: DaemonProcess) -> None:
    text = daemon.api("GET", "/openapi.json").text
    assert "itemSchema" not in text
    paths = json.loads(text)["paths"]
    assert "404" in paths["/captures/{request_id}"]["get"]["responses"]
    assert "422" in paths["/captures"]["get"]["responses"]


def test_idle_and_slow_connections_are_closed_and_further_ones_too(
    daemon: DaemonProcess, wire: Wire
) -> None:
    idle = [socket.create_connection(("127.0.0.1", daemon.port)) for _ in range(1100)]
    slow = idle[-1]
    slow.sendall(
        b"POST /captures HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 500\r\n\r\n{"
    )
    assert daemon.api("GET", "/healthz").status_code == 200
    assert daemon.request(interface=[wire.far], id="amid", packets=3).status_code == 202
    wire.send(3)
    wait_for_file(daemon.captures, "*amid.pcap")
    slow.settimeout(20)
    assert slow.recv(1000) == b"", "it is closed after 10 s"
    for one in idle:
        one.close()
    assert daemon.stop() == 0


def test_wrong_tokens_leave_a_trace_that_is_bounded(make: Make) -> None:
    daemon = make({"http": {"token": "a-long-token"}}).start()

    def knock(_: int) -> int:
        return daemon.api("GET", "/captures", headers={"authorization": "Bearer wrong"}).status_code

    with ThreadPoolExecutor(50) as pool:
        assert set(pool.map(knock, range(150))) == {401}
    metrics = daemon.api("GET", "/metrics", headers={"authorization": "Bearer a-long-token"}).text
    assert "pcapdaemon_http_unauthorized_total 150.0" in metrics
    eventually(lambda: len(daemon.logged("request without a valid token")) >= 60)
    lines = daemon.logged("request without a valid token")
    assert len(lines) < 120, "60 a minute, and the rest is counted"
    assert lines[0]["client"] == "127.0.0.1"


def test_a_repeated_id_that_is_waited_for_says_so(daemon: DaemonProcess, wire: Wire) -> None:
    message: dict[str, Any] = {
        "interface": [wire.far],
        "id": "twice",
        "packets": 1,
        "customer": "acme",
    }
    assert daemon.request(**message).status_code == 202
    wire.send(1)
    again = daemon.request(wait=True, **message).json()
    assert again["customer"] == "acme"
    assert "accepted before" in " ".join(again["warnings"])


def test_a_result_that_comes_as_a_request_is_answered(daemon: DaemonProcess) -> None:
    body = json.dumps({"specversion": "1.0", "type": "pcapdaemon.request.finished", "data": {}})
    answer = post(daemon, body.encode())
    assert (answer.status_code, answer.json()["state"]) == (200, "elsewhere")


def test_records_are_found_by_what_caused_them(daemon: DaemonProcess, wire: Wire) -> None:
    cause = {"system": "alertmanager", "id": "ab12", "title": "Packet loss"}
    more: dict[str, dict[str, Any]] = {
        "one": {"cause": cause, "customer": "acme"},
        "two": {"cause": {**cause, "id": "cd34"}, "tags": "dns, slow"},
        "three": {"customer": "acme"},
    }
    for name, fields in more.items():
        daemon.request(wait=True, interface=[wire.far], id=name, duration=1, **fields)

    def found(**query: str) -> list[str]:
        return [one["id"] for one in daemon.api("GET", "/captures", params=query).json()]

    assert found() == ["three", "two", "one"]
    assert found(cause="ab12") == ["one"]
    assert found(cause="alertmanager") == found(cause="packet LOSS") == ["two", "one"]
    assert found(customer="acme") == ["three", "one"]
    assert found(customer="acme", cause="cd34") == found(tag="fast") == []
    assert found(tag="slow") == ["two"]
    assert found(limit="1") == ["three"]
    assert found(since="2026-01-01T00:00:00Z") == ["three", "two", "one"]
    assert found(since="2090-01-01T00:00:00Z") == []
    assert daemon.api("GET", "/captures", params={"since": "yesterday"}).status_code == 422
    record = daemon.record("one")
    assert record["cause"] == cause
