"""From a request to a plan: which interfaces, which limits, or why not. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pcapdaemon.core import bounds, naming
from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.choice import NOT_FOR_REQUESTER, Surroundings, chosen_interfaces
from pcapdaemon.core.filters import is_balanced, without
from pcapdaemon.core.flow import narrowed
from pcapdaemon.core.interface import Interface, Target, described
from pcapdaemon.core.limits import MAX_SNAPLEN, CaptureLimits
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import ON_THE_WIRE, CaptureRequest, Problem
from pcapdaemon.core.requester import Rights
from pcapdaemon.core.window import Window, window_of, window_problems


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
    then not kept, and there is no savefile. 0: they are kept. `requester` is who asked, or empty.
    `required` is a filter that packets must match too, in a program of its own. With
    `headers_only`, packets are cut after their transport header. `encrypt_to` are the recipients of
    the savefile.
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
    requester: str = ""
    required: str = ""
    headers_only: bool = False
    encrypt_to: tuple[str, ...] = ()

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
        same. Limits may differ. The requester must be the same, because policies differ.
        """
        return self._what() == other._what()

    def _what(self) -> tuple[object, ...]:
        interfaces = frozenset(
            (part.interface.name, part.interface.target) for part in self.captures
        )
        form = (self.snaplen, self.pcapng, self.merge, self.compress, self.sha256)
        when = (self.request.lookback or 0, self.request.since, self.request.until)
        what = (self.effective_filter, self.packet_debug, self.destination_fields)
        trust = (self.requester, self.required, self.headers_only, self.encrypt_to)
        return interfaces, form, when, what, trust


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why this node does nothing for a message, with all problems at once."""

    id: str
    problems: tuple[Problem, ...]
    kind: AnswerKind = AnswerKind.INVALID
    hint: str = ""


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
    chosen, unavailable, interface_problems = chosen_interfaces(request, policy, around)
    form = "pcapng" if naming.is_pcapng(request, policy) else "pcap"
    forbidden = [*bounds.objections(request, around.requester, around.rights, form)]
    found = [
        *problems,
        *forbidden,
        *policy_problems(request, policy),
        *interface_problems,
        *_reply_problems(request, around),
        *_encryption_problems(request, policy, around),
        *window_problems(request, policy, around.now),
    ]
    if not found and not chosen:
        found = [Problem("", "this node has none of its targets")]
    if found:
        forbidden += [one for one in found if NOT_FOR_REQUESTER in one.message]
        kind = AnswerKind.FORBIDDEN if forbidden else AnswerKind.INVALID
        return Rejection(request_id, tuple(found), kind)
    request = bounds.within_rights(request, around.rights)
    within = bounds.within(policy, around.rights)
    return _plan(request_id, request, within, around, chosen, unavailable)


def _plan(
    request_id: str,
    request: CaptureRequest,
    policy: Policy,
    around: Surroundings,
    chosen: Sequence[tuple[Interface, str]],
    unavailable: Sequence[tuple[str, str]],
) -> CapturePlan:
    most = around.rights.snaplength if around.rights else None
    snaplen = min(request.snaplen or policy.snaplength, most or MAX_SNAPLEN, MAX_SNAPLEN)
    recipients = _recipients(request, policy, around.rights)
    own, flow = request.capture_filter or "", request.flow
    return CapturePlan(
        id=request_id,
        request=request,
        captures=tuple(
            _capture(request_id, request, policy, around, *choice, snaplen, bool(recipients))
            for choice in chosen
        ),
        limits=_limits(request, policy),
        snaplen=snaplen,
        capture_filter=narrowed(own, flow.capture_filter if flow else ""),
        untagged_filter=narrowed(own, flow.untagged_filter) if flow else "",
        packet_debug=policy.packetdebug or (request.packet_debug and policy.allow_packetdebug),
        node=around.node,
        file_name=naming.file_name(
            request_id,
            request,
            policy,
            around.node,
            around.now,
            [one for one, _ in chosen],
            bool(recipients),
            around.requester,
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
        requester=around.requester,
        required=around.rights.filter if around.rights else "",
        headers_only="headers" in (request.payload, around.rights and around.rights.payload),
        encrypt_to=recipients,
    )


def _recipients(request: CaptureRequest, policy: Policy, rights: Rights | None) -> tuple[str, ...]:
    found = (*policy.encrypt_to, *(rights.encrypt_to if rights else ()), *request.encrypt_to)
    return tuple(dict.fromkeys(found))


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


def _encryption_problems(
    request: CaptureRequest, policy: Policy, around: Surroundings
) -> list[Problem]:
    if around.can_encrypt or not _recipients(request, policy, around.rights):
        return []
    words = "this node lacks the library cryptography: run pip install 'pcapdaemon[trust]'"
    return [Problem("encrypt_to", words)]


def _merge_problems(request: CaptureRequest) -> list[Problem]:
    if request.merge and request.format == "pcap":
        return [
            Problem(
                "merge",
                "one file of several interfaces must have format pcapng; remove format or merge",
            )
        ]
    return []


def _capture(
    request_id: str,
    request: CaptureRequest,
    policy: Policy,
    around: Surroundings,
    interface: Interface,
    alias: str,
    snaplen: int,
    encrypted: bool,
) -> InterfacePlan:
    targets = (interface.target,) if interface.target else ()
    tags = naming.tags(request, alias, around.node, interface.name, snaplen, targets)
    name = naming.file_name(
        request_id,
        request,
        policy,
        around.node,
        around.now,
        [interface],
        encrypted,
        around.requester,
    )
    return InterfacePlan(interface, alias, tags, name, targets)
