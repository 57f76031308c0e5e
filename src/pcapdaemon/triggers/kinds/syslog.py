"""Syslog messages: RFC 5424, RFC 3164, and plain lines.

A trigger's `pattern` finds what is in the text; its named groups become fields.
"""

import re
from typing import Any

from pcapdaemon.triggers.alert import Alert, NotAnAlert, digest, moment_of

LONGEST = 65536

_NEW = re.compile(
    r"<(\d{1,3})>1 (\S+) (\S{1,255}) (\S{1,48}) (\S{1,128}) (\S{1,32}) "
    r"(-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: (.*))?",
    re.ASCII | re.DOTALL,
)
_OLD = re.compile(
    r"(?:<(\d{1,3})>)?([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S{8,24}) (\S{1,255}) "
    r"([^\s:\[]{1,64})(?:\[(\d{1,10})\])?: ?(.*)",
    re.ASCII | re.DOTALL,
)


def decode(body: bytes) -> dict[str, Any]:
    """Return an object with `message`, and `host`, `app` and others as far as they are known."""
    if len(body) > LONGEST:
        raise NotAnAlert(f"{len(body)} bytes long; a line may have at most {LONGEST}")
    text = body.decode("utf-8", "replace").strip("\r\n\0")
    if found := _NEW.fullmatch(text):
        priority, time, host, app, process, kind, _, message = found.groups()
        fields = {"time": time, "host": host, "app": app, "process": process, "kind": kind}
    elif found := _OLD.fullmatch(text):
        priority, time, host, app, process, message = found.groups()
        fields = {"time": time, "host": host, "app": app, "process": process}
    else:
        priority, message, fields = None, text, {}
    known: dict[str, Any] = {
        name: value for name, value in fields.items() if value not in (None, "-")
    }
    if priority and int(priority) < 192:
        known |= {"facility": int(priority) // 8, "severity": int(priority) % 8}
    return {**known, "message": (message or "").removeprefix("\ufeff")}


def alerts(message: dict[str, Any]) -> list[Alert]:
    """Return the alert of a message. A time without a year and a zone (RFC 3164) is no moment."""
    host = str(message.get("host", ""))
    key = digest({name: message[name] for name in message if name not in ("time", "process")})
    cause = {"system": "syslog", "id": key, "title": message["message"]}
    return [Alert(message, key, moment_of(message.get("time")), node=host, cause=cause)]
