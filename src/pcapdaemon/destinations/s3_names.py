"""Endpoints, regions and folders that S3 accepts."""

import re
from urllib.parse import urlsplit

REGION = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
_AMAZONS = re.compile(r"s3(?:[.-](?:([a-z]{2}(?:-[a-z]+)+-[0-9])|[a-z0-9-]+))?\.amazonaws\.com")


def endpoint_url(text: str) -> str | None:
    """Return an endpoint's URL, or None for Amazon's own endpoints.

    The client finds those by region; with a URL it would use the global one. Raises ValueError.
    """
    parts = urlsplit(text if "://" in text else f"https://{text}")
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    if (
        parts.scheme not in ("http", "https")
        or not _HOST.fullmatch(host or "")
        or parts.netloc.lower() != f"{host}{port}"
        or parts.query
    ):
        raise ValueError(f"must be a host name or URL, not {text!r}")
    return (
        None
        if _AMAZONS.fullmatch(host or "")
        else f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"
    )


def region_in(endpoint: str) -> str | None:
    """Return the region in the name of an Amazon endpoint, if it has one."""
    found = _AMAZONS.fullmatch(
        urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}").hostname or ""
    )
    return found[1] if found else None


def folder_problem(folder: str) -> str:
    """Return what is wrong with a folder; empty if nothing is."""
    parts = folder.strip("/").split("/") if folder.strip("/") else []
    if any(part in ("", ".", "..") for part in parts):
        return "must not have empty parts, '.' or '..'"
    return (
        ""
        if folder.isprintable() and len(folder.encode()) <= 700
        else "must be printable characters, at most 700 bytes"
    )
