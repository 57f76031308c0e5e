"""The alerts and the dashboard are valid, and use metrics that exist.

promtool comes with Prometheus.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pcapdaemon.core.interface import RecorderStatus
from pcapdaemon.telemetry.metrics import Levels, Metrics

STATUS = RecorderStatus(
    "eth0", True, "", "EN10MB", 96, "", 30, 1 << 26, 12.5, 1000, 10, 0, 0, 1, 0.5
)
DOCS = Path(__file__).parents[2] / "docs"
ALERTS = DOCS / "alerts.yml"
DASHBOARD = json.loads((DOCS / "grafana-dashboard.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

FIRING = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'pcapdaemon_source_connected{{instance="a", source="kafka"}}'
        values: '1 1 0x20'
      - {{series: 'pcapdaemon_source_connected{{instance="a", source="http"}}', values: '1x22'}}
      - series: 'pcapdaemon_deliveries_total{{instance="a", destination="s3", outcome="lost"}}'
        values: '0x9 1x12'
      - series: 'pcapdaemon_deliveries_total{{instance="a", destination="s3", outcome="failed"}}'
        values: '0+1x40'
      - series: 'pcapdaemon_deliveries_total{{instance="a", destination="s3", outcome="delivered"}}'
        values: '0+1x40'
      - series: 'pcapdaemon_deliveries_total{{instance="a", destination="local", outcome="failed"}}'
        values: '0+1x40'
      - {{series: 'pcapdaemon_spool_oldest_seconds{{instance="a"}}', values: '0x5 4000x20'}}
    alert_rule_test:
      - alertname: PcapdaemonSourceDisconnected
        eval_time: 10m
        exp_alerts:
          - exp_labels: {{severity: critical, instance: a, source: kafka}}
            exp_annotations: {{summary: a has no connection to kafka, description: {disconnected}}}
      - alertname: PcapdaemonSourceDisconnected
        eval_time: 1m
        exp_alerts: []
      - alertname: PcapdaemonSavefileLost
        eval_time: 12m
        exp_alerts:
          - exp_labels: {{severity: critical, instance: a, destination: s3, outcome: lost}}
            exp_annotations: {{summary: a lost a savefile that was for s3, description: {lost}}}
      - alertname: PcapdaemonDeliveryFailing
        eval_time: 35m
        exp_alerts:
          - exp_labels: {{severity: warning, instance: a, destination: local, outcome: failed}}
            exp_annotations: {{summary: "a can't deliver to local", description: {failing}}}
      - alertname: PcapdaemonSpoolOld
        eval_time: 4m
        exp_alerts: []
"""


def promtool(*words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *map(str, words)], capture_output=True, text=True, check=False, **more
    )


def exposed() -> str:
    return Metrics(Levels(recorders=lambda: [STATUS])).text().decode()


def description(alert: str) -> str:
    found = re.search(rf"alert: {alert}\n.*?description: (.*?)\n", ALERTS.read_text(), re.DOTALL)
    assert found
    return json.dumps(found[1])


def test_the_alerts_are_rules_that_prometheus_takes() -> None:
    result = promtool("check", "rules", ALERTS)
    assert result.returncode == 0, result.stderr
    assert "18 rules found" in result.stdout


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    words = {
        "disconnected": "PcapdaemonSourceDisconnected",
        "lost": "PcapdaemonSavefileLost",
        "failing": "PcapdaemonDeliveryFailing",
    }
    file = tmp_path / "test.yml"
    file.write_text(
        FIRING.format(rules=ALERTS, **{name: description(alert) for name, alert in words.items()})
    )
    result = promtool("test", "rules", file)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_dashboard_asks_what_prometheus_understands(expression: str, tmp_path: Path) -> None:
    plain = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
    assert "$" not in plain
    rules = {"groups": [{"name": "x", "rules": [{"record": "x:y", "expr": plain}]}]}
    (tmp_path / "rules.yml").write_text(json.dumps(rules))
    result = promtool("check", "rules", tmp_path / "rules.yml")
    assert result.returncode == 0, result.stderr


def test_alerts_and_dashboard_speak_of_metrics_that_there_are() -> None:
    there = {name.removesuffix("_total") for name in re.findall(r"# TYPE (\w+) ", exposed())}
    used = set(re.findall(r"pcapdaemon_\w+", ALERTS.read_text() + " ".join(EXPRESSIONS)))
    base = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in used}
    assert not base - there
    assert there - base == {"pcapdaemon_source_since_timestamp_seconds"}, (
        "the others are shown, or watched"
    )


def test_the_metrics_are_to_prometheus_liking() -> None:
    result = promtool("check", "metrics", input=exposed())
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_dashboard_has_a_title_a_description_and_a_unit_everywhere() -> None:
    assert len(DASHBOARD["panels"]) >= 15
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
    assert {one["name"] for one in DASHBOARD["templating"]["list"]} == {"datasource", "instance"}
