"""Savefiles in CloudShark, by its upload API (support.cloudshark.io/api/upload).

The path of every request contains the API token, so no URL may leave this file.
"""

import asyncio
import json
import re
import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx2
from pydantic import Field, SecretStr, field_validator, model_validator

from pcapdaemon import __version__
from pcapdaemon.core.errors import DeliveryFailed, DeliveryRefused
from pcapdaemon.core.outcome import Receipt
from pcapdaemon.core.request import CaptureRequest, Problem
from pcapdaemon.core.section import Section
from pcapdaemon.core.text import printable
from pcapdaemon.core.units import Time
from pcapdaemon.destinations.base import Destination, SavefileInfo
from pcapdaemon.savefile.savefile import Savefile, content_type
from pcapdaemon.secrets import CertificateFile
from pcapdaemon.threads import InTurn, run_in_thread

STALL = 60.0
"""Seconds without progress after which a connection is dropped; the server does the same."""

MOST_ANSWER, MOST_WORDS = 65536, 1024
"""Most bytes of an answer that are read, and most characters that are reported."""

HINTS = {
    400: "the server does not understand this upload: is it a CloudShark, and recent enough?",
    401: "see [cloudshark] token; if its owner must log in, use another one",
    403: "see [cloudshark] token, and its permissions",
    404: "see [cloudshark] host, port and token",
    413: "the savefile is too large for this server, or its quota is used up",
    422: "the server does not accept this savefile",
    **dict.fromkeys((405, 410, 414, 415), "see [cloudshark] host and port: is this a CloudShark?"),
}
PERMANENT = {400, 401, 403, 404, 405, 410, 413, 414, 415, 422}
_SCHEMES = {"http": 80, "https": 443}


