"""Sends requests to daemons like any other program: over their HTTP APIs or over a bus."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar, get_args
from urllib.parse import quote, urlsplit

import httpx2

from pcapdaemon.cli import address
from pcapdaemon.cli.holder import local_addresses, refuse_strangers
from pcapdaemon.core.answers import Verdict
from pcapdaemon.core.cloudevents import decode
from pcapdaemon.core.errors import PcapdaemonError
from pcapdaemon.core.fields import ResultKind
from pcapdaemon.core.record import RequestState
from pcapdaemon.core.request import new_id
from pcapdaemon.fleet import reading
from pcapdaemon.fleet.followed import Followed
from pcapdaemon.sources.base import Bus
from pcapdaemon.sources.pump import close

T = TypeVar("T")

POLL_EVERY = 0.25
"""Seconds between two requests for a record."""

SHOW_EVERY = 0.2
"""Seconds between two updates of the progress."""


class Refused(PcapdaemonError):
    """The daemon rejected a request; `problems` has one line per reason."""

    def __init__(self, problems: list[str], hint: str = "") -> None:
        super().__init__("\n".join(problems), hint)
        self.problems = problems


class NotAllowed(Refused):
    """The daemon allows neither this user nor the token to do that."""


class ApiClient:
    """A client of one daemon's API.

    All methods block. They raise Refused or another PcapdaemonError, with a message for people. The
    token in `token_file` is only sent if no stranger listens at `url`. `socket` is the path of a
    Unix socket of this host. The certificates in the file `trusted` are trusted too.
    """

    def __init__(
        self, url: str, token_file: Path | None = None, socket: str = "", trusted: str = ""
    ) -> None:
        self.url = self._url = address.checked(url)
        self._token_file = token_file
        token = address.token_in(token_file) if token_file else ""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        direct = bool(local_addresses(urlsplit(url).hostname or ""))  # through no proxy
        transport = httpx2.HTTPTransport(uds=socket) if socket else None
        if socket:
            self._url, self._token_file = f"unix:{socket}", None
        self._http = httpx2.Client(
            base_url=url,
            headers=headers,
            timeout=10,
            follow_redirects=False,
            trust_env=not direct,
            transport=transport,
            verify=_trusting(trusted),
        )

    def submit(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a request, and return the immediate answer of the daemon."""
        # not `json=`: httpx rejects NaN itself, but the daemon must report all problems
        return self._call(
            reading.answer,
            "POST",
            "/captures",
            content=json.dumps(message),
            headers={"Content-Type": "application/json"},
        )

    def follow(self, request_id: str) -> Iterator[dict[str, Any]]:
        """Yield the record of a request repeatedly until it is finished."""
        while True:
            record = self.record(request_id)
            yield record
            if record["state"] != RequestState.RUNNING:
                return
            time.sleep(POLL_EVERY)

    def stop(self, request_id: str) -> None:
        """Have the captures of a request ended and delivered."""
        self._call(reading.record, "DELETE", f"/captures/{_quoted(request_id)}")

    def recorders(self) -> list[dict[str, Any]]:
        """Return the state of the daemon's recorders."""
        return self._call(reading.recorders, "GET", "/recorders")

    def record(self, request_id: str) -> dict[str, Any]:
        """Return the record of a request."""
        return self._call(reading.record, "GET", f"/captures/{_quoted(request_id)}")

    def records(self, search: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the records that are looked for, newest first."""
        return self._call(reading.all_records, "GET", "/captures", params=dict(search))

    def about(self) -> dict[str, Any]:
        """Return what the node is, and its limits."""
        return self._call(reading.node, "GET", "/about")

    def interfaces(self) -> list[dict[str, Any]]:
        """Return the interfaces of the node."""
        return self._call(reading.interfaces, "GET", "/interfaces")

    def check_filter(self, expression: str, interface: str) -> dict[str, Any]:
        """Return whether a capture filter is valid on an interface of the node, or why not."""
        body = {"bpf": expression, "interface": interface}
        return self._call(reading.checked, "POST", "/filters", json=body)

    def summary(self, request_id: str, name: str) -> dict[str, Any]:
        """Return what is in a savefile."""
        return self._call(reading.summary, "GET", f"{_path_of(request_id, name)}/summary")

    def packets(self, request_id: str, name: str, first: int, limit: int) -> list[dict[str, Any]]:
        """Return packets of a savefile in words, `limit` from number `first` on."""
        path = f"{_path_of(request_id, name)}/packets"
        return self._call(reading.packets, "GET", path, params={"first": first, "limit": limit})

    def stream(self, message: dict[str, Any], to: IO[bytes]) -> None:
        """Write the packets of a capture to an open file as they come, as a pcap file."""
        self._get_all(to, "POST", "/stream", json=message, timeout=None)

    def alert(self, name: str, body: bytes) -> list[dict[str, Any]]:
        """Pass a message with alerts to a trigger, and return what became of each."""
        kind = {"Content-Type": "application/octet-stream"}
        path = f"/triggers/{_quoted(name)}"
        return self._call(reading.alerts, "POST", path, content=body, headers=kind)

    def fetch(self, request_id: str, name: str, to: IO[bytes]) -> None:
        """Write a savefile of a request to an open file."""
        self._get_all(to, "GET", _path_of(request_id, name))

    def _get_all(self, to: IO[bytes], method: str, path: str, **more: Any) -> None:
        self._guard()
        try:
            with self._http.stream(method, path, **more) as response:
                if response.is_success:
                    for part in response.iter_bytes():
                        to.write(part)
                    return
                refusal = reading.refusal(json.loads(response.read()))
        except (httpx2.TransportError, ValueError) as error:
            raise PcapdaemonError(f"{self._url}{path}: {error}") from None
        raise Refused([f"{refusal.title}: {refusal.detail}"])

    def _guard(self) -> None:
        if self._token_file:
            refuse_strangers(self._url, self._token_file)

    def _call(self, read: Callable[[Any], T], method: str, path: str, **more: Any) -> T:
        self._guard()
        try:
            response = self._http.request(method, path, **more)
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            tls = any(isinstance(one, ssl.SSLError) for one in _causes(error))
            hint = "check whether the port speaks TLS: https:// or http://"
            usual = "check that a daemon runs there, or start one with 'pcapdaemon run'"
            raise PcapdaemonError(f"{self._url}: {error}", hint if tls else usual) from None
        try:
            body: Any = response.json()
            if response.is_success:
                return read(body)
            refusal = reading.refusal(body)
        except (ValueError, RecursionError):
            raise PcapdaemonError(
                f"{self._url}: status {response.status_code}, and the answer is not from"
                " pcapdaemon",
                "check the port: another program may listen there",
            ) from None
        words = f"{refusal.title}: {refusal.detail} (status {response.status_code})"
        kind = NotAllowed if response.status_code in (401, 403) else Refused
        hint = self._about_token() if response.status_code == httpx2.codes.UNAUTHORIZED else ""
        raise kind(refusal.problems or [words], refusal.hint or hint)

    def _about_token(self) -> str:
        if self._token_file:
            return (
                f"{self._token_file} has another token than the daemon, or the signature is wrong"
            )
        return "pass the file with the token by --token-file, or by [http] token_file in --config"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _trusting(file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if file:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as error:
            raise PcapdaemonError(f"{file}: {error.strerror or error}") from None
    return context


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def _path_of(request_id: str, name: str) -> str:
    return f"/captures/{_quoted(request_id)}/files/{_quoted(name)}"


def api_of(values: Mapping[str, Any], url: str, token_file: Path | None) -> ApiClient:
    """Return a client of the API at `url` or, if that is empty, at the configuration's `[http]`.

    The default is http://127.0.0.1:8723. Raises ConfigError.
    """
    http = address.of_section(values)
    file = token_file or (Path(http.token_file) if http.token_file else None)
    socket = "" if url or token_file else http.socket or ""
    if socket and os.access(socket, os.W_OK):  # the kernel vouches for this user there
        return ApiClient("http://localhost", None, socket)
    return ApiClient(url or http.url, file, trusted="" if url else http.certificate_file or "")


Show = Callable[[Followed], None]
"""Shows the records of nodes."""

Seal = Callable[[dict[str, Any]], dict[str, Any]]
"""Signs a message, if the sender signs."""


def as_it_is(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message unsigned."""
    return message


def ask_each(
    apis: list[ApiClient], message: dict[str, Any], show: Show, seal: Seal = as_it_is
) -> Followed:
    """Send a request to several daemons in parallel, and follow it on each until it is finished.

    Blocks. Ctrl-C ends the request everywhere.
    """
    nodes, message = Followed(), seal({**message, "id": message.get("id") or new_id()})
    threads = [
        threading.Thread(target=_follow, args=(api, message, nodes), daemon=True) for api in apis
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        try:
            show(nodes)
            time.sleep(SHOW_EVERY)
        except KeyboardInterrupt:
            for api in apis:
                with contextlib.suppress(PcapdaemonError):
                    api.stop(message["id"])
    show(nodes)
    return nodes


def _follow(api: ApiClient, message: dict[str, Any], nodes: Followed) -> None:
    try:
        found = api.submit(message)
        if found["state"] != RequestState.RUNNING:
            nodes.records[api.url] = reading.record({**found, "node": api.url})
            return
        try:
            for record in api.follow(found["id"]):
                nodes.records[api.url] = record
        except NotAllowed:  # a signature allows the request, but not to follow it
            nodes.records[api.url] = reading.record({**found, "node": api.url})
    except Refused as error:
        nodes.failed(api.url, RequestState.REJECTED, error.problems)
    except PcapdaemonError as error:
        nodes.failed(api.url, RequestState.UNREACHABLE, [str(error)])


async def ask(
    bus: Bus,
    message: dict[str, Any],
    wait: float,
    show: Show,
    seal: Seal = as_it_is,
    opened: Callable[[bytes], bytes | None] = bytes,
) -> tuple[Followed | None, int | None]:
    """Send a message over a bus, and follow it on all nodes that answer within `wait` seconds.

    Returns when it is finished on each. If the message names a node, it only waits for that one.

    Returns the nodes, or None if no result can arrive, because `wait` is 0 or the bus has no place
    for results. Also returns the number of receivers, if the bus knows it. Only results that
    `opened` takes count. Ctrl-C ends the request. Raises NotConnected.
    """
    message = {**message, "id": message.get("id") or new_id()}
    place = message.get("reply_to") or next(iter(bus.places), None)
    listener = bus.of_answers(bus.settings, bus.node, place) if wait and place else None
    if listener and not {"cancel", "list", "reply_events"} & message.keys():
        message["reply_events"] = list(get_args(ResultKind))
    try:
        if listener:
            await listener.connect()
        receivers = await bus.send(json.dumps(seal(message)).encode())
        found = (
            await _results(bus, listener, message, wait, show, seal, opened) if listener else None
        )
        return found, receivers
    finally:
        for one in (listener, bus):
            if one:
                await close(one)


async def _results(
    bus: Bus,
    listener: Bus,
    message: dict[str, Any],
    wait: float,
    show: Show,
    seal: Seal,
    opened: Callable[[bytes], bytes | None],
) -> Followed:
    nodes, begun = Followed(), time.monotonic()
    one_node = message.get("node", "any") != "any"
    with _interrupted() as interrupted:
        while not (
            nodes.over and (time.monotonic() - begun > wait or (one_node and nodes.records))
        ):
            await _receive(listener, message["id"], nodes, opened)
            nodes.look(time.monotonic())
            show(nodes)
            if interrupted.is_set():
                interrupted.clear()
                await bus.send(json.dumps(seal({"cancel": message["id"]})).encode())
    return nodes


async def _receive(
    listener: Bus,
    request_id: str,
    nodes: Followed,
    opened: Callable[[bytes], bytes | None],
) -> None:
    try:
        async with asyncio.timeout(SHOW_EVERY):
            message = await listener.receive()
    except TimeoutError:
        return
    body = opened(message.body)
    result = decode(body) if body is not None else None
    # a node calls it ID@REQUESTER if somebody else has the id there
    names = (request_id, f"{request_id}@")
    mine = result is not None and (
        result[1]["id"] == names[0] or str(result[1]["id"]).startswith(names[1])
    )
    if message.settle:  # other requesters may share a queue of results
        message.settle(Verdict.DONE if mine else Verdict.ELSEWHERE)
    if result and mine:
        nodes.on_result(*result, time.monotonic())


@contextlib.contextmanager
def _interrupted() -> Iterator[asyncio.Event]:
    """Yield an event that Ctrl-C sets; a second Ctrl-C ends the program."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    signals = (signal.SIGINT, signal.SIGTERM)

    def first() -> None:
        for one in signals:
            loop.remove_signal_handler(one)
        event.set()

    for one in signals:
        loop.add_signal_handler(one, first)
    try:
        yield event
    finally:
        for one in signals:
            loop.remove_signal_handler(one)
