"""OpenID Connect bearer tokens, for example those of Kubernetes service accounts."""

import asyncio
import ssl
import time
from typing import Any

import httpx2
import jwt
import structlog

from pcapdaemon.threads import run_in_thread
from pcapdaemon.trust.settings import OidcSettings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Asymmetric ones only: whoever has the issuer's public key must not be able to sign."""

WITHIN = 5.0
"""Seconds for which the issuer may take."""

FRESH, STALE = 300.0, 86400.0
"""Seconds after which the issuer's keys are fetched again, and after which they count no more."""

AGAIN = 10.0
"""Fewest seconds between two attempts, because strangers may cause them."""

log = structlog.get_logger()


class Oidc:
    """Verifies tokens of one issuer. Its keys are cached, so it may be away for a while."""

    def __init__(self, settings: OidcSettings) -> None:
        self.settings = settings
        self._keys: dict[str, Any] = {}
        self._fetched_at = self._tried_at = -STALE
        self._fetching = asyncio.Lock()

    async def subject(self, token: str) -> str:
        """Return the subject of a valid token, or ""."""
        try:
            name = str(jwt.get_unverified_header(token).get("kid", ""))
        except jwt.PyJWTError:
            return ""
        now = time.monotonic()
        if name not in self._keys or now - self._fetched_at > FRESH:
            await self._fetch()
        if time.monotonic() - self._fetched_at > STALE or name not in self._keys:
            return ""
        try:
            claims = jwt.decode(
                token,
                self._keys[name],
                algorithms=list(ALGORITHMS),
                audience=self.settings.audience,
                issuer=self.settings.issuer,
                leeway=5,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except jwt.PyJWTError:
            return ""
        found = claims.get(self.settings.claim)
        return found if isinstance(found, str) else ""

    async def _fetch(self) -> None:
        async with self._fetching:
            if time.monotonic() - self._tried_at < AGAIN:
                return
            self._tried_at = time.monotonic()
            try:
                self._keys = await run_in_thread(self._read)
                self._fetched_at = time.monotonic()
            except (httpx2.HTTPError, OSError, ValueError, jwt.PyJWTError) as error:
                reason, url = str(error), self.settings.keys
                log.warning("the issuer's keys can't be read", url=url, reason=reason)

    def _read(self) -> dict[str, Any]:
        context = ssl.create_default_context(cafile=self.settings.ca_file)
        with httpx2.Client(verify=context, timeout=WITHIN) as client:
            answer = client.get(self.settings.keys, headers=self._headers()).raise_for_status()
        found = jwt.PyJWKSet.from_dict(answer.json())
        return {key.key_id: key for key in found.keys if key.key_id}

    def _headers(self) -> dict[str, str]:
        secret = self.settings.token
        return {"Authorization": f"Bearer {secret.get_secret_value()}"} if secret else {}
