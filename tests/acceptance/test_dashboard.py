"""Each panel of the dashboard has data on a node that has just started, says a Prometheus."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.acceptance.conftest import Make
from tests.helpers import Wire, eventually
from tests.servers import DaemonProcess, Server, free_port

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana-dashboard.json"
PANELS = json.loads(DASHBOARD.read_text())["panels"]


class Prometheus(Server):
    """A Prometheus that scrapes one daemon twice a second."""

    def __init__(self, directory: Path, daemon: DaemonProcess) -> None:
        self._port = free_port()
        config = directory / "prometheus.yml"
        target = {"targets": [f"127.0.0.1:{daemon.port}"]}
        jobs = [{"job_name": "pcapdaemon", "static_configs": [target]}]
        config.write_text(
            json.dumps({"global": {"scrape_interval": "500ms"}, "scrape_configs": jobs})
        )
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory}/tsdb"]
        self._process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{self._port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, query: str) -> list[Any]:
        """Return the series that a query finds now."""
        url = f"http://127.0.0.1:{self._port}/api/v1/query"
        try:
            answer = httpx2.get(url, params={"query": query}, timeout=5)
        except httpx2.TransportError:
            return []
        if answer.status_code == 503:  # it is starting
            return []
        assert answer.is_success, answer.text
        return list(answer.json()["data"]["result"])


@pytest.fixture
def prometheus(make: Make, tmp_path: Path, wire: Wire) -> Iterator[Prometheus]:
    tables = {
        "spool": {"dir": str(tmp_path / "spool")},
        "recorder 1": {"interface": wire.far, "memory": "8MiB"},
        "results": {"webhook": "http://127.0.0.1:9/hook"},
        "trigger 1": {"name": "any", "kind": "json", "request": {"interface": wire.far}},
    }
    server = Prometheus(tmp_path, make(tables).start())
    try:
        eventually(lambda: server.ask("count_over_time(pcapdaemon_memory_used_bytes[1m]) >= 4"))
        yield server
    finally:
        server.kill()


def test_every_panel_has_data_on_a_fresh_node(prometheus: Prometheus) -> None:
    empty = {
        panel["title"]: target["expr"]
        for panel in PANELS
        for target in panel.get("targets", ())
        if not prometheus.ask(
            target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
        )
    }
    assert empty == {}
