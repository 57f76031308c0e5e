"""What a policy, `[[requester]]`, forbids of a request, or makes narrower. Pure.

`[general]` bounds everybody, the policy bounds its requester, and the request bounds itself.
"""

from collections.abc import Iterator

from pcapdaemon.core.interface import Interface
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import ON_THE_WIRE, CaptureRequest, Problem
from pcapdaemon.core.requester import Rights, matches

MAXIMA = {
    "packets": "maxpackets",
    "size": "maxbytes",
    "duration": "maxduration",
    "idle_timeout": "maxtimeout",
    "lookback": "maxlookback",
}
"""Fields of a request -> the keys that bound them, of `[general]` and of a policy."""


def within(policy: Policy, rights: Rights | None) -> Policy:
    """Return `[general]` as it is for a requester with these rights."""
    if rights is None:
        return policy
    found = {key: getattr(rights, key) for key in (*MAXIMA.values(), "snaplength")}
    lower = {
        key: min(most, getattr(policy, key)) for key, most in found.items() if most is not None
    }
    if "maxtimeout" in lower:
        lower["defaulttimeout"] = min(policy.defaulttimeout, lower["maxtimeout"])
    return policy.model_copy(update=lower)


def objections(
    request: CaptureRequest, requester: str, rights: Rights | None, form: str
) -> Iterator[Problem]:
    """Yield what a request asks for that its requester may not have.

    `form` is the format that its savefile would have.
    """
    if rights is None:
        return
    needed = "dryrun" if request.dryrun else "capture"
    if needed not in rights.may:
        yield Problem("", f"{requester} may not do this: {needed} is not in [[requester]] may")
    for field, key in MAXIMA.items():
        value, most = getattr(request, field), getattr(rights, key)
        if value and most is not None and value > most:
            words = f"{value} is more than {requester} may ask for ([[requester]] {key} = {most})"
            yield Problem(ON_THE_WIRE[field], words)
    if rights.formats and form not in rights.formats:
        yield _not_among("format", form, requester, "formats", rights.formats)
    if rights.destinations:
        for name in request.destinations:
            if name not in rights.destinations:
                yield _not_among(
                    "destinations", name, requester, "destinations", rights.destinations
                )
    if request.reply_to and rights.reply_to and request.reply_to not in rights.reply_to:
        yield _not_among("reply_to", request.reply_to, requester, "reply_to", rights.reply_to)


def _not_among(
    field: str, value: str, requester: str, key: str, allowed: tuple[str, ...]
) -> Problem:
    words = f"{value!r} is not for {requester} ([[requester]] {key}): use {' or '.join(allowed)}"
    return Problem(field, words)


def may_use(interface: Interface, rights: Rights | None) -> bool:
    """Return whether a policy allows captures on an interface.

    A glob names interfaces of the host, and says nothing about those in other namespaces.
    """
    if rights is None or not rights.interfaces:
        return True
    return not interface.namespace and matches(rights.interfaces, interface.name)


def answerable(request: CaptureRequest, rights: Rights | None) -> bool:
    """Return whether results of a request may go where it says."""
    if rights is None or not rights.reply_to or not request.reply_to:
        return True
    return request.reply_to in rights.reply_to


def within_rights(request: CaptureRequest, rights: Rights | None) -> CaptureRequest:
    """Return a request with the destinations of its requester, if it names none."""
    if rights is None or not rights.destinations or request.destinations:
        return request
    return request.model_copy(update={"destinations": rights.destinations})


def changes(request: CaptureRequest, rights: Rights | None) -> Iterator[str]:
    """Yield what a policy changes about a request, in words for its warnings."""
    if rights is None:
        return
    if rights.payload == "headers" and request.payload != "headers":
        yield "payload is cut after the transport header ([[requester]] payload)"
    if rights.filter:
        yield f"only packets that match {rights.filter!r} are kept ([[requester]] filter)"
    if rights.snaplength and (request.snaplen or 0) > rights.snaplength:
        yield f"packets are cut to {rights.snaplength} bytes ([[requester]] snaplength)"
