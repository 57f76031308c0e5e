"""Notifications of SNMP, in the form in which snmptrapd passes them to a `traphandle` program.

The first line is the sender's name, the second its transport, and each further one a variable: its
name, a space and its value (snmptrapd.conf(5)).
"""

import re
from typing import Any

from pcapdaemon.triggers.alert import MAX_ALERTS, Alert, NotAnAlert, digest

_SENDER = re.compile(
    r"(?:UDP|TCP|DTLSUDP|TLSTCP)(?:/IPv6)?: \[([0-9A-Fa-f:.]+)(?:%\w+)?\]", re.ASCII
)
_TRAP = re.compile(r"(?:SNMPv2-MIB::snmpTrapOID\.0|\.?(?:iso|1)\.3\.6\.1\.6\.3\.1\.1\.4\.1\.0)")
_UPTIME = re.compile(r"(?:.*sysUpTimeInstance|\.?(?:iso|1)\.3\.6\.1\.2\.1\.1\.3\.0)")


def decode(body: bytes) -> dict[str, Any]:
    """Return an object with `host`, `address`, `trap` and each variable. Raises NotAnAlert."""
    if len(body) > MAX_ALERTS:
        raise NotAnAlert(f"{len(body)} bytes long; alerts may have at most {MAX_ALERTS}")
    host, _, rest = body.decode("utf-8", "replace").partition("\n")
    transport, _, rest = rest.partition("\n")
    sender = _SENDER.match(transport)
    if sender is None:
        raise NotAnAlert("the second line names no transport; this is not input from snmptrapd")
    fields: dict[str, Any] = {"host": host.strip(), "address": sender[1]}
    for line in filter(None, rest.splitlines()):
        name, _, value = line.partition(" ")
        fields[name] = value.strip().strip('"')
        if _TRAP.fullmatch(name):
            fields["trap"] = fields[name]
    return fields


def alerts(message: dict[str, Any]) -> list[Alert]:
    """Return the alert of a notification. It has no time: a sender has no clock."""
    trap = str(message.get("trap", ""))
    # the same notification again differs only in how long its sender has run
    key = digest({name: value for name, value in message.items() if not _UPTIME.fullmatch(name)})
    title = " ".join(filter(None, (str(message["host"]), trap)))
    cause = {"system": "snmp", "id": key, "title": title}
    return [Alert(message, key, node=str(message["host"]), cause=cause)]
