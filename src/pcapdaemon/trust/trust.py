"""The part of the daemon that knows requesters: who sent a message, and their daily quotas."""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pcapdaemon.core.events import CaptureStopped, Event, Publish, RequestAccepted
from pcapdaemon.core.plan import Rejection
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.record import RequestRecord
from pcapdaemon.core.requester import Rights, Standing
from pcapdaemon.sources.base import Message
from pcapdaemon.trust.quotas import Quotas
from pcapdaemon.trust.requesters import Requesters
from pcapdaemon.trust.settings import OidcSettings, TrustSettings

if TYPE_CHECKING:
    from pcapdaemon.trust.gate import Gate
    from pcapdaemon.trust.oidc import Oidc


def opening(keys: Sequence[str]) -> Callable[[bytes], bytes | None] | None:
    """Return what verifies results with the public keys of nodes, if there are any.

    Raises ValueError.
    """
    if not keys:
        return None
    # imported here because its library is an extra
    from pcapdaemon.trust import results  # noqa: PLC0415

    return results.opening(keys)


class Trust:
    """Listens to events. `started_at` is when this node began to remember what it did."""

    def __init__(self, publish: Publish, started_at: float) -> None:
        self._publish, self._started_at = publish, started_at
        self._gate: Gate | None = None
        self._oidc: Oidc | None = None
        self._quotas = Quotas(time.time)
        self.requesters = Requesters((), ())
        self.seal: Callable[[bytes], bytes] = bytes
        """Signs a result with the node's key, if it has one."""
        self._sign: Callable[[Mapping[str, Any]], dict[str, Any]] = dict

    def sign(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message that this node sends, with its signature if it has a key."""
        return self._sign(message)

    def sign_for(self, requester: str, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return a signed message of a requester, or None if that one may do nothing here."""
        known = self.requesters.named(requester)
        if self.requesters and (known is None or "capture" not in known.may):
            return None
        return self._sign(message)

    def configure(
        self,
        node: str,
        general: Policy,
        trust: TrustSettings,
        requesters: Requesters,
        key_file: str | None = None,
    ) -> None:
        """Use these from the next message on. Raises SigningError."""
        self._use_key(key_file, trust.audience)
        if not self._gate and (requesters or general.signatures != "off"):
            # imported here because its library is an extra, and many nodes trust everybody
            from pcapdaemon.trust.gate import Gate  # noqa: PLC0415

            self._gate = Gate(self._publish, self._started_at)
        if self._gate:
            self._gate.configure(node, general, trust, requesters)
        self.requesters = requesters

    def _use_key(self, key_file: str | None, audience: str) -> None:
        if key_file is None:
            self.seal, self._sign = bytes, dict
            return
        # imported here because its library is an extra
        from pcapdaemon.trust import results, signing  # noqa: PLC0415

        signer = signing.signer(key_file)
        self.seal = results.sealing(signer)
        self._sign = lambda message: signing.signed(message, signer, audience)

    def subjects_of(self, settings: OidcSettings) -> Callable[[str], Awaitable[str]] | None:
        """Return what returns the subject of a valid OIDC token, if there is an issuer."""
        if not settings.issuer:
            return None
        # imported here because its library is an extra
        from pcapdaemon.trust.oidc import Oidc  # noqa: PLC0415

        if self._oidc is None or self._oidc.settings != settings:  # else the issuer's keys are kept
            self._oidc = Oidc(settings)
        return self._oidc.subject

    def restore(self, records: Iterable[RequestRecord]) -> None:
        """Count what requesters used before the daemon was started."""
        for record in records:
            self._quotas.restore(record)

    def standing(self, message: Message, fields: Mapping[str, Any]) -> Standing | Rejection:
        """Return who sent a message and what it says, or why nothing is done for it."""
        if self._gate is None:
            return Standing(dict(fields))
        return self._gate.standing(message, fields)

    def quota(self, requester: str, rights: Rights | None, captures: int) -> str:
        """Return which daily quota of a requester so many captures would exceed, or ""."""
        return self._quotas.used_up(requester, rights, captures) if rights else ""

    def on_event(self, event: Event) -> None:
        """Count what requesters use."""
        match event:
            case RequestAccepted(_, plan):
                self._quotas.began(plan.id, plan.requester, len(plan.outcomes))
            case CaptureStopped(request_id, _, _, outcome):
                self._quotas.ended(request_id, outcome.size if outcome.packets else 0)
