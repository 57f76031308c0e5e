"""The name of a savefile and its tags. Pure."""

import hashlib
from collections.abc import Sequence

from pcapdaemon.core.interface import Interface, Target
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import CaptureRequest
from pcapdaemon.core.text import path_safe


def is_pcapng(request: CaptureRequest, policy: Policy) -> bool:
    """Return whether the savefile is a pcapng file."""
    return request.merge or (request.format or policy.format) == "pcapng"


def file_name(
    request_id: str,
    request: CaptureRequest,
    policy: Policy,
    node: str,
    now: float,
    interfaces: Sequence[Interface],
    encrypted: bool = False,
    requester: str = "",
) -> str:
    """Return the name of the savefile of these interfaces, with its extension.

    `now` is seconds since the epoch. If there are requesters, ids that differ have names that
    differ, because some destinations replace a file of the same name.
    """
    parts = {
        "node": node,
        "interface": "+".join(one.name for one in interfaces),
        "target": "+".join(one.target.name if one.target else one.name for one in interfaces),
        "epoch": str(int(now)),
        "id": _distinct(request_id) if requester else request_id,
    }
    safe = {key: path_safe(value, 128) for key, value in parts.items()}
    name = path_safe(policy.filename.format_map(safe), 230)
    extension = _extension(request, policy, name) + (".age" if encrypted else "")
    return name.removesuffix(".pcap") + extension


def _distinct(request_id: str) -> str:
    safe = path_safe(request_id, 128)
    if safe == request_id:
        return safe
    return f"{safe[:110]}-{hashlib.sha256(request_id.encode()).hexdigest()[:12]}"


def tags(
    request: CaptureRequest,
    alias: str,
    node: str,
    interface: str,
    snaplen: int,
    targets: Sequence[Target] = (),
) -> str:
    """Return the tags of the savefile of an interface, separated by commas."""
    found = [
        f"customer:{request.customer}" if request.customer else "",
        f"alertid:{request.alert_id}" if request.alert_id else "",
        request.cause.tag if request.cause else "",
        request.tags or "",
        f"alias:{alias}" if alias else "",
        f"node:{node}",
        *dict.fromkeys(one.label for one in targets),
        f"interface:{interface}",
        f"snaplength:{snaplen}",
    ]
    return ",".join(tag for tag in found if tag)


def _extension(request: CaptureRequest, policy: Policy, name: str) -> str:
    png, dotted = is_pcapng(request, policy), name.endswith(".pcap")
    form = ".pcapng" if png and not name.endswith(".pcapng") else ".pcap" if dotted else ""
    return form + {"gzip": ".gz", "zstd": ".zst"}.get(request.compress or policy.compress, "")
