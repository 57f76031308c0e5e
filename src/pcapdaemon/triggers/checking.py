"""What is wrong with triggers in the light of the rest of the configuration. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pcapdaemon.core.plan import policy_problems
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.profile import ALIASES, INTERFACES, Profiles, applied
from pcapdaemon.core.request import ON_THE_WIRE, validate
from pcapdaemon.core.target import TARGETS
from pcapdaemon.triggers.settings import BUSES, TriggerSettings
from pcapdaemon.triggers.template import example

WITH_FLOWS = ("falco", "suricata", "zeek", "alertmanager", "grafana")
PATTERN = ON_THE_WIRE["node_pattern"]
RESERVED = "test"
"""No trigger may have this name: `pcapdaemon trigger test` is another command."""


@dataclass(frozen=True, slots=True)
class Around:
    """The rest of the configuration.

    `used` has the places from which requests come and to which results go, for each section of a
    bus that is turned on. `reply_to` are the places that a request may name for its results.
    """

    policy: Policy
    profiles: Profiles
    aliases: Collection[str]
    used: Mapping[str, Collection[str]]
    destinations: Collection[str]
    reply_to: Collection[str]


def problems(triggers: Sequence[TriggerSettings], around: Around) -> Iterator[str]:
    """Yield what is wrong."""
    names: set[str] = set()
    taken = {(section, place) for section, places in around.used.items() for place in places}
    for n, one in enumerate(triggers, 1):
        if not getattr(one, "name", ""):  # it is invalid, which is reported
            continue
        label = f"[[trigger]] number {n}"
        if one.name in names:
            yield f"{label} name: there is another trigger {one.name}"
        if one.name == RESERVED:
            yield f"{label} name: must not be {RESERVED}, which is a command"
        names.add(one.name)
        yield from (f"{label} {words}" for words in _of_places(one, around.used))
        for place in _places_of(one):
            if place in taken:
                yield f"{label} {one.way}: {place[1]} is used already; choose another place"
            taken.add(place)
        yield from (f"{label} {words}" for words in _of_request(one, around))


def flaws(
    triggers: Sequence[TriggerSettings],
    policy: Policy,
    keeps_state: bool,
    recorded: Collection[str],
) -> Iterator[str]:
    """Yield warnings about triggers that work, but perhaps not as they are meant.

    `recorded` are the interfaces, and aliases of interfaces, that have a recorder.
    """
    for one in (one for one in triggers if getattr(one, "name", "")):
        names = {*_each(one.request.get(INTERFACES, ())), *_each(one.request.get(ALIASES, ()))}
        unrecorded = sorted(name for name in names - {*recorded} if "{" not in name)
        if one.lookback and _here(one) and unrecorded:
            yield (
                f"[[trigger]] {one.name} lookback: {', '.join(unrecorded)} has no recorder"
                " ([[recorder]]), so there are no packets from before the alert"
            )
        if one.lookback and one.lookback > policy.maxlookback:
            yield (
                f"[[trigger]] {one.name} lookback: {one.lookback} s are more than [general]"
                f" maxlookback = {policy.maxlookback}, which counts"
            )
        if one.signature == "grafana" and not one.timestamp_header:
            yield (
                f"[[trigger]] {one.name}: without timestamp_header, a recorded message can be sent"
                " again"
            )
    if triggers and not keeps_state:
        yield "triggers forget at a restart which alerts they know; set [general] statedir"


def _of_places(one: TriggerSettings, sections: Collection[str]) -> Iterator[str]:
    _, needed = BUSES.get(one.way, ("", ""))
    if needed and needed not in sections:
        yield f"{one.way}: [{needed}] is not turned on; set [{needed}] listen = true"
    if one.send != "self" and one.send not in sections:
        yield f"send: [{one.send}] is not turned on; set [{one.send}] listen = true"
    if one.flow in ("required", "host") and one.kind not in WITH_FLOWS and not one.flow_from:
        yield f"flow: alerts of kind {one.kind} name no flow; set flow_from"
    if one.each and one.kind != "json":
        yield "each: is for kind json"


def _places_of(one: TriggerSettings) -> Iterator[tuple[str, str]]:
    """Yield what a trigger reads, and nobody else may read."""
    if one.way in ("socket", "syslog"):
        yield one.way, str(getattr(one, one.way))
    elif one.way in BUSES:
        found = getattr(one, one.way)
        yield from ((BUSES[one.way][1], place) for place in _each(found))


def _each(found: str | tuple[str, ...]) -> tuple[str, ...]:
    return (found,) if isinstance(found, str) else found


def _of_request(one: TriggerSettings, around: Around) -> Iterator[str]:
    fields = {"node": "any", **example(one.request)}
    if PATTERN in fields:
        del fields["node"]
    known = around.profiles if one.send == "self" else {str(fields.get("profile")): {}}
    merged, wrong = applied(fields, known)
    if one.send != "self" and not merged.keys() & {INTERFACES, ALIASES, *TARGETS}:
        merged = {**merged, INTERFACES: ("any",)} if "profile" in merged else merged
    request, found = validate(merged)
    for problem in [
        *found,
        *wrong,
        *(policy_problems(request, around.policy) if _here(one) else ()),
    ]:
        yield f"request.{problem}"
    if _here(one):
        yield from _unknown(one, around)


def _unknown(one: TriggerSettings, around: Around) -> Iterator[str]:
    """Yield names in a request that this node does not know, so that it would always refuse it."""
    for field, known, words in (
        (ALIASES, around.aliases, "no [[interface]] has the alias"),
        ("destinations", around.destinations, "not turned on:"),
        ("reply_to", around.reply_to, "no place for results:"),
    ):
        for name in _each(one.request.get(field, ())):
            if "{" not in name and name not in known:
                yield f"request.{field}: {words} {name}"


def _here(one: TriggerSettings) -> bool:
    return one.send == "self"
