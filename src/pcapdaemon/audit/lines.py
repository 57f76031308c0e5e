"""What the audit log says about each event."""

import time
from typing import Any

from pcapdaemon.core.events import (
    CaptureEvent,
    CaptureFailed,
    CaptureStopped,
    Event,
    RequestAccepted,
    RequestCancelled,
    RequestJoined,
    RequestRejected,
    RequestReturned,
    RequestTriedOut,
    SavefileDelivered,
    SavefileLost,
)
from pcapdaemon.core.node_events import (
    ConfigurationRefused,
    ConfigurationReloaded,
    SavefileFetched,
)
from pcapdaemon.core.plan import CapturePlan
from pcapdaemon.core.text import shortened
from pcapdaemon.core.wire import to_wire

Line = tuple[str, dict[str, Any]]
"""What happened, and the facts."""


def line_of(event: Event) -> Line | None:
    """Return what the log says about an event, or None if it says nothing."""
    if isinstance(event, CaptureEvent):
        return _of_capture(event)
    found: Line | None = None
    match event:
        case RequestAccepted(source, plan):
            found = "accepted", granted(plan, source, event.key)
        case RequestReturned(request_id, source, reason):
            found = "returned", {"id": request_id, "source": source, "reason": reason}
        # those without a valid signature are counted, because strangers may cause any number
        case RequestRejected() if event.kind != "untrusted":
            problems = [str(one) for one in event.problems]
            found = "refused", {**_sender(event), "kind": event.kind, "problems": problems}
        case RequestJoined():
            found = "joined", {**_sender(event), "joined": event.joined}
        case RequestCancelled():
            found = "cancelled", _sender(event)
        case RequestTriedOut():
            found = "dryrun", _sender(event)
        case SavefileFetched(request_id, name, requester, client):
            facts = {"requester": requester, "client": client}
            found = "fetched", {"id": request_id, "file_name": name, **facts}
        case ConfigurationReloaded():
            found = "reloaded", {}
        case ConfigurationRefused(wrong):
            found = "configuration-refused", {"problems": [*map(shortened, wrong[:20])]}
    return found


def _of_capture(event: CaptureEvent) -> Line | None:
    about = {"id": event.id, "interface": event.interface}
    match event:
        case CaptureStopped():
            return "captured", {**about, **_captured(event)}
        case CaptureFailed(_, _, reason):
            return "failed", {**about, "reason": reason}
        case SavefileDelivered(_, _, destination, receipt):
            where = {"destination": destination, "where": receipt.where.partition("?")[0]}
            return "delivered", {**about, **where}
        case SavefileLost(_, _, destination, reason):
            return "lost", {**about, "destination": destination, "reason": reason}
    return None


def granted(plan: CapturePlan, source: str, key: str) -> dict[str, Any]:
    """Return what was asked, and what is granted."""
    asked = plan.request.model_dump(mode="json", by_alias=True, exclude_unset=True)
    given = {
        "interfaces": [part.interface.name for part in plan.captures],
        "filter": plan.capture_filter,
        "required": plan.required,
        "limits": to_wire(plan.limits),
        "lookback": round(plan.window(time.time()).lookback, 3),
        "snaplen": plan.snaplen,
        "payload": "headers" if plan.headers_only else "full",
        "destinations": list(plan.request.destinations),
        "encrypt_to": list(plan.encrypt_to),
        "stream": bool(plan.stream),
    }
    sender = {"requester": plan.requester, "key": key, "source": source}
    return {"id": plan.id, **sender, "asked": asked, "granted": given}


def _sender(event: Any) -> dict[str, Any]:
    sender = {"requester": event.requester, "key": event.key, "source": event.source}
    return {"id": event.id, **sender}


def _captured(event: CaptureStopped) -> dict[str, Any]:
    outcome = event.outcome
    return {
        "file_name": event.file_name if outcome.packets else "",
        "packets": outcome.packets,
        "bytes": outcome.size,
        "first_packet_at": outcome.first_packet_at,
        "last_packet_at": outcome.last_packet_at,
        "stop_reason": outcome.stop_reason,
        "sha256": event.sha256,
    }
