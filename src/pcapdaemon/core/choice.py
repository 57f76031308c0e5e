"""On which interfaces a request is captured. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pcapdaemon.core import bounds
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import ON_THE_WIRE, CaptureRequest, Problem
from pcapdaemon.core.requester import Rights
from pcapdaemon.core.target import NOTHING_FOUND, Found

NOT_ALLOWED = "[general] interfaces does not allow it"
NOT_FOR_REQUESTER = "[[requester]] interfaces does not allow it"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a plan depends on besides the request: this node, now.

    `now` is seconds since the epoch. `places` are where results can go.
    `destination_fields` are the names of the request's fields that destinations use. `targets` are
    those of the request. `rights` are those of the `requester`; None: everything is allowed.
    """

    node: str
    now: float
    interfaces: Mapping[str, Interface]
    aliases: Mapping[str, Sequence[str]]
    places: frozenset[str] = frozenset()
    destination_fields: tuple[str, ...] = ()
    targets: Found = NOTHING_FOUND
    requester: str = ""
    rights: Rights | None = None
    can_encrypt: bool = True


def chosen_interfaces(
    request: CaptureRequest, policy: Policy, around: Surroundings
) -> tuple[list[tuple[Interface, str]], list[tuple[str, str]], list[Problem]]:
    """Return the interfaces to capture on, what is unavailable and why, and the problems.

    Each interface comes with the alias that named it. Problems exist only if no interface is left.
    """
    if request.targets:
        return _interfaces_of_targets(policy, around)
    wanted, unavailable = _wanted(request, around)
    chosen: dict[str, tuple[Interface, str]] = {}
    for name, alias in wanted:
        interface = _found(around.interfaces, name)
        if interface is None:
            unavailable.append((name, "no such interface on this node"))
        elif reason := _not_allowed(interface, policy, around.rights):
            unavailable.append((name, reason))
        else:
            chosen.setdefault(interface.name, (interface, alias))
    problems = (
        []
        if chosen
        else [
            Problem(_asked_by(request, name), f"{name}: {reason}") for name, reason in unavailable
        ]
    )
    return list(chosen.values()), unavailable, problems


def _found(interfaces: Mapping[str, Interface], name: str) -> Interface | None:
    try:  # ChainMap.get looks twice, and each look asks the kernel
        return interfaces[name]
    except KeyError:
        return None


def _interfaces_of_targets(
    policy: Policy, around: Surroundings
) -> tuple[list[tuple[Interface, str]], list[tuple[str, str]], list[Problem]]:
    found = around.targets
    reasons = [_not_allowed(one, policy, around.rights) for one in found.interfaces]
    judged = list(zip(found.interfaces, reasons, strict=True))
    chosen = [one for one, reason in judged if not reason]
    refused = [(one.kind.value, one.name, one.reason) for one in found.refused]
    refused += [
        (one.target.kind.value, one.target.name, f"{one.name}: {reason}")
        for one, reason in judged
        if reason and one.target
    ]
    unavailable = [(name, reason) for _, name, reason in refused]
    problems = [Problem(field, f"{name}: {reason}") for field, name, reason in refused]
    return [(one, "") for one in chosen], unavailable, [] if chosen else problems


def _wanted(
    request: CaptureRequest, around: Surroundings
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    aliases = dict.fromkeys(request.aliases)
    wanted = [(name, "") for name in dict.fromkeys(request.interfaces)]
    wanted += [(name, alias) for alias in aliases for name in around.aliases.get(alias, ())]
    return wanted, [
        (alias, "no such alias on this node") for alias in aliases if not around.aliases.get(alias)
    ]


def _asked_by(request: CaptureRequest, name: str) -> str:
    return ON_THE_WIRE["interfaces" if name in request.interfaces else "aliases"]


def _not_allowed(interface: Interface, policy: Policy, rights: Rights | None) -> str:
    """Return why a requester may not capture on an interface, or ""."""
    if not interface.namespace and not may_capture_on(interface, policy):
        return NOT_ALLOWED
    return "" if bounds.may_use(interface, rights) else NOT_FOR_REQUESTER


def may_capture_on(interface: Interface, policy: Policy) -> bool:
    """Return whether the policy allows captures on an interface."""
    globs = policy.interfaces
    # libpcap also lists D-Bus, USB, Bluetooth and netfilter queues: those must be named
    if globs:
        return any(fnmatchcase(interface.name, glob) for glob in globs)
    return interface.kind is not InterfaceKind.PSEUDO
