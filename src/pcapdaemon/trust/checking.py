"""What is wrong with requesters and how they are trusted, in a whole configuration."""

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime
from importlib.util import find_spec

from pcapdaemon.core.filters import is_balanced
from pcapdaemon.core.network import is_loopback
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.requester import Group, Requester
from pcapdaemon.native.live import refusal_of
from pcapdaemon.sources.http import HttpSettings
from pcapdaemon.trust.requesters import Requesters, is_over
from pcapdaemon.trust.settings import TrustSettings

FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")

SOON = 14
"""Days before the end of a requester's keys in which the start says so."""


def problems(
    general: Policy,
    trust: TrustSettings,
    requesters: Sequence[Requester],
    groups: Sequence[Group],
    destinations: Collection[str],
) -> Iterator[str]:
    """Yield what is wrong, for people."""
    yield from Requesters(requesters, groups).problems
    signatures = general.signatures
    if (requesters or signatures != "off") and find_spec("cryptography") is None:
        yield "[[requester]]: needs the library cryptography: run pip install 'pcapdaemon[trust]'"
    for key in trust.revoked:
        if not FINGERPRINT.fullmatch(key):
            yield f"[trust] revoked: {key[:80]!r} is no fingerprint, as ssh-keygen -l prints it"
    if signatures != "off" and not general.maxage:
        yield f"[general] signatures = {signatures}: maxage = 0 would allow old messages for ever"
    if signatures != "off" and general.dedupe < general.maxage + trust.skew:
        yield (
            f"[general] signatures = {signatures}: dedupe = {general.dedupe:g} must be at least"
            f" maxage + [trust] skew, {general.maxage + trust.skew:g}, so that a message can't be"
            " sent again when its id is forgotten"
        )
    if signatures == "require" and not requesters:
        yield "[general] signatures = require: there is no [[requester]], so nothing could be done"
    if "cloudshark" in destinations and general.encrypt_to:
        yield "[general] encrypt_to: CloudShark can't read what is encrypted; turn it off"
    for label, one in _all(requesters, groups):
        if one.encrypt_to and "cloudshark" in (one.destinations or destinations):
            yield f"{label} encrypt_to: CloudShark can't read it; set destinations to others"
        wrong = "" if is_balanced(one.filter) else "a parenthesis is not closed or not opened"
        if wrong := wrong or (refusal_of(one.filter) if one.filter else ""):
            yield f"{label} filter: {wrong}"
        for name in one.destinations:
            if name not in destinations:
                yield f"{label} destinations: {name} is not turned on"


def of_results(key_file: str | None, node_keys: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with the keys that sign results."""
    if not (key_file or node_keys):
        return
    try:
        from pcapdaemon.trust import agent, results, signing  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        yield f"[results]: needs the library {error.name}: run pip install 'pcapdaemon[trust]'"
        return
    try:
        if key_file:
            signing.signer(key_file)
    except agent.SigningError as error:
        yield f"[results] key_file: {error}"
    try:
        results.opening(node_keys)
    except ValueError as error:
        yield f"[results] node_keys: {error}"


def of_oidc(issuer: str) -> Iterator[str]:
    """Yield that the library for OpenID Connect tokens is missing, if one is needed."""
    if issuer and find_spec("jwt") is None:
        yield "[oidc]: needs the library jwt: run pip install 'pcapdaemon[trust]'"


def open_door(http: object, requesters: Sequence[Requester]) -> Iterator[str]:
    """Yield what is wrong with an API that other machines can reach, if nobody proves anything."""
    if not isinstance(http, HttpSettings) or is_loopback(http.host):
        return
    tokens = (one.tokens or one.subjects for one in requesters)
    named = not requesters or any(one.certificates for one in requesters)
    clients = http.client_ca_file if named else None
    if not any((http.token, clients, *tokens)):
        yield (
            f"[http]: other machines can reach host {http.host}: set token_file (or token,"
            " token_env)"
        )


def flaws(general: Policy, requesters: Sequence[Requester]) -> Iterator[str]:
    """Yield what is allowed but dangerous."""
    if general.signatures == "off" and any(one.keys or one.authorities for one in requesters):
        yield (
            "[[requester]] keys: signatures are not looked at; set [general] signatures to warn or"
            " require"
        )
    today = datetime.now(UTC).date()
    for one in requesters:
        if not one.until:
            continue
        if is_over(one):
            yield f"[[requester]] {one.name}: its keys and tokens ended on {one.until}"
        elif (left := (date.fromisoformat(one.until) - today).days) <= SOON:
            yield f"[[requester]] {one.name}: its keys and tokens end in {left} days ({one.until})"


def _all(
    requesters: Sequence[Requester], groups: Sequence[Group]
) -> Iterator[tuple[str, Requester | Group]]:
    for one in requesters:
        yield f"[[requester]] {one.name}", one
    for other in groups:
        yield f"[[group]] {other.name}", other
