"""Finds out who sent a message, before anything in it is obeyed."""

import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.events import Publish
from pcapdaemon.core.fields import Moment
from pcapdaemon.core.message import UnreadableMessage, read
from pcapdaemon.core.node_events import MessageUntrusted
from pcapdaemon.core.plan import Rejection
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import MAX_ID, Problem, new_id
from pcapdaemon.core.requester import UNSIGNED, Requester, Standing, matches
from pcapdaemon.core.text import printable, shortened
from pcapdaemon.sources.base import Message
from pcapdaemon.trust import jws, keys
from pcapdaemon.trust.requesters import Requesters, is_over
from pcapdaemon.trust.settings import TrustSettings

AUDIENCE = "audience"
_MOMENT: TypeAdapter[Any] = TypeAdapter(Moment)


class Reason(StrEnum):
    """Why a message is not trusted."""

    UNSIGNED = "unsigned"
    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown-key"
    REVOKED = "revoked"
    BAD_SIGNATURE = "bad-signature"
    CERTIFICATE = "certificate"
    EXPIRED = "expired"
    FUTURE = "future"
    BEFORE_START = "before-start"
    AUDIENCE = "audience"
    RATE = "rate"


WORDS = {
    Reason.UNSIGNED: "it has no signature; sign it, for example with 'pcapdaemon request --sign'",
    Reason.MALFORMED: "its member jws is not a signed message",
    Reason.UNKNOWN_KEY: "this node does not know the key that signed it",
    Reason.REVOKED: "the key that signed it is revoked ([trust] revoked)",
    Reason.BAD_SIGNATURE: "its signature is wrong",
    Reason.CERTIFICATE: "the certificate of its key is not valid here",
    Reason.EXPIRED: "its signature has expired; sign it again",
    Reason.FUTURE: "it is dated ahead of this node's clock by more than [trust] skew",
    Reason.BEFORE_START: (
        "it was signed before this node started, which does not know what was done then; sign it"
        " again, or set [general] statedir"
    ),
    Reason.AUDIENCE: "it is for another fleet ([trust] audience)",
    Reason.RATE: "too many signatures arrive ([trust] verify_rate); send it again",
}


NOT_LOOKED_AT = (
    "this node looks at no signatures ([general] signatures), and no [[requester]] is named"
    " unsigned"
)


