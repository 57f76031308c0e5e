"""From a request to a plan: which interfaces, which limits, or why not. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from pcapdaemon.core import naming
from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.filters import is_balanced, without
from pcapdaemon.core.flow import narrowed
from pcapdaemon.core.interface import Interface, InterfaceKind, Target, described
from pcapdaemon.core.limits import MAX_SNAPLEN, CaptureLimits
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import ON_THE_WIRE, CaptureRequest, Problem
from pcapdaemon.core.target import NOTHING_FOUND, Found
from pcapdaemon.core.window import Window, window_of, window_problems

NOT_ALLOWED = "[general] interfaces does not allow it"


@dataclass(frozen=True, slots=True)
class InterfacePlan:
    """One capture of a request: one interface, one savefile.

    `targets` are what its interface leads to; of a merged capture: its interfaces.
    """

    interface: Interface
    alias: str
    tags: str
    file_name: str

    targets: tuple[Target, ...] = ()

    @property
    def target(self) -> dict[str, Any] | None:
        """What the interfaces lead to, as results say it."""
        return described(self.targets)


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """What this node will do for a request.

    `unavailable` are interfaces that were asked for and can't be captured on, and why.

    With `merge`, all captures become one savefile, `file_name`. `untagged_filter` is the capture
    filter for linktypes without VLAN tags, if it is another. `most_lookback` is what the node
    allows, in seconds. With packets from before the request, the whole savefile has at most
    `most_packets` packets and `most_size` bytes. With `share_recorder`, live packets may come from
    a recorder too. With `filter_names`, the capture filter may contain names of hosts. `exclude`
    matches what is never kept. `arrived_at` is when the message arrived, in seconds since the
    epoch. `destination_fields` are the values of the request's fields that destinations use.
    `stream` is a descriptor that the packets are written to as they come, as a pcap file; they are
    then not kept, and there is no savefile. 0: they are kept.
    """

    id: str
    request: CaptureRequest
    captures: tuple[InterfacePlan, ...]
    limits: CaptureLimits
    snaplen: int
    capture_filter: str
    packet_debug: bool
    node: str = ""
    file_name: str = ""
    pcapng: bool = False
    merge: bool = False
    compress: str = "none"
    sha256: bool = False
    untagged_filter: str = ""
    most_lookback: float = 0
    share_recorder: bool = True
    filter_names: bool = False
    exclude: str = ""
    most_packets: int = 0
    most_size: int = 0
    arrived_at: float | None = None
    unavailable: tuple[tuple[str, str], ...] = ()
    destination_fields: tuple[object, ...] = ()
    stream: int = 0

    def window(self, now: float) -> Window:
        """Return the moments that its captures are about, if they are triggered now."""
        return window_of(self.request, self.most_lookback, now)

    @property
    def effective_filter(self) -> str:
        """The capture filter, and what is never kept (`[general] exclude`)."""
        return without(self.capture_filter, self.exclude)

    @property
    def whole(self) -> InterfacePlan:
        """All its captures as one, on an interface whose name joins all names by `+`."""
        first = self.captures[0]
        name = "+".join(part.interface.name for part in self.captures)
        targets = tuple(one for part in self.captures for one in part.targets)
        whole = replace(first.interface, name=name, target=None)
        tags = naming.tags(self.request, first.alias, self.node, name, self.snaplen, targets)
        return InterfacePlan(whole, first.alias, tags, self.file_name, targets)

    @property
    def targets(self) -> dict[str, Any]:
        """What its interfaces lead to, by their names; without those of the host itself."""
        parts = (*self.captures, *self.outcomes)
        return {part.interface.name: part.target for part in parts if part.target}

    @property
    def outcomes(self) -> tuple[InterfacePlan, ...]:
        """The captures that have a result and a savefile each."""
        return (self.whole,) if self.merge else self.captures

    def equals(self, other: "CapturePlan") -> bool:
        """Return whether one capture could serve both.

        Interfaces, filter, snapshot length, the form of the savefile and where it goes must be the
        same. Limits may differ.
        """
        return self._what() == other._what()

    def _what(self) -> tuple[object, ...]:
        interfaces = frozenset(
            (part.interface.name, part.interface.target) for part in self.captures
        )
        form = (self.snaplen, self.pcapng, self.merge, self.compress, self.sha256)
        when = (self.request.lookback or 0, self.request.since, self.request.until)
        what = (self.effective_filter, self.packet_debug, self.destination_fields)
        return interfaces, form, when, what


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why this node does nothing for a message, with all problems at once."""

    id: str
    problems: tuple[Problem, ...]
    kind: AnswerKind = AnswerKind.INVALID
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a plan depends on besides the request: this node, now.

    `now` is seconds since the epoch. `places` are where results can go.
    `destination_fields` are the names of the request's fields that destinations use. `targets` are
    those of the request.
    """

    node: str
    now: float
    interfaces: Mapping[str, Interface]
    aliases: Mapping[str, Sequence[str]]
    places: frozenset[str] = frozenset()
    destination_fields: tuple[str, ...] = ()
    targets: Found = NOTHING_FOUND


def make_plan(
    request_id: str,
    request: CaptureRequest,
    problems: Sequence[Problem],
    policy: Policy,
    around: Surroundings,
) -> CapturePlan | Rejection:
    """Apply the node's policy to a request.

    `problems` are those that were found before. A rejection contains them too.
    """
    chosen, unavailable, interface_problems = _interfaces(request, policy, around)
    found = [
        *problems,
        *policy_problems(request, policy),
        *interface_problems,
        *_reply_problems(request, around),
        *window_problems(request, policy, around.now),
    ]
    if not found and not chosen:
        found = [Problem("", "this node has none of its targets")]
    if found:
        return Rejection(request_id, tuple(found))
    return _plan(request_id, request, policy, around, chosen, unavailable)


def _plan(
    request_id: str,
    request: CaptureRequest,
    policy: Policy,
    around: Surroundings,
    chosen: Sequence[tuple[Interface, str]],
    unavailable: Sequence[tuple[str, str]],
) -> CapturePlan:
    snaplen = min(request.snaplen or policy.snaplength, MAX_SNAPLEN)
    own, flow = request.capture_filter or "", request.flow
    return CapturePlan(
        id=request_id,
        request=request,
        captures=tuple(
            _capture(request_id, request, policy, around, *choice, snaplen) for choice in chosen
        ),
        limits=_limits(request, policy),
        snaplen=snaplen,
        capture_filter=narrowed(own, flow.capture_filter if flow else ""),
        untagged_filter=narrowed(own, flow.untagged_filter) if flow else "",
        packet_debug=policy.packetdebug or (request.packet_debug and policy.allow_packetdebug),
        node=around.node,
        file_name=naming.file_name(
            request_id, request, policy, around.node, around.now, [one for one, _ in chosen]
        ),
        pcapng=naming.is_pcapng(request, policy),
        merge=request.merge,
        compress=request.compress or policy.compress,
        sha256=request.sha256 or policy.sha256,
        most_lookback=policy.maxlookback,
        share_recorder=policy.share_recorder,
        filter_names=policy.filter_names,
        exclude=policy.exclude or "",
        most_packets=policy.maxpackets,
        most_size=policy.maxbytes,
        unavailable=tuple(unavailable),
        destination_fields=tuple(getattr(request, name) for name in around.destination_fields),
    )


def _limits(request: CaptureRequest, policy: Policy) -> CaptureLimits:
    return CaptureLimits(
        packets=request.packets or policy.maxpackets,
        size=request.size or policy.maxbytes,
        duration=request.duration or policy.maxduration,
        idle_timeout=request.idle_timeout or policy.defaulttimeout,
    )


def policy_problems(request: CaptureRequest, policy: Policy) -> list[Problem]:
    """Return what a request asks of this node that it does not allow, whatever is there now."""
    return [
        *_limit_problems(request, policy),
        *_filter_problems(request, policy),
        *_merge_problems(request),
    ]


def _limit_problems(request: CaptureRequest, policy: Policy) -> list[Problem]:
    # Zero means absent, except for packets: `validate` has rejected it there.
    asked = {
        "packets": (request.packets, policy.maxpackets, "maxpackets"),
        "size": (request.size, policy.maxbytes, "maxbytes"),
        "duration": (request.duration, policy.maxduration, "maxduration"),
        "idle_timeout": (request.idle_timeout, policy.maxtimeout, "maxtimeout"),
        "lookback": (request.lookback, policy.maxlookback, "maxlookback"),
    }
    return [
        Problem(
            ON_THE_WIRE[field], f"{value} is more than this node allows ([general] {key} = {most})"
        )
        for field, (value, most, key) in asked.items()
        if value and value > most
    ]


def _filter_problems(request: CaptureRequest, policy: Policy) -> list[Problem]:
    text, field = request.capture_filter or "", ON_THE_WIRE["capture_filter"]
    if len(text) > policy.maxfilter:
        return [
            Problem(
                field,
                f"{len(text)} characters are more than this node allows"
                f" ([general] maxfilter = {policy.maxfilter})",
            )
        ]
    if "\0" in text:
        return [Problem(field, "must not contain a NUL character")]
    if not is_balanced(text):
        return [Problem(field, "a parenthesis is not closed or not opened")]
    return []


def _reply_problems(request: CaptureRequest, around: Surroundings) -> list[Problem]:
    if not request.reply_to or request.reply_to in around.places:
        return []
    known = ", ".join(sorted(around.places)) or "none"
    return [
        Problem(
            "reply_to",
            f"unknown place for results {request.reply_to!r}; this node's configuration has:"
            f" {known}",
        )
    ]


def _merge_problems(request: CaptureRequest) -> list[Problem]:
    if request.merge and request.format == "pcap":
        return [
            Problem(
                "merge",
                "one file of several interfaces must have format pcapng; remove format or merge",
            )
        ]
    return []


def _interfaces(
    request: CaptureRequest, policy: Policy, around: Surroundings
) -> tuple[list[tuple[Interface, str]], list[tuple[str, str]], list[Problem]]:
    """Return the interfaces to capture on, what is unavailable and why, and the problems.

    Each interface comes with the alias that named it. Problems exist only if no interface is left.
    """
    if request.targets:
        return _interfaces_of_targets(policy, around.targets)
    wanted, unavailable = _wanted(request, around)
    chosen: dict[str, tuple[Interface, str]] = {}
    for name, alias in wanted:
        interface = around.interfaces.get(name)
        if interface is None:
            unavailable.append((name, "no such interface on this node"))
        elif not may_capture_on(interface, policy):
            unavailable.append((name, NOT_ALLOWED))
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


def _interfaces_of_targets(
    policy: Policy, found: Found
) -> tuple[list[tuple[Interface, str]], list[tuple[str, str]], list[Problem]]:
    chosen = [one for one in found.interfaces if one.namespace or may_capture_on(one, policy)]
    refused = [(one.kind.value, one.name, one.reason) for one in found.refused]
    refused += [
        (one.target.kind.value, one.target.name, f"{one.name}: {NOT_ALLOWED}")
        for one in found.interfaces
        if one not in chosen and one.target
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


def may_capture_on(interface: Interface, policy: Policy) -> bool:
    """Return whether the policy allows captures on an interface."""
    globs = policy.interfaces
    # libpcap also lists D-Bus, USB, Bluetooth and netfilter queues: those must be named
    if globs:
        return any(fnmatchcase(interface.name, glob) for glob in globs)
    return interface.kind is not InterfaceKind.PSEUDO


def _capture(
    request_id: str,
    request: CaptureRequest,
    policy: Policy,
    around: Surroundings,
    interface: Interface,
    alias: str,
    snaplen: int,
) -> InterfacePlan:
    targets = (interface.target,) if interface.target else ()
    tags = naming.tags(request, alias, around.node, interface.name, snaplen, targets)
    name = naming.file_name(request_id, request, policy, around.node, around.now, [interface])
    return InterfacePlan(interface, alias, tags, name, targets)
