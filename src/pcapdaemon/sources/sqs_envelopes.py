"""The envelopes in which SNS and EventBridge put a request into a queue."""

import json
from typing import Any


def unwrap(body: str, whole: bool = False) -> tuple[bytes, str]:
    """Return the request in an SNS notification, an EventBridge event, or both, and its id.

    With `whole`, an event stays as it is, because an alert is more than its detail.

    The id is SNS's message id, else the event's. A body without an envelope is returned as it is,
    without an id. Signatures are not verified: the queue's policy decides who may write to it.
    """
    envelope, message_id = _object(body), ""
    if (
        envelope.get("Type") == "Notification"
        and "TopicArn" in envelope
        and isinstance(envelope.get("Message"), str)
    ):
        body, message_id = envelope["Message"], str(envelope.get("MessageId", ""))
        envelope = _object(body)
    if {"detail-type", "source"} <= envelope.keys() and isinstance(envelope.get("detail"), dict):
        message_id = message_id or str(envelope.get("id", ""))
        if not whole:
            return json.dumps(envelope["detail"]).encode(), message_id
    return body.encode("utf-8", "replace"), message_id


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
