"""Zeek notices (notice.log in JSON). Lines of other logs are skipped.

A notice about a connection has its ends as `id.orig_h` and so on; others have `src`, `dst` and `p`.
"""

from typing import Any

from pcapdaemon.triggers.alert import Alert, NotAnAlert, digest, ends, first_text, moment_of


def alerts(message: Any) -> list[Alert]:
    """Return the alert of a notice, or nothing if it is a line of another log."""
    if not isinstance(message, dict) or "ts" not in message:
        raise NotAnAlert("has no ts; this is not a Zeek log line in JSON")
    note = first_text(message, "note")
    if not note:
        return []
    flow = ends(
        message,
        src="id.orig_h",
        sport="id.orig_p",
        dst="id.resp_h",
        dport="id.resp_p",
        proto="proto",
    )
    if "src" not in flow and "dst" not in flow:
        flow = ends(message, src="src", dst="dst", dport="p", proto="proto")
    uid = first_text(message, "uid") or digest(flow, first_text(message, "sub"))
    return [
        Alert(
            message,
            f"{uid}-{note}",
            moment_of(message.get("ts")),
            flow=flow,
            node=first_text(message, "peer_descr"),
            cause={
                "system": "zeek",
                "id": first_text(message, "community_id") or f"{uid}-{note}",
                "title": first_text(message, "msg") or note,
            },
        )
    ]
