"""Sends results to a webhook.

Each is a POST to one URL, signed according to Standard Webhooks (standardwebhooks.com, spec 1.0.0).
"""

import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx2
from pydantic import SecretStr

from pcapdaemon import __version__
from pcapdaemon.core.errors import NotConnected, ResultRefused
from pcapdaemon.core.text import printable
from pcapdaemon.results.settings import ResultsSettings, key_of

REFUSED = {400, 410, 413, 414, 415, 422}
"""Statuses that reject this one result. After all other errors it is sent again."""


def signature(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature` for the raw body."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class Webhook:
    """Sends results to one URL."""

    def __init__(
        self, settings: ResultsSettings, url: SecretStr, now: Callable[[], float] = time.time
    ) -> None:
        self._url, self._now = url.get_secret_value(), now
        self._key = key_of(settings.secret.get_secret_value()) if settings.secret else None
        trust = ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else True
        self._http = httpx2.AsyncClient(verify=trust, timeout=15, follow_redirects=False)
        self._host = urlsplit(self._url).hostname

    async def send(self, body: bytes) -> None:
        """POST one CloudEvent, with its id as `webhook-id`.

        Raises NotConnected or ResultRefused. Their messages do not contain the URL, which is
        secret.
        """
        try:
            response = await self._http.post(self._url, content=body, headers=self._headers(body))
        except (httpx2.HTTPError, OSError) as error:
            raise NotConnected(self._unreachable(error)) from None
        if response.is_success:
            return
        words = f"webhook {self._host}: status {response.status_code}"
        raise (ResultRefused if response.status_code in REFUSED else NotConnected)(words)

    async def check(self) -> str:
        """Return why the server can't be reached, or "". It sends OPTIONS, and no result."""
        try:
            await self._http.request("OPTIONS", self._url)
        except (httpx2.HTTPError, OSError) as error:
            return self._unreachable(error)
        return ""

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    def _unreachable(self, error: Exception) -> str:
        return f"webhook {self._host}: {printable(str(error)) or type(error).__name__}"

    def _headers(self, body: bytes) -> dict[str, str]:
        message_id, timestamp = str(json.loads(body)["id"]), int(self._now())
        headers = {
            "content-type": "application/cloudevents+json",
            "user-agent": f"pcapdaemon/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
        }
        return (
            {**headers, "webhook-signature": signature(self._key, message_id, timestamp, body)}
            if self._key
            else headers
        )
