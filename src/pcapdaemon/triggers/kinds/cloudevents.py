"""CloudEvents 1.0, one or a batch (JSON format). `source` and `id` identify each.

In HTTP's binary mode, the headers have the attributes and the body is the data. `of_headers` makes
one event of them.
"""

import re
from collections.abc import Iterable
from typing import Any

from pcapdaemon.triggers.alert import (
    Alert,
    NotAnAlert,
    decode,
    digest,
    first_text,
    moment_of,
    objects,
)

_ATTRIBUTE = re.compile(r"ce-([a-z0-9]{1,20})")
LONGEST = 1024


def alerts(message: Any) -> list[Alert]:
    """Return an alert for each event."""
    return [_alert(one) for one in objects(message if isinstance(message, list) else [message])]


def of_headers(headers: Iterable[tuple[str, str]], body: bytes) -> dict[str, Any]:
    """Return the event of HTTP's binary mode. Data that is not JSON is a text."""
    names = {
        match[1]: value[:LONGEST]
        for name, value in headers
        if (match := _ATTRIBUTE.fullmatch(name.lower()))
    }
    try:
        data = decode(body)
    except NotAnAlert:
        data = body.decode("utf-8", "replace")
    return {**names, "data": data}


def _alert(fields: Any) -> Alert:
    if not first_text(fields, "specversion"):
        raise NotAnAlert("has no specversion; this is not a CloudEvent")
    source, identity = first_text(fields, "source"), first_text(fields, "id")
    if not source or not identity:
        raise NotAnAlert("has no source and id, which every CloudEvent must have")
    title = " ".join(filter(None, (first_text(fields, "type"), first_text(fields, "subject"))))
    cause = {"system": source, "id": identity, "title": title}
    return Alert(fields, digest(source, identity), moment_of(fields.get("time")), cause=cause)
