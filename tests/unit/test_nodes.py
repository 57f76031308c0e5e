"""What several nodes told, put shared."""

from typing import Any

from pcapdaemon.cli.fleet import Fleet

COUNTS = {"packets": 5, "received": 5, "dropped": 1, "dropped_by_interface": 0}


def told(*results: tuple[str, dict[str, Any]]) -> Fleet:
    nodes = Fleet(silence=60)
    for now, (kind, data) in enumerate(results):
        nodes.on_result(kind, {"id": "x", "node": "a", **data}, float(now))
    return nodes


def test_a_node_goes_through_its_states() -> None:
    manifest: list[tuple[str, dict[str, Any]]] = [
        ("accepted", {"interfaces": ["eth0"], "limits": {"packets": 10}}),
        ("started", {"interface": "eth0", "linktype": "EN10MB", "snaplen": 96}),
        ("progress", {"interface": "eth0", **COUNTS, "size": 700}),
        ("captured", {"interface": "eth0", **COUNTS, "bytes": 800, "stop_reason": "idle"}),
        ("delivered", {"interface": "eth0", "destination": "s3", "receipt": {"where": "s3://b/k"}}),
    ]
    states = [told(*manifest[: number + 1]).records["a"]["captures"][0]["state"] for number in range(len(manifest))]
    assert states == ["starting", "running", "running", "delivering", "delivering"]
    capture = told(*manifest).records["a"]["captures"][0]
    assert capture["delivered"] == {"s3": "s3://b/k"}
    assert (capture["counts"]["packets"], capture["counts"]["size"]) == (5, 800)
    nodes = told(*manifest)
    assert not nodes.over
    nodes.on_result("finished", {"id": "x", "node": "a", "state": "finished", "captures": [{"state": "delivered"}]}, 9.0)
    assert nodes.over
    assert nodes.good


def test_several_nodes_are_over_when_all_are() -> None:
    nodes = told(
        ("accepted", {"interfaces": ["eth0"]}), ("rejected", {"node": "b", "problems": [{"field": "bpf", "message": "bad"}]})
    )
    assert nodes.records["b"]["problems"] == ["bpf: bad"]
    assert not nodes.over
    nodes.on_result("finished", {"id": "x", "node": "a", "state": "finished", "captures": []}, 2.0)
    assert nodes.over
    assert not nodes.good, "one refused"


def test_one_who_is_silent_is_waited_for_no_longer() -> None:
    nodes = told(("accepted", {"interfaces": ["eth0"]}))
    nodes.look(60.0)
    assert not nodes.over
    nodes.look(61.0)
    assert nodes.over
    assert not nodes.good


def test_nobody_at_all_is_not_good() -> None:
    assert Fleet().over
    assert not Fleet().good


def test_a_loss_is_told() -> None:
    nodes = told(
        ("accepted", {"interfaces": ["eth0"]}), ("failed", {"interface": "eth0", "destination": "s3", "reason": "no such bucket"})
    )
    assert nodes.records["a"]["captures"][0]["error"] == "s3: no such bucket"
    assert nodes.records["a"]["captures"][0]["state"] == "lost"