class CloudSharkSettings(Section):
    """`[cloudshark]`: one server."""

    upload: bool = Field(False, description="Upload savefiles to CloudShark.")
    host: str = Field(
        "www.cloudshark.org",
        pattern=r"^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])$",
        description="The server's name or address.",
    )
    scheme: Literal["https", "http"] = Field(
        "https", description="`http` sends token and packets unencrypted."
    )
    port: int = Field(0, ge=0, le=65535, description="The server's port; 0: the scheme's default.")
    token: SecretStr | None = Field(None, description="The API token. Required.")
    timeout: Time = Field(
        0,
        ge=0,
        description=(
            "Seconds that an upload may take; 0: no limit, if it makes progress at least once a"
            " minute."
        ),
    )
    ca_file: CertificateFile | None = Field(
        None, description="Certificates to trust instead of the system's."
    )
    insecure: bool = Field(False, description="Do not verify the server's certificate.")

    @field_validator("token")
    @classmethod
    def _token_fits(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(
            r"[A-Za-z0-9_-]{4,128}", token.get_secret_value()
        ):
            raise ValueError("must be 4 to 128 letters, digits, hyphens or underscores")
        return token

    @model_validator(mode="after")
    def _token_is_there(self) -> Self:
        if self.upload and self.token is None:
            raise ValueError("token (or token_file, token_env) is missing")
        return self

    @property
    def base(self) -> str:
        """The server's URL, without a path."""
        port = "" if self.port in (0, _SCHEMES[self.scheme]) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    def flaws(self) -> list[str]:
        """Return warnings about what others can read."""
        plain = (
            ["[cloudshark] scheme = http: the token and the packets are sent unencrypted"]
            if self.scheme == "http"
            else []
        )
        return plain + (
            ["[cloudshark] insecure = true: anybody can pretend to be the server"]
            if self.insecure
            else []
        )


class CloudShark(Destination):
    """Uploads savefiles from memory.

    If an earlier upload may have succeeded, it searches the server for the file's name first.
    """

    name = "cloudshark"
    Settings = CloudSharkSettings

    def __init__(self, settings: CloudSharkSettings) -> None:
        self._settings, self._uploading = settings, InTurn()
        self._token = settings.token.get_secret_value() if settings.token else ""
        self._trust: ssl.SSLContext | bool = not settings.insecure
        if settings.ca_file and not settings.insecure:
            self._trust = ssl.create_default_context(cafile=settings.ca_file)

    @property
    def address(self) -> str:
        """The server's URL."""
        return self._settings.base

    async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
        """Upload a savefile in a thread."""
        try:
            async with asyncio.timeout(self._settings.timeout or None):
                found = await self._uploading.run(
                    info.file_name, self._find_or_upload, savefile, info
                )
        except TimeoutError:
            words = (
                f"{self.address}: the upload took longer than {self._settings.timeout} s"
                " (see [cloudshark] timeout)"
            )
            raise DeliveryFailed(words) from None
        link = f"{self._settings.base}/captures/{quote(found, safe='')}"
        return Receipt(link, found, link)

    def objections(self, request: CaptureRequest) -> list[Problem]:
        """Return that CloudShark can't read what is encrypted for others."""
        named = not request.destinations or self.name in request.destinations
        if not (request.encrypt_to and named):
            return []
        return [Problem("encrypt_to", "CloudShark can't read it: name other destinations")]

    async def check(self) -> str:
        """Search for a file that does not exist.

        This does not show whether the token may upload: only an upload does.
        """
        try:
            await run_in_thread(self._find, "pcapdaemon-check")
        except (DeliveryFailed, DeliveryRefused) as error:
            return str(error)
        return ""

    def _find_or_upload(self, savefile: Savefile, info: SavefileInfo) -> str:
        return (self._find(info.file_name) if info.again else "") or self._upload(savefile, info)

    def _upload(self, savefile: Savefile, info: SavefileInfo) -> str:
        fields = {"filename": info.file_name, "additional_tags": _tags(info)}
        if info.request.comment:
            fields["comments"] = info.request.comment
        files = {"file": (info.file_name, savefile, content_type(info.file_name))}
        status, headers, text = self._call("POST", "upload", data=fields, files=files)
        if status == 200 and (found := _id_in(text)):
            return found
        raise self._refusal(status, headers, text)

    def _find(self, file_name: str) -> str:
        """Return the ID of the capture with this name; empty if none is found, or search denied."""
        status, headers, text = self._call("GET", "search", params={"search[filename]": file_name})
        if status in (403, 404):
            return ""
        found = _json(text)
        if status == 200 and found is not None:
            return _id_of(found, file_name)
        error = self._refusal(status, headers, text)
        if isinstance(error, DeliveryRefused) and status not in (301, 302, 307, 308, 401):
            raise DeliveryFailed(str(error))
        raise error

    def _call(self, method: str, call: str, **more: Any) -> tuple[int, Any, str]:
        """Return the status, the headers and the start of the answer.

        Network errors become DeliveryFailed.
        """
        url = f"{self._settings.base}/api/v1/{self._token}/{call}"
        body, limits = b"", httpx2.Timeout(STALL, connect=10)
        headers = {"User-Agent": f"pcapdaemon/{__version__}"}
        try:
            with (
                httpx2.Client(
                    verify=self._trust, timeout=limits, follow_redirects=False, headers=headers
                ) as http,
                http.stream(method, url, **more) as response,
            ):
                begun = time.monotonic()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MOST_ANSWER or time.monotonic() - begun > STALL:
                        break
                return response.status_code, response.headers, body.decode("utf-8", "replace")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            raise DeliveryFailed(
                f"{self.address}: {self._clean(str(error)) or type(error).__name__}"
            ) from None

    def _refusal(self, status: int, headers: Any, text: str) -> DeliveryFailed | DeliveryRefused:
        hint = HINTS.get(status, "")
        if status == 200:
            hint = "the answer has no ID: is this a CloudShark?"
        if 300 <= status < 400:
            where = self._clean(headers.get("location", ""))
            return DeliveryRefused(
                f"{self.address}: redirected to {where} (change [cloudshark] scheme, host and port)"
            )
        words = (
            f"{self.address}: status {status}:"
            f" {self._clean(_words_in(text))}{f' ({hint})' if hint else ''}"
        )
        if status in PERMANENT:
            return DeliveryRefused(words)
        return DeliveryFailed(words, retry_after=_seconds(headers.get("retry-after", "")))

    def _clean(self, text: str) -> str:
        """Return printable text without the token, which a server or a library may repeat."""
        secret = re.compile(re.escape(self._token or "\0"), re.IGNORECASE)
        return printable(secret.sub("***", " ".join(text.split())))[:MOST_WORDS]


def _tags(info: SavefileInfo) -> str:
    # tags are one flat list: the text after a comma in the customer's name would be another tag
    customer = info.request.customer or ""
    tags = (
        info.tags.replace(f"customer:{customer}", f"customer:{customer.replace(',', ';')}", 1)
        if "," in customer
        else info.tags
    )
    return "".join(c if c.isprintable() else " " for c in tags)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _id_in(text: str) -> str:
    """Return the ID in the answer to a successful upload, whatever its content type."""
    found = _json(text)
    number = found.get("id") if isinstance(found, dict) else None
    return str(number) if _is_id(number) else ""


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable()


def _id_of(found: Any, file_name: str, depth: int = 8) -> str:
    """Return the ID next to a file's name, in an object or in nested lists and objects.

    `depth` bounds how deeply it looks.
    """
    if isinstance(found, dict):
        if found.get("filename") == file_name and _is_id(found.get("id")):
            return str(found["id"])
        found = list(found.values())
    if isinstance(found, list) and depth:
        return next(
            (one for one in (_id_of(item, file_name, depth - 1) for item in found) if one), ""
        )
    return ""


def _words_in(text: str) -> str:
    found = _json(text)
    exceptions = found.get("exceptions") if isinstance(found, dict) else None
    return "; ".join(map(str, exceptions)) if isinstance(exceptions, list) else text


def _seconds(retry_after: str) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110 section 10.2.3): a number or a date."""
    if re.fullmatch(r"[0-9]{1,9}", retry_after.strip()):
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
