"""Sends requests to daemons, as another program would: over the HTTP API of one, or over a bus to many."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from pcapdaemon.answers import decode
from pcapdaemon.errors import PcapdaemonError
from pcapdaemon.request import new_id
from pcapdaemon.sources.base import Bus, Verdict, close

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


def api_of(values: Mapping[str, Any], url: str | None, token_file: Path | None) -> ApiClient:
    """The API that is named, or that of a configuration's `[http]`, or the default one."""
    http = values.get("http", {})
    host, port = http.get("host", "127.0.0.1"), http.get("port", 8723)
    file = token_file or (Path(os.path.expandvars(http["token_file"])) if "token_file" in http else None)
    return ApiClient(url or f"http://{f'[{host}]' if ':' in host else host}:{port}", file.read_text().strip() if file else "")


async def ask(bus: Bus, message: dict[str, Any], wait: float) -> tuple[list[dict[str, Any]] | None, int | None]:
    """Send a message over a bus, and collect the answers of nodes for `wait` seconds; of one named node just the first.

    The answers are None where none can come: nobody waits, or the bus has no place for them. The number is how many heard
    it, where the bus knows. Raises NotConnected.
    """
    message = {**message, "id": message.get("id") or new_id()}
    listener = bus.of_answers(bus.settings, bus.node) if wait and bus.results else None
    try:
        if listener:
            await listener.connect()
        heard = await bus.send(json.dumps(message).encode())
        return (await _answers(listener, message, wait) if listener else None), heard
    finally:
        for one in (listener, bus):
            if one:
                await close(one)


async def _answers(listener: Bus, message: dict[str, Any], wait: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait):
            while not found or message.get("node", "any") == "any":
                heard = await listener.receive()
                answer = decode(heard.body)
                mine = answer is not None and answer["id"] == message["id"]
                if heard.settle:  # a queue of answers may be shared with other requesters
                    heard.settle(Verdict.DONE if mine else Verdict.ELSEWHERE)
                found += [answer] if mine and answer else []
    return found
