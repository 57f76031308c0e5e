"""Suricata events (EVE). Those that are no alerts are skipped.

The addresses are those of the packet that matched; either end may be the server.
"""

from typing import Any

from pcapdaemon.core.paths import find
from pcapdaemon.triggers.alert import Alert, NotAnAlert, digest, ends, first_text, moment_of


def alerts(message: Any) -> list[Alert]:
    """Return the alert of an event, or nothing if it is another event."""
    kind = find(message, "event_type")
    if not isinstance(kind, str):
        raise NotAnAlert("has no event_type; this is not a Suricata event")
    if kind != "alert":
        return []
    flow = ends(
        message, src="src_ip", sport="src_port", dst="dest_ip", dport="dest_port", proto="proto"
    )
    gid, sid = first_text(message, "alert.gid"), first_text(message, "alert.signature_id")
    found = first_text(message, "flow_id") or digest(flow, first_text(message, "timestamp"))
    key = f"{found}-{gid}-{sid}"
    return [
        Alert(
            message,
            key,
            moment_of(message.get("timestamp")),
            since=moment_of(find(message, "flow.start")),
            flow=flow,
            node=first_text(message, "host"),
            cause={
                "system": "suricata",
                "id": first_text(message, "community_id") or key,
                "title": first_text(message, "alert.signature"),
            },
        )
    ]
