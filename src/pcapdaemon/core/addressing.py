"""Which nodes a message is for. Pure."""

import ipaddress
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

import re2

LONGEST_PATTERN = 256
"""Most characters of `nodere`. Compiling one takes less than a millisecond."""


Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
MOST_ADDRESSES = 64


def no_addresses() -> frozenset[Ip]:
    """Return no address."""
    return frozenset()


def addressed_to(
    fields: dict[str, Any],
    node: str,
    labels: Mapping[str, str],
    own: Callable[[], Collection[Ip] | None] = no_addresses,
) -> bool:
    """Return whether a message is for this node. `own` returns its addresses, None if unknown.

    Also True if that is unknown, because the message must then be answered.
    """
    wanted = fields.get("labels")
    if wanted and isinstance(wanted, dict) and not _labels_match(wanted, labels):
        return False
    if not _is_named(fields, node):
        return False
    addresses = fields.get("addresses")
    if isinstance(addresses, str) and addresses:
        addresses = [addresses]
    return not addresses or not isinstance(addresses, list) or _owns_one(addresses, own)


def _owns_one(wanted: list[Any], own: Callable[[], Collection[Ip] | None]) -> bool:
    if len(wanted) > MOST_ADDRESSES:
        return True
    try:
        networks = [network_of(one) for one in wanted]
    except ValueError:
        return True
    found = own()
    return found is None or any(address in one for address in found for one in networks)


def network_of(text: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return an address, or a network with the length of its prefix, as a network.

    Raises ValueError.
    """
    words = 'must be an address or a network, as "192.0.2.1" or "192.0.2.0/24"'
    if not isinstance(text, str) or "%" in text:
        raise ValueError(words)
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(words) from None
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    return ipaddress.ip_network((mapped, found.prefixlen - 96)) if mapped else found


def _is_named(fields: dict[str, Any], node: str) -> bool:
    name, pattern = fields.get("node"), fields.get("nodere")
    if name and not pattern and isinstance(name, str):
        return name in (node, "any")
    if pattern and not name and isinstance(pattern, str) and len(pattern) <= LONGEST_PATTERN:
        try:
            return _compiled(pattern).search(node) is not None
        except re2.error:
            return True
    return True


def _labels_match(wanted: dict[str, Any], labels: Mapping[str, str]) -> bool:
    globs = (
        (name, glob) for name, glob in wanted.items() if isinstance(glob, str) and len(glob) <= 128
    )
    return all(name in labels and fnmatchcase(labels[name], glob) for name, glob in globs)


def pattern_problems(pattern: str) -> list[str]:
    """Return what is wrong with an expression for names of nodes."""
    try:
        _compiled(pattern)
    except re2.error as error:
        words = (
            error.args[0].decode("utf-8", "replace")
            if isinstance(error.args[0], bytes)
            else str(error)
        )
        return [f"not a valid RE2 expression: {words}"]
    return []


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> Any:
    # RE2 has Go's syntax and takes linear time. Python's `re` takes seconds for 27 characters of
    # `(a+)+$`.
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 18
    return re2.compile(pattern, options)
