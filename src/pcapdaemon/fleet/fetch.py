"""Fetches savefiles from other nodes, from those that the configuration names and no others.

The address of a node comes from the bus, so anybody who can send there could name any.
"""

import asyncio
import re
from collections.abc import Sequence
from tempfile import TemporaryFile
from typing import IO, Any
from urllib.parse import quote

from pcapdaemon.console.settings import ConsoleSettings
from pcapdaemon.threads import run_in_thread

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>\d{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?)"
)

LONGEST = 300.0
"""Most seconds for one savefile."""

AT_ONCE = 4 << 20
"""Bytes that are written at once."""

PATIENCE = 20.0
"""Seconds without a byte after which a node is not waited for."""


class NotFetched(Exception):
    """A savefile can't be fetched; the message says why, for people."""


def is_allowed(url: str, globs: Sequence[str]) -> bool:
    """Return whether the scheme, host and port of a URL are as in one of the globs.

    A `*` in a glob is a part of one name between two dots; at its beginning it may be several
    names, and at its end it is the last number of an address.

    >>> is_allowed("https://a.example.com/x", ["https://*.example.com"])
    True
    >>> is_allowed("http://10.1.2.evil.test", ["http://10.1.2.*"])
    False
    """
    found = _URL.fullmatch(url)
    if found is None:
        return False
    port = f":{found['port']}" if found["port"] else ""
    origin = f"{found['scheme']}://{found['host']}{port}"
    return any(_pattern(glob).fullmatch(origin) for glob in globs)


def _pattern(glob: str) -> re.Pattern[str]:
    scheme, _, rest = glob.rstrip("/").partition("://")
    host, colon, port = rest.rpartition(":") if re.search(r":[\d*]+$", rest) else (rest, "", "")
    words = re.escape(host).replace(r"\*", "[A-Za-z0-9-]+")
    if host.startswith("*."):
        words = r"(?:[A-Za-z0-9-]+\.)+" + words.removeprefix(r"[A-Za-z0-9-]+\.")
    if host.endswith(".*"):
        words = words.removesuffix("[A-Za-z0-9-]+") + r"\d{1,3}"
    number = r"\d{1,5}" if port == "*" else re.escape(port)
    return re.compile(f"{re.escape(scheme)}://{words}{colon}{number}")


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
        try:
            file = TemporaryFile()  # noqa: SIM115  # the caller closes it
        except OSError as error:
            raise NotFetched(f"no temporary file: {error.strerror}") from None
        try:
            async with asyncio.timeout(LONGEST):
                await self._write(url.rstrip("/") + path, file)
        except TimeoutError:
            file.close()
            raise NotFetched(f"{url}: not within {LONGEST:.0f} s") from None
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
                async for part in response.aiter_bytes(AT_ONCE):
                    self._left -= len(part)
                    if self._left < 0:
                        most = self._settings.fetch_most
                        raise NotFetched(f"more than [console] fetch_most = {most} bytes")
                    await run_in_thread(file.write, part)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise NotFetched(f"{url}: {error}") from None

    def _headers(self) -> dict[str, str]:
        token = self._settings.fetch_token
        return {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
