"""Sends requests to daemons as another program would: over their HTTP APIs, or over a bus."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import httpx2

from pcapdaemon.cli.fleet import Fleet
from pcapdaemon.core.answers import Verdict
from pcapdaemon.core.cloudevents import decode
from pcapdaemon.core.errors import PcapdaemonError
from pcapdaemon.core.record import RequestState
from pcapdaemon.core.request import ResultKind, new_id
from pcapdaemon.sources.base import Bus
from pcapdaemon.sources.pump import close

POLL_EVERY = 0.25
SHOW_EVERY = 0.2


class Refused(PcapdaemonError):
    """The daemon said no; `problems` has a line for each reason."""

    def __init__(self, problems: list[str], hint: str = "") -> None:
        super().__init__("\n".join(problems), hint)
        self.problems = problems


class ApiClient:
    """Talks to one daemon's API.

    Every method raises Refused or PcapdaemonError in words for a person.
    """

    def __init__(self, url: str, token: str = "") -> None:
        if not token.isascii():
            raise PcapdaemonError("the token is not ASCII: no header can carry it")
        self.url = self._url = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(
            base_url=url, headers=headers, timeout=10, follow_redirects=False
        )

    def submit(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a request; what the daemon answers at once."""
        # whatever is odd about it, the daemon shall say so: httpx would refuse NaN itself
        return self._call(
            "POST",
            "/captures",
            content=json.dumps(message),
            headers={"Content-Type": "application/json"},
        )

    def follow(self, request_id: str) -> Iterator[dict[str, Any]]:
        """The request's record again and again, until it is over."""
        while True:
            record = self._call("GET", f"/captures/{quote(request_id, safe='')}")
            yield record
            if record["state"] != RequestState.RUNNING:
                return
            time.sleep(POLL_EVERY)

    def stop(self, request_id: str) -> None:
        """Have its captures ended and delivered."""
        self._call("DELETE", f"/captures/{quote(request_id, safe='')}")

    def recorders(self) -> list[dict[str, Any]]:
        """What its recorders do and have."""
        found: Any = self._call("GET", "/recorders")
        return list(found)

    def _call(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **more)
            body: dict[str, Any] = response.json()
        except httpx2.TransportError as error:
            raise PcapdaemonError(
                f"{self._url}: {error}", "is a daemon running there? 'pcapdaemon run' starts one"
            ) from None
        except ValueError:
            raise PcapdaemonError(
                f"{self._url}: status {response.status_code}, and not from pcapdaemon"
            ) from None
        if response.is_success:
            return body
        errors = [
            f"{e['field']}: {e['message']}".removeprefix(": ") for e in body.get("errors", [])
        ]
        fallback = (
            f"{body.get('title', '')}: {body.get('detail', '')} (status {response.status_code})"
        )
        raise Refused(errors or [fallback], body.get("hint", ""))


def api_of(values: Mapping[str, Any], url: str, token_file: Path | None) -> ApiClient:
    """The API that is named, or that of a configuration's `[http]`, or the default one."""
    http = values.get("http", {})
    host, port = http.get("host", "127.0.0.1"), http.get("port", 8723)
    file = token_file or (
        Path(os.path.expandvars(http["token_file"])) if "token_file" in http else None
    )
    return ApiClient(
        url or f"http://{f'[{host}]' if ':' in host else host}:{port}",
        file.read_text().strip() if file else "",
    )


Show = Callable[[Fleet], None]


def ask_each(apis: list[ApiClient], message: dict[str, Any], show: Show) -> Fleet:
    """Send a request to several daemons at once, and follow it on each until it is over.

    Ctrl-C ends it everywhere.
    """
    nodes, message = Fleet(), {**message, "id": message.get("id") or new_id()}
    threads = [
        threading.Thread(target=_follow, args=(api, message, nodes), daemon=True) for api in apis
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        show(nodes)
        try:
            time.sleep(SHOW_EVERY)
        except KeyboardInterrupt:
            for api in apis:
                with contextlib.suppress(PcapdaemonError):
                    api.stop(message["id"])
    show(nodes)
    return nodes


def _follow(api: ApiClient, message: dict[str, Any], nodes: Fleet) -> None:
    try:
        found = api.submit(message)
        if found["state"] != RequestState.RUNNING:
            nodes.records[api.url] = {"captures": [], "node": api.url, **found}
            return
        for record in api.follow(found["id"]):
            nodes.records[api.url] = record
    except Refused as error:
        nodes.records[api.url] = {
            "node": api.url,
            "state": RequestState.REJECTED,
            "problems": error.problems,
            "captures": [],
        }
    except PcapdaemonError as error:
        nodes.records[api.url] = {
            "node": api.url,
            "state": RequestState.UNREACHABLE,
            "problems": [str(error)],
            "captures": [],
        }


async def ask(
    bus: Bus, message: dict[str, Any], wait: float, show: Show
) -> tuple[Fleet | None, int | None]:
    """Send a message over a bus.

    Follow it on all nodes that answer within `wait` seconds until it is over on each.

    A node that is named is waited for no longer than it takes. The nodes are None where no result
    can come: nobody waits, or the bus has no place for them. The number is how many heard the
    message, where the bus knows. Ctrl-C ends the request. Raises NotConnected.
    """
    message = {**message, "id": message.get("id") or new_id()}
    place = message.get("reply_to") or next(iter(bus.places), None)
    listener = bus.of_answers(bus.settings, bus.node, place) if wait and place else None
    if listener and not {"cancel", "list", "reply_events"} & message.keys():
        message["reply_events"] = list(get_args(ResultKind))
    try:
        if listener:
            await listener.connect()
        heard = await bus.send(json.dumps(message).encode())
        return (await _results(bus, listener, message, wait, show) if listener else None), heard
    finally:
        for one in (listener, bus):
            if one:
                await close(one)


async def _results(
    bus: Bus, listener: Bus, message: dict[str, Any], wait: float, show: Show
) -> Fleet:
    nodes, begun = Fleet(), time.monotonic()
    one_node = message.get("node", "any") != "any"
    with _interrupted() as interrupted:
        while not (
            nodes.over and (time.monotonic() - begun > wait or (one_node and nodes.records))
        ):
            await _receive(listener, message["id"], nodes)
            nodes.look(time.monotonic())
            show(nodes)
            if interrupted.is_set():
                interrupted.clear()
                await bus.send(json.dumps({"cancel": message["id"]}).encode())
    return nodes


async def _receive(listener: Bus, request_id: str, nodes: Fleet) -> None:
    try:
        async with asyncio.timeout(SHOW_EVERY):
            heard = await listener.receive()
    except TimeoutError:
        return
    result = decode(heard.body)
    mine = result is not None and result[1]["id"] == request_id
    if heard.settle:  # a queue of results may be shared with other requesters
        heard.settle(Verdict.DONE if mine else Verdict.ELSEWHERE)
    if result and mine:
        nodes.on_result(*result, time.monotonic())


@contextlib.contextmanager
def _interrupted() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C sets; the second one ends the program."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def first() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        event.set()

    loop.add_signal_handler(signal.SIGINT, first)
    try:
        yield event
    finally:
        loop.remove_signal_handler(signal.SIGINT)
