"""Profiles: defaults of requests under a name, `[[profile]]` in the configuration. Pure."""

from collections.abc import Mapping
from copy import copy
from typing import Any

from pydantic import Field, create_model

from pcapdaemon.core.request import ON_THE_WIRE, CaptureRequest, Problem
from pcapdaemon.core.section import Section
from pcapdaemon.core.target import TARGETS

IN_PROFILES = (
    "interfaces",
    "aliases",
    "capture_filter",
    "snaplen",
    "packets",
    "idle_timeout",
    "duration",
    "size",
    "lookback",
    "format",
    "merge",
    "compress",
    "sha256",
    "tags",
    "destinations",
    "comment",
)
"""The fields of a request that a profile may have."""

INTERFACES, ALIASES, LOOKBACK = (
    ON_THE_WIRE[name] for name in ("interfaces", "aliases", "lookback")
)

Profiles = Mapping[str, Mapping[str, Any]]
"""The fields of each profile, by its name."""


def _members() -> dict[str, Any]:
    found = {}
    for name in IN_PROFILES:
        field = copy(CaptureRequest.model_fields[name])
        field.alias = field.validation_alias = field.serialization_alias = None
        found[ON_THE_WIRE[name]] = (field.annotation, field)
    return found


Profile: Any = create_model(
    "Profile",
    __base__=Section,
    __doc__="One `[[profile]]`: what a request with this `profile` has, unless it says otherwise.",
    name=(
        str,
        Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="What requests call it."),
    ),
    **_members(),
)


def fields_of(profile: Any) -> dict[str, Any]:
    """Return the fields that a profile sets, with the names of a message."""
    found: dict[str, Any] = profile.model_dump(exclude_unset=True)
    return {name: value for name, value in found.items() if name != "name"}


def applied(
    fields: Mapping[str, Any], profiles: Profiles
) -> tuple[Mapping[str, Any], list[Problem]]:
    """Return the fields of a message with those of its profile where it says nothing itself."""
    name = fields.get("profile")
    if not isinstance(name, str) or not name:  # if it is something else, `validate` says so
        return fields, []
    if name not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        return fields, [Problem("profile", f"unknown profile {name!r}; this node has: {known}")]
    own = {key: value for key, value in fields.items() if _says_something(value)}
    given = dict(profiles[name])
    if any(name in own for name in TARGETS):
        given = {name: value for name, value in given.items() if name not in (INTERFACES, ALIASES)}
    for one, other in ((INTERFACES, ALIASES), (ALIASES, INTERFACES), ("since", LOOKBACK)):
        if one in own:
            given.pop(other, None)
    if own.get("merge") is True and given.get("format") == "pcap":
        del given["format"]
    if own.get("format") == "pcap":
        given.pop("merge", None)
    return {**fields, **{name: value for name, value in given.items() if name not in own}}, []


def _says_something(value: Any) -> bool:
    # 0 and empty values mean absent, as in the original; false is an answer
    return value is False or value not in (None, "", 0, [])
