"""The annotations of a pcapng savefile.

They are the head and the tail around the packets that the native module wrote.
"""

import json
import platform
import time
from collections.abc import Sequence
from typing import Any

from pcapdaemon import __version__
from pcapdaemon.core.outcome import Counts, Outcome
from pcapdaemon.core.plan import CapturePlan, InterfacePlan
from pcapdaemon.core.request import ON_THE_WIRE
from pcapdaemon.core.wire import to_wire
from pcapdaemon.native.interfaces import hardware, networks
from pcapdaemon.native.live import library_version
from pcapdaemon.savefile.pcapng import Description, Statistics, interface, section, statistics

ROOM_FOR_THE_END = 2048
"""Bytes of a file that are reserved for what is known only at its end."""

SYSTEM = f"{platform.system()} {platform.release()}"
LINKTYPE_AT = 20
"""Offset of the LINKTYPE_ value in the header that libpcap writes for a pcap file."""


Part = tuple[InterfacePlan, bytes, Counts]
"""An interface, the header of a pcap file of its capture, and the counts of that capture."""


def overhead(plan: CapturePlan, parts: Sequence[InterfacePlan]) -> int:
    """Return the most bytes that a file has beside its packets.

    An unusual end, for example a long error message, may add more.
    """
    known = _head(plan, [(part, bytes(24), Counts()) for part in parts], _facts(plan, parts))
    return (
        len(known)
        + len(parts) * len(statistics(0, Statistics(0, 0, 0, 0, 0, 0)))
        + ROOM_FOR_THE_END
    )


def around(plan: CapturePlan, captured: Sequence[Part], outcome: Outcome) -> tuple[bytes, bytes]:
    """Return the bytes before and after all packets."""
    now = time.time_ns()
    facts = {**_facts(plan, [part for part, _, _ in captured]), **to_wire(outcome)}
    begun = now - int(outcome.seconds * 1e9)
    tails = [
        statistics(
            n,
            Statistics(
                begun, now, one.received, one.packets, one.dropped, one.dropped_by_interface
            ),
        )
        for n, (_, _, one) in enumerate(captured)
    ]
    return _head(plan, captured, facts), b"".join(tails)


def _head(plan: CapturePlan, captured: Sequence[Part], facts: dict[str, Any]) -> bytes:
    application = f"pcapdaemon {__version__} ({library_version()})"
    comment = json.dumps(facts, ensure_ascii=False)
    described = [interface(_description(plan, part, header)) for part, header, _ in captured]
    return section(platform.machine(), SYSTEM, application, comment) + b"".join(described)


def _description(plan: CapturePlan, part: InterfacePlan, header: bytes) -> Description:
    device = part.interface
    address, speed = hardware(device.name)
    return Description(
        name=device.name,
        linktype=int.from_bytes(header[LINKTYPE_AT : LINKTYPE_AT + 2], "little"),
        snaplen=int.from_bytes(header[16:20], "little"),
        description=device.description,
        capture_filter=plan.effective_filter,
        system=SYSTEM,
        hardware_address=address if any(address) else b"",
        speed=speed,
        networks=() if device.replay else networks(device.name),
    )


def _facts(plan: CapturePlan, parts: Sequence[InterfacePlan]) -> dict[str, Any]:
    request = plan.request
    asked = {
        "customer": request.customer,
        ON_THE_WIRE["alert_id"]: request.alert_id,
        "tags": request.tags,
        "comment": request.comment,
        "cause": request.cause and request.cause.as_json(),
    }
    target = (plan.whole if plan.merge else parts[0]).target
    return {
        "id": plan.id,
        **{name: value for name, value in asked.items() if value},
        "node": plan.node,
        "interface": "+".join(part.interface.name for part in parts),
        **({"target": target} if target else {}),
        ON_THE_WIRE["capture_filter"]: plan.capture_filter,
        ON_THE_WIRE["snaplen"]: plan.snaplen,
        **({"payload": "headers"} if plan.headers_only else {}),
        **({"requester": plan.requester} if plan.requester else {}),
        "limits": to_wire(plan.limits),
        "version": __version__,
    }
