"""From an alert to a message. Pure.

The message is one that a person could have written: everything after that is the same.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pcapdaemon.core.cause import Cause
from pcapdaemon.core.flow import FlowField
from pcapdaemon.core.paths import find, text_at
from pcapdaemon.core.request import ADDRESS, MAX_ID, ON_THE_WIRE
from pcapdaemon.core.section import in_words
from pcapdaemon.core.target import NODE_SELECTING
from pcapdaemon.core.text import printable, shortened
from pcapdaemon.triggers.alert import Alert, NotAnAlert, digest, ends, moment_of
from pcapdaemon.triggers.kinds import TABLE
from pcapdaemon.triggers.settings import TriggerSettings
from pcapdaemon.triggers.template import Unfilled, filled

AHEAD = 60.0
"""Seconds by which an alert's time may be in the future; it then means now."""

_UNSAFE_IN_IDS = re.compile(r"[^A-Za-z0-9_.:-]")
_FLOW: TypeAdapter[Any] = TypeAdapter(FlowField)
_HOST = ("src", "dst")
_WITHOUT_PORTS = ("icmp", "icmp6", "icmpv6", "ipv6-icmp")


class Malformed(Exception):
    """An alert can't become a request. The text says why."""


@dataclass(frozen=True, slots=True)
class Made:
    """A message that an alert became. `notes` say what it could not use, and what that means."""

    fields: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def alerts_of(body: bytes, settings: TriggerSettings) -> list[Alert]:
    """Return the alerts in a message, read as the trigger's settings say. Raises NotAnAlert."""
    kind = TABLE[settings.kind]
    try:
        return read_alerts(kind.decode(body), settings)
    except RecursionError:
        raise NotAnAlert("nested too deeply") from None


def may_have_alerts(line: bytes, settings: TriggerSettings) -> bool:
    """Return False if a line surely has no alert. It takes a microsecond."""
    return TABLE[settings.kind].marker in line


def read_alerts(message: Any, settings: TriggerSettings) -> list[Alert]:
    """Return the alerts in a decoded message. Raises NotAnAlert."""
    if settings.each:
        message = find(message, settings.each)
        if not isinstance(message, list):
            raise NotAnAlert(f"has no array at {settings.each}")
    found = (_found_in_text(alert, settings) for alert in TABLE[settings.kind].alerts(message))
    return [_as_configured(alert, settings) for alert in found if alert]


def _found_in_text(alert: Alert, settings: TriggerSettings) -> Alert | None:
    """Return the alert with what the pattern finds, or None if it finds nothing."""
    if settings.expression is None:
        return alert
    found = settings.expression.search(text_at(alert.fields, "message"))
    if found is None:
        return None
    named = {name: value for name, value in found.groupdict().items() if value is not None}
    return replace(alert, fields={**alert.fields, **named})


def _as_configured(alert: Alert, settings: TriggerSettings) -> Alert:
    fields = alert.fields
    changed: dict[str, Any] = {}
    if settings.key:
        changed["key"] = text_at(fields, settings.key) or alert.key
    if settings.at:
        changed["at"] = moment_of(find(fields, settings.at))
    if settings.since:
        changed["since"] = moment_of(find(fields, settings.since))
    if settings.flow_from:
        changed["flow"] = ends(fields, **settings.flow_from)
    if settings.resolved:
        changed["resolved"] = all(one(fields) for one in settings.resolved_matchers)
    return replace(alert, **changed)


def id_of(alert: Alert, name: str) -> str:
    """Return the id of the request, always the same for the same alert."""
    text = _UNSAFE_IN_IDS.sub("_", f"{name}-{alert.key}")
    if text == f"{name}-{alert.key}" and len(text) <= MAX_ID:
        return text
    return f"{text[: MAX_ID - 17]}-{digest(alert.key)}"


def make(alert: Alert, settings: TriggerSettings, now: float) -> Made:
    """Return the message that an alert becomes. `now` is seconds since the epoch.

    Raises Malformed. What is malformed in a flow is never left out, because that would widen the
    capture.
    """
    if alert.at and settings.maxage and now - alert.at > settings.maxage:
        raise Malformed(f"{now - alert.at:.0f} s old ([[trigger]] maxage = {settings.maxage})")
    try:
        fields = filled(settings.request, alert.fields)
    except Unfilled as error:
        raise Malformed(str(error)) from None
    past, notes = _past(alert, settings, now)
    made = {
        "id": id_of(alert, settings.name),
        **_address(alert, settings),
        **fields,
        **_flow(alert, settings),
        **past,
        "issued_at": _text(now),
        "cause": _cause(alert, settings),
    }
    return Made(made, notes)


def cancel(alert: Alert, settings: TriggerSettings) -> dict[str, Any]:
    """Return the message that ends the captures of an alert."""
    return {"cancel": id_of(alert, settings.name)}


def _address(alert: Alert, settings: TriggerSettings) -> dict[str, Any]:
    if settings.request.keys() & {"node", ON_THE_WIRE["node_pattern"]}:
        return {}
    if settings.send == "self" or settings.request.keys() & {*ADDRESS, *NODE_SELECTING}:
        return {"node": "any"}
    node = alert.node
    if not node or node == "any" or not node.isprintable():
        raise Malformed("names no node; set node, labels or addresses in [trigger.request]")
    return {"node": node[:255]}


def _flow(alert: Alert, settings: TriggerSettings) -> dict[str, Any]:
    if settings.flow == "none":
        return {}
    given = dict(alert.flow)
    if settings.flow == "host":
        given = {name: given[name] for name in _HOST if name in given}
    if str(given.get("proto", "")).lower() in _WITHOUT_PORTS:
        given = {name: given[name] for name in given if name not in ("sport", "dport")}
    if not given.keys() & set(_HOST):
        if settings.flow in ("required", "host"):
            raise Malformed("flow: the alert names no address")
        if given.keys() - {"proto"}:
            raise Malformed("flow: the alert names a port, but no address")
        return {}
    try:
        flow = _FLOW.validate_python(given)
    except ValidationError as error:
        raise Malformed("; ".join(_words(one) for one in error.errors())) from None
    return {"flow": flow.model_dump(exclude_none=True)}


def _words(error: Any) -> str:
    # the value is a stranger's: shown, so that people find it, but short and printable
    value = error["input"]
    shown = f" (it is {shortened(printable(repr(value)), 80)})" if error["loc"] else ""
    return f"{'.'.join(('flow', *map(str, error['loc'])))}: {in_words(error)}{shown}"


def _past(
    alert: Alert, settings: TriggerSettings, now: float
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the field that says where the savefile begins, and notes about it."""
    if settings.lookback is None:
        return {}, ()
    moment = alert.since or alert.at
    if moment is None:
        words = "the alert has no time, so lookback counts from its arrival"
        return ({"lookback": settings.lookback} if settings.lookback else {}), (words,)
    notes: tuple[str, ...] = ()
    if moment > now + AHEAD:
        notes = (f"the alert is {moment - now:.0f} s in the future, so it counts as of now",)
    return {"since": _text(max(1.0, min(moment, now) - settings.lookback))}, notes


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")


def _cause(alert: Alert, settings: TriggerSettings) -> dict[str, Any]:
    """Return the cause, without a URL that it can't have. Nothing depends on it."""
    found = {"system": settings.kind, "id": alert.key, **alert.cause}
    fields = {name: value for name, value in found.items() if value.strip()}
    fields.setdefault("system", settings.kind)
    try:
        return Cause.model_validate(fields).as_json()
    except ValidationError:  # a URL that is none, or too long
        fields.pop("url", None)
        return Cause.model_validate(fields).as_json()
