"""Fetches savefiles from other nodes, from those that the configuration names and no others.

The address of a node comes from the bus, so anybody who can send there could name any.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from tempfile import TemporaryFile
from typing import IO, Any
from urllib.parse import quote

from pcapdaemon.console.settings import ConsoleSettings

_ORIGIN = re.compile(r"(https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?)(?:/|$)")

PATIENCE = 20.0
"""Seconds without a byte after which a node is not waited for."""


class NotFetched(Exception):
    """A savefile can't be fetched; the message says why, for people."""


def is_allowed(url: str, globs: Sequence[str]) -> bool:
    """Return whether the scheme, host and port of a URL match one of the globs.

    >>> is_allowed("https://a.example.com/x", ["https://*.example.com"])
    True
    >>> is_allowed("https://evil.test/.example.com", ["https://*.example.com"])
    False
    """
    found = _ORIGIN.match(url)
    return found is not None and any(fnmatchcase(found[1], glob.rstrip("/")) for glob in globs)


class Fetcher:
    """Fetches savefiles into files without a name. All of them have at most `fetch_most` bytes."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings, self._left = settings, settings.fetch_most
        self._http: Any = None

    async def fetch(self, url: str, request_id: str, name: str) -> IO[bytes]:
        """Return a savefile of a node; the caller closes it. Raises NotFetched."""
        if not url:
            raise NotFetched("this node can't read it, and its own has no [http] public_url")
        if not is_allowed(url, self._settings.fetch_from):
            raise NotFetched(f"[console] fetch_from does not allow {url}")
        path = f"/captures/{quote(request_id, safe='')}/files/{quote(name, safe='')}"
        file = TemporaryFile()  # noqa: SIM115  # the caller closes it
        try:
            await self._write(url.rstrip("/") + path, file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    async def close(self) -> None:
        """Close all connections."""
        if self._http:
            await self._http.aclose()

    async def _write(self, url: str, file: IO[bytes]) -> None:
        import httpx2  # noqa: PLC0415  # it is large, and few consoles fetch

        if self._http is None:
            self._http = httpx2.AsyncClient(
                timeout=PATIENCE, follow_redirects=False, headers=self._headers()
            )
        try:
            async with self._http.stream("GET", url) as response:
                if response.status_code != httpx2.codes.OK:
                    raise NotFetched(f"{url}: status {response.status_code}")
                async for part in response.aiter_bytes():
                    self._left -= len(part)
                    if self._left < 0:
                        raise NotFetched("the savefiles are more than [console] fetch_most")
                    file.write(part)
        except httpx2.TransportError as error:
            raise NotFetched(f"{url}: {error}") from None

    def _headers(self) -> dict[str, str]:
        token = self._settings.fetch_token
        return {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