class Untrusted(Exception):
    """A message is not trusted, for a reason. `detail` says more about it."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        words = f"{WORDS[reason]}: {detail}" if detail else WORDS[reason]
        super().__init__(printable(shortened(words)))
        self.reason = reason


class Gate:
    """Knows the requesters. `started_at` is when this node began to remember what it did."""

    def __init__(self, publish: Publish, started_at: float = 0.0) -> None:
        self._publish, self._started_at = publish, started_at
        self._node, self._general, self._trust = "", Policy(), TrustSettings()
        self.requesters = Requesters((), ())
        self._second, self._verified = 0.0, 0

    def configure(
        self, node: str, general: Policy, trust: TrustSettings, requesters: Requesters
    ) -> None:
        """Use these from the next message on."""
        self._node, self._general, self._trust = node, general, trust
        self.requesters = requesters

    def standing(self, message: Message, fields: Mapping[str, Any]) -> Standing | Rejection:
        """Return who sent a message and what it says, or why nothing is done for it.

        Of a signed message only what was signed counts.
        """
        fields = dict(fields)
        token = fields.pop(jws.MEMBER, None)
        mode = self._general.signatures
        if mode == "off" or token is None:
            return self._unsigned(message, _unverified(token) or fields)
        try:
            return self._at_home(self._signed(token, message, time.time()), message)
        except Untrusted as error:
            self._publish(MessageUntrusted(message.source, error.reason))
            kind = AnswerKind.BUSY if error.reason is Reason.RATE else AnswerKind.UNTRUSTED
            if mode == "require":
                return Rejection(_id_of(fields), (Problem(jws.MEMBER, str(error)),), kind)
            return self._unsigned(message, _unverified(token) or fields, str(error))

    def _unsigned(
        self, message: Message, fields: dict[str, Any], why: str = ""
    ) -> Standing | Rejection:
        fields.pop(AUDIENCE, None)
        name, mode = message.requester or UNSIGNED, self._general.signatures
        if not self.requesters:
            return Standing(fields)
        found = self.requesters.named(name)
        if found and is_over(found):
            words = f"the last day of {name} was {found.until} ([[requester]] until)"
            return Rejection(_id_of(fields), (Problem("", words),), AnswerKind.FORBIDDEN)
        if found:
            warnings = (f"{why} ([general] signatures)",) if why else ()
            standing = Standing(fields, name, found, warnings=warnings)
            return self._at_home(standing, message)
        if name != UNSIGNED:
            words = f"{name} may do nothing here: no [[requester]] has this name"
            return Rejection(_id_of(fields), (Problem("", words),), AnswerKind.FORBIDDEN)
        self._publish(MessageUntrusted(message.source, Reason.UNSIGNED))
        words = why or (NOT_LOOKED_AT if mode == "off" else WORDS[Reason.UNSIGNED])
        if mode == "warn":
            return Standing(fields, name, warnings=(f"{words} ([general] signatures)",))
        return Rejection(_id_of(fields), (Problem("", words),), AnswerKind.UNTRUSTED)

    def _at_home(self, standing: Standing, message: Message) -> Standing | Rejection:
        """Return the standing unless its rights are for other nodes or sources."""
        rights, who = standing.rights, standing.requester
        if rights and not matches(rights.nodes, self._node):
            words = f"{who} may do nothing on this node ([[requester]] nodes)"
            kind = AnswerKind.ELSEWHERE if message.requester == "" else AnswerKind.FORBIDDEN
            return Rejection(_id_of(standing.fields), (Problem("", words),), kind)
        if rights and not matches(rights.sources, message.source):
            words = f"{who} may send nothing by {message.source} ([[requester]] sources)"
            problem = Problem("", words)
            return Rejection(_id_of(standing.fields), (problem,), AnswerKind.FORBIDDEN)
        return standing

    def _signed(self, text: object, message: Message, now: float) -> Standing:
        try:
            token = jws.split(text if isinstance(text, str) else "")
        except jws.Malformed as error:
            raise Untrusted(Reason.MALFORMED, str(error)) from None
        if token.key in self._trust.revoked:
            raise Untrusted(Reason.REVOKED, token.key)
        requester, key = self._signer(token, now)
        if not token.certificate:
            self._spend(now)
        if bool(key.application) != (token.algorithm == jws.SECURITY_KEY):
            raise Untrusted(Reason.MALFORMED, f"{token.algorithm} is not the algorithm of its key")
        if not key.verifies(token.signature, token.signed):
            raise Untrusted(Reason.BAD_SIGNATURE)
        if is_over(requester, now):
            raise Untrusted(Reason.EXPIRED)
        fields, issued_at = self._payload(token.payload, now)
        return Standing(fields, requester.name, requester, token.key, issued_at=issued_at)

    def _spend(self, now: float) -> None:
        if not 0 <= now - self._second < 1:
            self._second, self._verified = now, 0
        self._verified += 1
        if self._verified > self._trust.verify_rate:
            raise Untrusted(Reason.RATE)

    def _signer(self, token: jws.Token, now: float) -> tuple[Requester, keys.PublicKey]:
        if not token.certificate:
            return self.requesters.of_key(token.key) or _unknown(token.key)
        try:
            found = keys.certificate(token.certificate)
        except ValueError as error:
            raise Untrusted(Reason.CERTIFICATE, str(error)) from None
        if found.authority in self._trust.revoked:
            raise Untrusted(Reason.REVOKED, found.authority)
        several = self.requesters.of_authority(found.authority) or _unknown(found.authority)
        self._spend(now)
        if found.key.fingerprint != token.key or not found.is_genuine():
            raise Untrusted(Reason.CERTIFICATE, "it is of another key, or its signature is wrong")
        refusal = ""
        for one in several:
            refusal = found.refusal(one.principals or (one.name,), now)
            if not refusal:
                return one, found.key
        raise Untrusted(Reason.CERTIFICATE, refusal)

    def _payload(self, payload: bytes, now: float) -> tuple[dict[str, Any], float]:
        """Return what was signed and when, if it is for this node and this moment."""
        try:
            fields = read(payload)
            issued_at = _MOMENT.validate_python(fields.get("issued_at"))
        except (UnreadableMessage, ValidationError):
            raise Untrusted(Reason.MALFORMED, "its payload is not a request") from None
        if issued_at is None or not isinstance(fields.get("id"), str) or not fields["id"]:
            raise Untrusted(Reason.MALFORMED, "its payload needs id and issued_at")
        if fields.get(AUDIENCE, "") != self._trust.audience:
            raise Untrusted(Reason.AUDIENCE)
        at = issued_at.timestamp()
        if at > now + self._trust.skew:
            raise Untrusted(Reason.FUTURE)
        if now - at > self._general.maxage:
            raise Untrusted(Reason.EXPIRED)
        if at < self._started_at:
            raise Untrusted(Reason.BEFORE_START)
        return {name: fields[name] for name in fields if name not in (AUDIENCE, jws.MEMBER)}, at


def _unknown(fingerprint: str) -> NoReturn:
    raise Untrusted(Reason.UNKNOWN_KEY, fingerprint)


def _unverified(token: object) -> dict[str, Any] | None:
    """Return what a token says, if it is one; it is worth no more than any message."""
    try:
        fields = read(jws.split(token).payload) if isinstance(token, str) else None
    except (jws.Malformed, UnreadableMessage):
        return None
    if fields:
        fields.pop(jws.MEMBER, None)
    return fields


def _id_of(fields: Mapping[str, Any]) -> str:
    """Return the id of a message that is refused unread, or a new one."""
    found = fields.get("id")
    good = isinstance(found, str) and 0 < len(found) <= MAX_ID and found.isprintable()
    return str(found) if good else new_id()
