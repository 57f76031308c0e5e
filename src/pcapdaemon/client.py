"""Sends requests to a daemon, as another program would: over its HTTP API, or over Redis."""

import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2

from pcapdaemon.errors import PcapdaemonError

POLL_EVERY = 0.25


class Refused(PcapdaemonError):
    """The daemon said no; `problems` has a line for each reason."""

    def __init__(self, problems: list[str], hint: str = "") -> None:
        super().__init__("\n".join(problems), hint)
        self.problems = problems


class ApiClient:
    """Talks to one daemon's API; every method raises Refused or PcapdaemonError in words for a person."""

    def __init__(self, url: str, token: str = "") -> None:
        if not token.isascii():
            raise PcapdaemonError("the token is not ASCII: no header can carry it")
        self._url = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=10, follow_redirects=False)

    def submit(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a request; what the daemon answers at once."""
        # whatever is odd about it, the daemon shall say so: httpx would refuse NaN itself
        return self._call("POST", "/captures", content=json.dumps(message), headers={"Content-Type": "application/json"})

    def follow(self, request_id: str) -> Iterator[dict[str, Any]]:
        """The request's record again and again, until it is over."""
        while True:
            record = self._call("GET", f"/captures/{quote(request_id, safe='')}")
            yield record
            if record["state"] != "running":
                return
            time.sleep(POLL_EVERY)

    def stop(self, request_id: str) -> None:
        """Have its captures ended and delivered."""
        self._call("DELETE", f"/captures/{quote(request_id, safe='')}")

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **more)
            body: dict[str, Any] = response.json()
        except httpx2.TransportError as error:
            raise PcapdaemonError(f"{self._url}: {error}", "is a daemon running there? 'pcapdaemon run' starts one") from None
        except ValueError:
            raise PcapdaemonError(f"{self._url}: status {response.status_code}, and not from pcapdaemon") from None
        if response.is_success:
            return body
        errors = [f"{e['field']}: {e['message']}".removeprefix(": ") for e in body.get("errors", [])]
        fallback = f"{body.get('title', '')}: {body.get('detail', '')} (status {response.status_code})"
        raise Refused(errors or [fallback], body.get("hint", ""))


def publish(url: str, channel: str, body: bytes) -> int:
    """Publish a message on a Redis channel; the number of nodes that heard it. Raises PcapdaemonError."""
    try:
        from redis import Redis, RedisError
    except ModuleNotFoundError:
        raise PcapdaemonError("Redis needs the library redis", "install it: pip install 'pcapdaemon[redis]'") from None
    try:
        with Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5) as redis:
            return int(redis.publish(channel, body))
    except (RedisError, ValueError) as error:
        raise PcapdaemonError(f"Redis: {error}", "write the URL as redis://user:password@host:port") from None
