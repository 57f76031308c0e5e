"""Addresses of servers, and whether what is sent there can be read on the way. Pure."""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address.

    Any name except localhost counts as reachable from other machines.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unencrypted(urls: Iterable[str | None]) -> list[str]:
    """Return those URLs to other machines that begin with http://.

    >>> unencrypted(["http://minio:9000", "http://127.0.0.1:9000", "https://minio", None])
    ['http://minio:9000']
    """
    plain = [url for url in urls if url and url.lower().startswith("http://")]
    return [url for url in plain if not is_loopback(urlsplit(url).hostname or "")]
