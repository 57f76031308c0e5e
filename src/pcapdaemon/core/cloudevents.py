"""Answers and results on a bus, as CloudEvents 1.0 (cloudevents.io). Pure."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from ulid import ULID

from pcapdaemon.core.wire import MALFORMED

TYPE = "pcapdaemon.request."
"""The prefix of the CloudEvents type. What happened follows it."""


def encode(kind: str, request_id: str, data: Mapping[str, Any], node: str, now: float) -> bytes:
    """Return a CloudEvents 1.0 JSON object (cloudevents.io, spec v1.0.2).

    `kind` is what happened, and `now` is seconds since the epoch. The request's id is the
    `subject`, and is also in `data`.
    """
    event = {
        "specversion": "1.0",
        "id": str(ULID()),
        "source": f"/pcapdaemon/{quote(node, safe='')}",
        "type": TYPE + kind,
        "subject": request_id or None,
        "time": datetime.fromtimestamp(now, UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": {"id": request_id, "node": node, **data},
    }
    return json.dumps({name: value for name, value in event.items() if value is not None}).encode()


def is_result(fields: Mapping[str, Any]) -> bool:
    """Return whether a message is a result that a node sent, by its fields in lower case."""
    kind = fields.get("type")
    return "specversion" in fields and isinstance(kind, str) and kind.startswith(TYPE)


def decode(body: bytes | str) -> tuple[str, dict[str, Any]] | None:
    """Return what happened and its `data`, or None if the message is something else."""
    try:
        event = json.loads(body, parse_constant=_refuse)
        data = (
            event["data"]
            if event["specversion"] == "1.0" and event["type"].startswith(TYPE)
            else None
        )
    except MALFORMED:
        return None
    if not isinstance(data, dict) or not {"id", "node"} <= data.keys():
        return None
    return event["type"].removeprefix(TYPE), data


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
