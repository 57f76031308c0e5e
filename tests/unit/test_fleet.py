"""Results of several nodes, combined."""

from typing import Any

from pcapdaemon.fleet.followed import Followed

COUNTS = {"packets": 5, "received": 5, "dropped": 1, "dropped_by_interface": 0}
END = {
    "interface": "eth0",
    **COUNTS,
    "bytes": 800,
    "stop_reason": "idle",
    "seconds": 1.5,
    "trigger": 1.0,
}
CAPTURED = {
    **END,
    "file_name": "f.pcap",
    "sha256": "ab",
    "pending": ["s3"],
    "complete": False,
    "missing": ["1 packet"],
}


def reported(*results: tuple[str, dict[str, Any]]) -> Followed:
    nodes = Followed(silence=60)
    for now, (kind, data) in enumerate(results):
        nodes.on_result(kind, {"id": "x", "node": "a", **data}, float(now))
    return nodes


def test_a_node_goes_through_its_states() -> None:
    results: list[tuple[str, dict[str, Any]]] = [
        ("accepted", {"interface": ["eth0"], "limits": {"packets": 10}}),
        ("started", {"interface": "eth0", "linktype": "EN10MB", "snap": 96, "started_at": 1.0}),
        ("progress", {"interface": "eth0", **COUNTS, "bytes": 700}),
        ("captured", CAPTURED),
        ("delivered", {"interface": "eth0", "destination": "s3", "receipt": {"where": "s3://b/k"}}),
    ]
    captures = [
        reported(*results[: number + 1]).records["a"]["captures"][0]
        for number in range(len(results))
    ]
    states = [capture["state"] for capture in captures]
    assert states == ["starting", "running", "running", "delivering", "delivered"]
    assert [capture["bytes"] for capture in captures] == [0, 0, 700, 800, 800]
    assert captures[-1]["delivered"]["s3"]["where"] == "s3://b/k"
    nodes = reported(*results)
    assert nodes.records["a"]["limits"] == {"packets": 10}
    assert not nodes.over
    nodes.on_result(
        "finished",
        {"id": "x", "node": "a", "state": "finished", "captures": [{"state": "delivered"}]},
        9.0,
    )
    assert nodes.over
    assert nodes.good


def test_several_nodes_are_over_when_all_are() -> None:
    nodes = reported(
        ("accepted", {"interface": ["eth0"]}),
        ("rejected", {"node": "b", "problems": [{"field": "bpf", "message": "bad"}]}),
    )
    assert nodes.records["b"]["problems"] == ["bpf: bad"]
    assert not nodes.over
    nodes.on_result("finished", {"id": "x", "node": "a", "state": "finished", "captures": []}, 2.0)
    assert nodes.over
    assert not nodes.good, "one refused"


def test_one_who_is_silent_is_waited_for_no_longer() -> None:
    nodes = reported(("accepted", {"interface": ["eth0"]}))
    nodes.look(60.0)
    assert not nodes.over
    nodes.look(61.0)
    assert nodes.over
    assert not nodes.good


def test_nobody_at_all_is_not_good() -> None:
    assert Followed().over
    assert not Followed().good


def test_a_loss_is_told() -> None:
    nodes = reported(
        ("accepted", {"interface": ["eth0"]}),
        ("failed", {"interface": "eth0", "destination": "s3", "reason": "no such bucket"}),
    )
    assert nodes.records["a"]["captures"][0]["reason"] == "s3: no such bucket"
    assert nodes.records["a"]["captures"][0]["state"] == "lost"


def test_what_is_malformed_is_ignored() -> None:
    nodes = reported(("accepted", {"interface": ["eth0"]}))
    before = dict(nodes.records)
    for kind, data in (
        ("captured", {"interface": "eth0"}),
        ("started", {"interface": "eth0", "snap": "x"}),
        ("delivered", {}),
    ):
        nodes.on_result(kind, {"id": "x", "node": "a", **data}, 5.0)
    assert nodes.records.keys() == before.keys()
    nodes.on_result("accepted", {"id": "x"}, 5.0)
    assert nodes.records["a"]["captures"][0]["interface"] == "eth0"
