"""The kinds of alerts. Pure.

A new kind is one file here, one line in this table and its payloads in tests/alerts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pcapdaemon.triggers.alert import Alert, decode
from pcapdaemon.triggers.kinds import (
    alertmanager,
    cloudevents,
    falco,
    other,
    snmp,
    suricata,
    syslog,
    zeek,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a message becomes alerts.

    `decode` turns the body into a value, and `alerts` that into alerts. Both raise NotAnAlert. A
    line that does not contain `marker` has no alert: files have many such lines.
    """

    alerts: Callable[[Any], list[Alert]]
    marker: bytes = b""
    decode: Callable[[bytes], Any] = decode


TABLE: Mapping[str, Kind] = {
    "alertmanager": Kind(alertmanager.alerts),
    "grafana": Kind(alertmanager.of_grafana),
    "falco": Kind(falco.alerts),
    "suricata": Kind(suricata.alerts, marker=b'"alert"'),
    "zeek": Kind(zeek.alerts, marker=b'"note"'),
    "cloudevents": Kind(cloudevents.alerts),
    "snmp": Kind(snmp.alerts, decode=snmp.decode),
    "syslog": Kind(syslog.alerts, decode=syslog.decode),
    "json": Kind(other.alerts),
}
