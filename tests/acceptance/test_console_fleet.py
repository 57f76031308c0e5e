"""The console of a fleet: three daemons on one Redis, in a real browser."""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, expect

from tests.browser import visit
from tests.helpers import Wire, eventually, tshark
from tests.servers import DaemonProcess, RedisServer

Fleet = list[DaemonProcess]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def fleet(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three daemons; the first has the console of the fleet."""
    made: Fleet = []
    for n in range(3):
        daemon = DaemonProcess(tmp_path_factory.mktemp("daemon"))
        sections: dict[str, Any] = {
            "general": {"node": f"node-{n}", "labels": {"site": "fra1" if n else "lon2"}},
            "redis": {"listen": True, "port": redis.port, "results": "results"},
            "http": {"public_url": f"http://127.0.0.1:{daemon.port}"},
        }
        if n == 0:
            sections["audit"] = {"file": str(daemon.config.with_name("audit"))}
            sections["console"] = {"fleet": True, "fetch_from": ["http://127.0.0.1:*"]}
        daemon.write_config(sections)
        made.append(daemon.start())
    for daemon in made:
        eventually(partial(is_ready, daemon))
    eventually(lambda: len(nodes(made[0])) == 3)
    yield made
    for daemon in made:
        daemon.end()


def is_ready(daemon: DaemonProcess) -> bool:
    return daemon.api("GET", "/readyz").status_code == 200


def nodes(daemon: DaemonProcess) -> list[dict[str, Any]]:
    found = daemon.api("GET", "/fleet").json()
    return [one for one in found["nodes"] if one.get("version")]


def test_nodes_requests_and_one_file_of_all(
    browser: Browser, fleet: Fleet, wire: Wire, tmp_path: Path
) -> None:
    with visit(browser, f"http://127.0.0.1:{fleet[0].port}") as made:
        page = made.open("fleet")
        table = page.get_by_role("table", name="Nodes")
        expect(table.get_by_role("row")).to_have_count(4)
        expect(table).to_contain_text("site=fra1")
        page.fill("#node-search", "fra1")
        expect(table.get_by_role("row")).to_have_count(3)
        made.picture("fleet")
        assert made.axe() == []
        page.get_by_role("link", name="Capture on several nodes").click()
        page.select_option("#where", "nodere")
        page.fill("#node", "^node-[12]$")
        page.fill("#other", wire.far)
        page.fill("#packets", "10")
        page.fill("#timeout", "30")
        page.get_by_role("button", name="Who would capture?").click()
        page.wait_for_url(re.compile("#/fleet/."))
        answers = page.get_by_role("table", name="Nodes of the request")
        expect(answers.get_by_role("row")).to_have_count(3)
        expect(answers).to_contain_text(f"would capture on {wire.far}")
        page.go_back()
        page.select_option("#where", "any")
        page.fill("#other", wire.far)
        page.fill("#packets", "10")
        page.fill("#timeout", "30")
        page.get_by_role("button", name="Start").click()
        page.wait_for_url(re.compile("#/fleet/."))
        expect(answers.get_by_role("row")).to_have_count(4)
        expect(answers.locator(".state.live").first).to_be_visible()
        request_id = page.locator("h1").inner_text()
        for daemon in fleet:
            eventually(partial(daemon.logged, "capture started", id=request_id))
        wire.send(10)
        expect(page.locator("main [role=status]")).to_contain_text("finished 3")
        expect(page.locator("main")).to_contain_text("30 packets")
        answers.get_by_role("row").nth(1).click()
        expect(page.get_by_role("region", name="node-0")).to_contain_text("delivered")
        made.picture("fleet-request")
        assert made.axe() == []
        with page.expect_download() as download:
            page.get_by_role("button", name="Download one file").click()
        download.value.save_as(tmp_path / "all.pcapng")
    rows = tshark(tmp_path / "all.pcapng", "frame.interface_name", "frame.time_epoch")
    assert sorted({name for name, _ in rows}) == [f"node-{n}/{wire.far}" for n in range(3)]
    times = [float(time) for _, time in rows]
    assert (len(times), times) == (30, sorted(times))


def test_stop_on_all_nodes(fleet: Fleet, wire: Wire) -> None:
    console = fleet[0]
    message = {"node": "any", "interface": [wire.far], "timeout": 60, "id": "long"}
    assert console.api("POST", "/fleet/captures", json=message).status_code == 202
    path = "/fleet/captures/long"
    eventually(lambda: console.api("GET", path).json().get("states") == {"running": 3})
    assert console.api("DELETE", path).status_code == 202
    eventually(lambda: console.api("GET", path).json()["states"] == {"finished": 3})


def test_what_can_not_be_asked_of_the_fleet_is_refused(fleet: Fleet, daemon: DaemonProcess) -> None:
    console = fleet[0]
    assert console.api("POST", "/fleet/captures", json={"cancel": "x"}).status_code == 400
    assert console.api("POST", "/fleet/captures", content=b"{}").status_code == 415
    assert console.api("POST", "/fleet/captures?bus=kafka", json={"node": "a"}).status_code == 404
    assert console.api("GET", "/fleet/captures/nothing").status_code == 404
    assert console.api("GET", "/fleet/captures/nothing/merged").status_code == 404
    assert daemon.api("GET", "/fleet").status_code == 404


def test_a_thousand_nodes_and_ten_thousand_requests(browser: Browser, fleet: Fleet) -> None:
    url = f"http://127.0.0.1:{fleet[0].port}"
    with visit(browser, url) as made:
        found = httpx2.get(f"{url}/fleet").json()
        known, summary = (
            found["nodes"][0],
            {"seen_at": 1.7e9, "nodes": 1, "states": {"finished": 1}},
        )
        summary |= {"packets": 1, "bytes": 1, "files": 0}
        found["nodes"] = [{**known, "node": f"n{n:04}"} for n in range(1000)]
        found["requests"] = [{**summary, "id": f"r{n}"} for n in range(10_000)]
        body = f"event: fleet\ndata: {httpx2.Response(200, json=found).text}\n\n"
        made.page.route(
            "**/fleet/events",
            lambda route: route.fulfill(body=body, content_type="text/event-stream"),
        )
        page = made.open("fleet")
        expect(page.locator("main [role=status]").first).to_contain_text("1000 nodes")
        expect(page.locator("main [role=status]").first).to_contain_text("10.0 k requests")
        assert page.locator(".long-list .row").count() < 150


def test_a_node_without_its_file_is_named_and_can_be_left_out(
    fleet: Fleet, wire: Wire, tmp_path: Path
) -> None:
    console = fleet[0]
    sent = console.api(
        "POST", "/fleet/captures", json={"node": "any", "interface": [wire.far], "packets": 2}
    )
    assert sent.status_code == 202
    path = f"/fleet/captures/{sent.json()['id']}"
    for daemon in fleet:
        started = partial(daemon.logged, "capture started", id=sent.json()["id"])
        eventually(started)
    wire.send(2)
    eventually(lambda: console.api("GET", path).json()["states"].get("finished") == 3)
    fleet[2].stop()
    refused = console.api("GET", f"{path}/merged")
    assert refused.status_code == 422
    assert "node-2" in refused.json()["detail"]
    others = console.api("GET", f"{path}/merged?partial=true")
    (tmp_path / "some.pcapng").write_bytes(others.content)
    assert len(tshark(tmp_path / "some.pcapng", "frame.number")) == 4
    lines = [
        json.loads(line) for line in console.config.with_name("audit").read_text().splitlines()
    ]
    merged = f"{sent.json()['id']}.pcapng"
    assert [one["event"] for one in lines if one.get("file_name") == merged] == ["fetched"]


def test_a_bus_that_is_down_is_shown(browser: Browser, fleet: Fleet, redis: RedisServer) -> None:
    with visit(browser, f"http://127.0.0.1:{fleet[0].port}") as made:
        page = made.open("fleet")
        expect(page.get_by_role("table", name="Nodes").get_by_role("row")).to_have_count(4)
        redis.kill()
        eventually(lambda: fleet[0].api("GET", "/fleet").json()["buses"]["redis"])
        # an open page knows with the next node or request, and a new one at once
        page.reload()
        expect(page.locator(".problem").first).to_contain_text("redis")
        sent = fleet[0].api("POST", "/fleet/captures", json={"node": "any", "interface": ["lo"]})
        assert (sent.status_code, sent.json()["status"]) == (503, 503)
