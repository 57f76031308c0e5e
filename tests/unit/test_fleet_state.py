"""What the console knows of the fleet: bounded, whoever sends, and only what changed is sent on."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core.cloudevents import encode
from pcapdaemon.fleet import state
from pcapdaemon.fleet.fetch import is_allowed
from pcapdaemon.fleet.state import FleetState

NOW = 1_000_000.0
PRESENCE: dict[str, Any] = {
    **{"version": "0.1.0", "labels": {"site": "fra1"}, "interface": ["eth0"], "running": []},
    **{"recorders": [], "memory": 100, "used": 5, "url": "https://a.example"},
}


def result(kind: str, node: str, request_id: str = "", at: float = NOW, **data: Any) -> bytes:
    return encode(kind, request_id, data, node, at)


def test_a_node_is_known_by_anything_and_described_by_its_answer() -> None:
    fleet = FleetState()
    fleet.on_result(result("accepted", "a", "r", interface=["eth0"], bpf="tcp"), NOW, 0)
    fleet.on_result(result("list", "b", **PRESENCE), NOW, 0)
    found = fleet.since(0, NOW + 10)
    assert [one["node"] for one in found["nodes"]] == ["a", "b"]
    assert found["nodes"][1].items() >= {"version": "0.1.0", "memory": 100, "alive": True}.items()
    assert not fleet.since(0, NOW + 1000)["nodes"][0]["alive"]
    assert found["requests"][0].items() >= {"id": "r", "nodes": 1, "bpf": "tcp"}.items()


def test_a_reader_gets_what_is_newer_than_what_it_has() -> None:
    fleet = FleetState()
    fleet.on_result(result("list", "a", **PRESENCE), NOW, 0)
    first = fleet.since(0, NOW)
    fleet.on_result(result("accepted", "b", "r", interface=["eth0"]), NOW, 0)
    second = fleet.since(first["change"], NOW)
    assert [one["node"] for one in second["nodes"]] == ["b"]
    assert fleet.since(second["change"], NOW)["nodes"] == []


def test_a_request_on_several_nodes_to_its_end() -> None:
    fleet = FleetState()
    for node in "abc":
        fleet.on_result(result("accepted", node, "r", interface=["eth0"]), NOW, 0)
    fleet.on_result(
        result("progress", "a", "r", interface="eth0", packets=7, bytes=700, received=7), NOW, 1
    )
    capture = {"interface": "eth0", "state": "delivered", "packets": 9, "file_name": "f"}
    record: dict[str, Any] = {"state": "finished", "captures": [capture]}
    fleet.on_result(result("finished", "b", "r", **record), NOW, 1)
    summary = fleet.requests["r"].summary()
    assert summary["states"] == {"running": 2, "finished": 1}
    assert (summary["packets"], summary["files"]) == (16, 1)
    fleet.look(1000)
    assert fleet.requests["r"].summary()["states"] == {"silent": 2, "finished": 1}
    assert fleet.since(fleet.change - 1, NOW)["requests"]


def test_clocks_by_the_fastest_message() -> None:
    fleet = FleetState()
    for late in (0.5, 0.02, 0.3):
        fleet.on_result(result("list", "a", at=NOW + 3, **PRESENCE), NOW + late, 0)
    assert fleet.nodes["a"].clock == pytest.approx(2.98)


def test_strangers_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MOST_NODES", 50)
    monkeypatch.setattr(state, "MOST_REQUESTS", 40)
    fleet = FleetState()
    for n in range(500):
        fleet.on_result(result("accepted", f"n{n}", f"r{n}", bpf="x" * 1000), NOW, 0)
        fleet.on_result(result("list", f"n{n}", **PRESENCE), NOW, 0)
    assert (len(fleet.nodes), len(fleet.requests)) == (50, 40)
    monkeypatch.setattr(state, "MOST_BYTES", 100_000)
    for n in range(500):
        fleet.on_result(result("accepted", "a", f"s{n}", bpf="x" * 9000), NOW, 0)
    assert 0 < len(fleet.requests) < 15
    for n in range(2000):
        one = result("failed", "a", "s499", interface=f"eth{n}", reason="x")
        fleet.on_result(one, NOW, 0)
    assert len(fleet.requests["s499"].followed.records["a"]["captures"]) <= 256
    before = fleet.ignored
    fleet.on_result(result("list", "b", version="x" * (1 << 20)), NOW, 0)
    assert fleet.ignored == before + 1


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("accepted", {"interface": ["e"], "bpf": "x"}),
    ("accepted", {"interface": ["e"], "warnings": ["x"]}),
    ("failed", {"interface": "e", "reason": "x"}),
    ("spooled", {"interface": "e", "pending": ["x"], "reason": "x"}),
    ("rejected", {"problems": [{"field": "x", "message": "x"}]}),
    ("finished", {"captures": [{"interface": "e", "state": "failed", "reason": "x"}]}),
    ("progress", {"interface": "x", "packets": 1, "bytes": 1}),
]


@pytest.mark.parametrize(("kind", "data"), KINDS)
def test_what_strangers_send_stays_within_the_bound(
    monkeypatch: pytest.MonkeyPatch, kind: str, data: dict[str, Any]
) -> None:
    monkeypatch.setattr(state, "MOST_BYTES", 4_000_000)
    fleet = FleetState()
    tracemalloc.start()
    for n in range(150):
        long = json.dumps(data).replace("x", f"{n}" + "x" * 100_000)
        for node in ("a", "b"):
            fleet.on_result(result(kind, node, f"r{n}", **json.loads(long)), NOW, 0)
            small = result("progress", node, f"r{n}", interface="e", packets=1, bytes=1)
            fleet.on_result(small, NOW, 0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert fleet.requests
    assert held < 3 * 4_000_000


@given(
    st.sampled_from(["list", "accepted", "progress", "finished", "rejected", "failed", "x"]),
    st.dictionaries(
        st.sampled_from(["captures", "interface", "labels", "recorders", "state", "bpf", "cause"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
        ),
    ),
)
def test_whatever_is_in_a_result_it_can_be_shown(kind: str, data: dict[str, Any]) -> None:
    fleet = FleetState()
    fleet.on_result(result(kind, "n", "r", **data), NOW, 0)
    fleet.on_result(json.dumps(data).encode(), NOW, 0)
    json.dumps(fleet.since(0, NOW))
    for request in fleet.requests.values():
        json.dumps(request.followed.records)


def test_savefiles_are_only_fetched_from_nodes_that_are_named() -> None:
    globs = ["https://*.example.com", "http://10.0.0.*:8723"]
    assert is_allowed("https://a.example.com", globs)
    assert is_allowed("https://a.example.com/node1", globs)
    assert is_allowed("http://10.0.0.7:8723/", globs)
    assert is_allowed("https://x.b.example.com:8723", ["https://*.example.com:*"])
    assert not is_allowed("https://node1.evil.test", ["https://node*"])
    assert is_allowed("https://node1", ["https://node*"])
    for url in (
        "https://evil.test/.example.com",
        "https://evil.test#.example.com",
        "https://user@evil.test\\.example.com",
        "https://x:y@evil.test/a.example.com",
        "http://a.example.com",
        "http://10.0.0.7:8724",
        "https://evil.test?.example.com",
        "file:///etc/passwd",
        "https://a.example.com@evil.test",
        "http://10.0.0.evil.test:8723",
        "http://10.0.0.7.evil.test:8723",
        "https://a.example.com/?x=",
        "https://a.example.com/../x",
        "https://a.example.com/#",
        "",
    ):
        assert not is_allowed(url, globs), url


@pytest.mark.parametrize(
    "body",
    [
        result("list", "odd", **PRESENCE).replace(b'"odd"', b'"\\ud800x"'),
        result("accepted", "a", "odd", interface=["eth0"]).replace(b'"odd"', b'"\\ud800"'),
        result("list", "a", **PRESENCE).replace(b'"used": 5', b'"used": 5, "extra": NaN'),
        result("list", "a", **PRESENCE).replace(b'"used": 5', b'"x": ' + b"[" * 900 + b"]" * 900),
        b"[" * 100_000,
    ],
    ids=["node", "id", "constant", "nested", "deep"],
)
def test_no_result_breaks_the_view_of_others(body: bytes) -> None:
    fleet = FleetState()
    fleet.on_result(result("list", "good", **PRESENCE), NOW, 0)
    fleet.on_result(body, NOW, 0)
    shown = json.dumps(fleet.since(-1, NOW), allow_nan=False)
    shown.encode()
    assert "good" in shown


def test_what_comes_after_the_end_does_not_begin_a_request_again() -> None:
    fleet = FleetState()
    capture = {"interface": "eth0", "state": "spooled", "packets": 1, "pending": ["s3", "x"]}
    fleet.on_result(result("finished", "a", "r", state="finished", captures=[capture]), NOW, 0)
    fleet.on_result(
        result(
            "delivered", "a", "r", interface="eth0", destination="x", receipt={"where": "there"}
        ),
        NOW,
        0,
    )
    assert fleet.requests["r"].summary()["states"] == {"finished": 1}


def test_a_clock_that_was_set_is_seen() -> None:
    fleet = FleetState()
    fleet.on_result(result("list", "a", at=NOW + 3600, **PRESENCE), NOW, 0)
    fleet.on_result(result("list", "a", at=NOW + 700, **PRESENCE), NOW + 700, 0)
    assert fleet.nodes["a"].clock == pytest.approx(0)
