"""Falco alerts, from its `http_output` or `file_output` in JSON, or from Falcosidekick.

`output_fields` has only the fields that the rule's output names, so add `%fd.cip %fd.cport %fd.sip
%fd.sport %fd.l4proto` to it, or use `append_output`. Its names contain dots.
"""

from typing import Any

from pcapdaemon.core.paths import find
from pcapdaemon.triggers.alert import Alert, NotAnAlert, digest, ends, first_text, moment_of


def alerts(message: Any) -> list[Alert]:
    """Return the alert of a message."""
    if not isinstance(message, dict) or "rule" not in message or "priority" not in message:
        raise NotAnAlert("has no rule and priority; this is not a Falco alert")
    fields = find(message, "output_fields")
    flow = _flow(fields)
    rule, at = first_text(message, "rule"), moment_of(message.get("time"))
    host = first_text(message, "hostname")
    key = first_text(message, "uuid") or digest(rule, host, flow, first_text(message, "time"))
    cause = {"system": "falco", "id": key, "title": first_text(message, "output", "rule")}
    return [Alert(message, key, at, flow=flow, node=host, cause=cause)]


def _flow(fields: Any) -> dict[str, Any]:
    """Return client and server, or if they are unknown, this end and the other."""
    sides = (("cip", "cport", "sip", "sport"), ("lip", "lport", "rip", "rport"))
    for names in sides:
        src, sport, dst, dport = (f"fd.{name}" for name in names)
        found = ends(fields, src=src, sport=sport, dst=dst, dport=dport, proto="fd.l4proto")
        if "src" in found or "dst" in found:
            return found
    return {}
