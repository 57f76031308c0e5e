"""Alerts of Prometheus Alertmanager (webhook version 4) and of Grafana, which has the same form.

A message has all alerts of a group, also those that were sent before. So each alert is identified
by its fingerprint, which is a hash of its labels, and the moment since which it fires.
"""

from typing import Any

from pcapdaemon.core.paths import find
from pcapdaemon.triggers.alert import (
    Alert,
    NotAnAlert,
    digest,
    ends,
    first_text,
    moment_of,
    objects,
)


def alerts(message: Any) -> list[Alert]:
    """Return the alerts of a group of Alertmanager."""
    return _alerts(message, "alertmanager", "generatorURL")


def of_grafana(message: Any) -> list[Alert]:
    """Return the alerts of a group of Grafana."""
    return _alerts(message, "grafana", "panelURL", "dashboardURL", "generatorURL")


def _alerts(message: Any, system: str, *links: str) -> list[Alert]:
    found = find(message, "alerts")
    if not isinstance(found, list):
        raise NotAnAlert("has no array of alerts; this is not a webhook of Alertmanager or Grafana")
    return [_alert(one, system, links) for one in objects(found)]


def _alert(fields: dict[str, Any], system: str, links: tuple[str, ...]) -> Alert:
    at = moment_of(fields.get("startsAt"))
    fingerprint = first_text(fields, "fingerprint") or digest(fields.get("labels"))
    key = f"{fingerprint}-{at:.0f}" if at else fingerprint
    title = first_text(fields, "annotations.summary", "annotations.description", "labels.alertname")
    instance = first_text(fields, "labels.instance")
    return Alert(
        fields,
        key,
        at,
        resolved=fields.get("status") == "resolved",
        flow=ends(
            find(fields, "labels"),
            src="src_ip",
            sport="src_port",
            dst="dst_ip",
            dport="dst_port",
            proto="proto",
        ),
        node=first_text(fields, "labels.node")
        or instance.rpartition(":")[0]
        or instance
        or first_text(fields, "labels.host"),
        cause={"system": system, "id": key, "url": first_text(fields, *links), "title": title},
    )
