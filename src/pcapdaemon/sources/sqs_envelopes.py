"""The envelopes in which SNS and EventBridge put a request into a queue."""

import json
from typing import Any


def unwrap(body: str) -> tuple[bytes, str]:
    """The request inside of an SNS notification or an EventBridge event, or both.

    SNS's message id; else the body itself.

    A notification's signature is not looked at: who may write to the queue decides the queue's
    policy.
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
        return json.dumps(envelope["detail"]).encode(), message_id or str(envelope.get("id", ""))
    return body.encode("utf-8", "replace"), message_id


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
