"""The contract of sources: one list of behaviours, run on every source with its real server."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pcapdaemon.errors import NotConnected
from pcapdaemon.events import Event, SourceConnected, SourceDisconnected
from pcapdaemon.sources.base import Message, pump
from pcapdaemon.sources.redis import RedisSettings, RedisSource
from tests.contracts.sources import HARNESSES, Harness
from tests.servers import RedisServer, free_port


class Ear:
    """Runs the pump of a source and notes what comes."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.bodies: list[bytes] = []
        self.events: list[Event] = []
        self.task = asyncio.create_task(pump(harness.source, self._take, self.events.append))

    def _take(self, message: Message) -> None:
        self.bodies.append(message.body)

    def connections(self) -> int:
        return sum(isinstance(event, SourceConnected) for event in self.events)

    def losses(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, SourceDisconnected)]

    async def until(self, fact: Callable[[], object], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not fact():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(harness: Harness) -> AsyncIterator[Ear]:
    ear = Ear(harness)
    yield ear
    ear.task.cancel()
    await asyncio.gather(ear.task, return_exceptions=True)
    await harness.close()


@pytest.fixture(params=list(HARNESSES))
async def ear(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ear]:
    async with listening(HARNESSES[request.param](tmp_path)) as ear:
        yield ear


@pytest.fixture(params=[name for name, harness in HARNESSES.items() if harness.server])
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ear]:
    """The sources that have a server which may go away."""
    async with listening(HARNESSES[request.param](tmp_path)) as ear:
        yield ear


async def test_messages_come_whole_and_in_order(ear: Ear) -> None:
    await ear.until(ear.connections)
    sent = [b"message %d" % number for number in range(50)]
    for body in sent:
        await ear.harness.send(body)
    await ear.until(lambda: len(ear.bodies) == 50)
    assert ear.bodies == sent
    assert not ear.losses()


@pytest.mark.parametrize(
    "body", [b"", b"\x00\xff garbage", b"[" * 50_000, b"x" * 10_000_000], ids=["empty", "bytes", "deep", "10MB"]
)
async def test_any_body_comes_as_it_is_and_the_next_one_after_it(ear: Ear, body: bytes) -> None:
    await ear.until(ear.connections)
    await ear.harness.send(body)
    await ear.harness.send(b"next")
    await ear.until(lambda: len(ear.bodies) == 2)
    assert ear.bodies == [body, b"next"]


async def test_ends_at_once_while_it_waits_for_a_message(ear: Ear) -> None:
    await ear.until(ear.connections)
    ear.task.cancel()
    async with asyncio.timeout(1):
        await asyncio.gather(ear.task, return_exceptions=True)


async def test_server_that_is_down_at_start_is_found_when_it_comes(tmp_path: Path, server: Ear) -> None:
    server.harness.stop()
    late = Ear(server.harness)
    server.task.cancel()
    await late.until(late.losses)
    await asyncio.to_thread(server.harness.start)
    await late.until(late.connections, 3)
    await late.harness.send(b"hello")
    await late.until(lambda: late.bodies)
    late.task.cancel()
    await asyncio.gather(late.task, return_exceptions=True)


async def test_server_that_is_killed_and_comes_back_is_heard_again_within_two_seconds(server: Ear) -> None:
    await server.until(server.connections)
    server.harness.stop()
    await server.until(server.losses)
    await asyncio.to_thread(server.harness.start)
    await server.until(lambda: server.connections() == 2, 2.5)
    await server.harness.send(b"after")
    await server.until(lambda: server.bodies == [b"after"])


async def test_server_that_hangs_is_noticed_within_ten_seconds_and_heard_when_it_goes_on(server: Ear) -> None:
    await server.until(server.connections)
    server.harness.freeze()
    try:
        await server.until(server.losses, 10)
    finally:
        server.harness.thaw()
    await server.until(lambda: server.connections() == 2, 10)
    await server.harness.send(b"after")
    await server.until(lambda: b"after" in server.bodies)


async def test_a_silent_server_is_not_taken_for_a_dead_one(server: Ear) -> None:
    await server.until(server.connections)
    await asyncio.sleep(8)  # longer than any patience: the fact awaited is that nothing happens
    assert not server.losses()


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis that wants a password, and has a user whose channels are limited."""
    server = RedisServer(tmp_path, "--requirepass", "right").start()
    with server.client(password="right") as client:
        client.execute_command("ACL", "SETUSER", "node", "on", ">pw", "resetchannels", "&capture", "-@all", "+@pubsub", "+ping")
    yield server
    server.kill()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "auth"),
        ({"auth": "wrong"}, "auth"),
        ({"username": "node", "auth": "pw", "channel": "secret"}, "ACL"),
        ({"tls": True, "auth": "right"}, "redis"),
    ],
)
async def test_redis_says_what_is_wrong_with_the_credentials_and_does_not_hammer(
    guarded: RedisServer, settings: dict[str, object], words: str
) -> None:
    values = {"listen": True, "host": "127.0.0.1", "port": guarded.port, **settings}
    source = RedisSource(RedisSettings.model_validate(values), "here")
    events: list[Event] = []
    task = asyncio.create_task(pump(source, lambda message: None, events.append))
    async with asyncio.timeout(10):
        while not events:
            await asyncio.sleep(0.01)
    await asyncio.sleep(2)  # as often as it would try in that time
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert events
    assert all(isinstance(event, SourceDisconnected) and words in event.reason for event in events)
    assert "right" not in repr(events)
    with guarded.client(password="right") as client:
        assert int(client.info("stats")["total_connections_received"]) < 15


@pytest.mark.parametrize("settings", [{"auth": "right", "channel": ["other", "capture"]}, {"username": "node", "auth": "pw"}])
async def test_redis_takes_passwords_users_and_several_channels(guarded: RedisServer, settings: dict[str, object]) -> None:
    values = {"listen": True, "host": "127.0.0.1", "port": guarded.port, **settings}
    source = RedisSource(RedisSettings.model_validate(values), "here")
    await source.connect()
    with guarded.client(password="right") as client:
        client.publish("capture", b"hello")
    assert (await source.receive()).body == b"hello"
    await source.close()


def certificates(directory: Path) -> None:
    """A certificate authority, and a server's certificate for 127.0.0.1 by it."""
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=ca -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=redis -keyout server.key -out server.csr",
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile names -out server.pem",
    ):
        (directory / "names").write_text("subjectAltName=IP:127.0.0.1")
        subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)


async def test_redis_over_tls_verifies_the_servers_certificate(tmp_path: Path) -> None:
    certificates(tmp_path)
    tls = ["--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem"]
    port = free_port()
    server = RedisServer(tmp_path, "--tls-port", str(port), "--tls-auth-clients", "no", *tls).start()
    settings = {"listen": True, "host": "127.0.0.1", "port": port, "tls": True}
    untrusted = RedisSource(RedisSettings.model_validate(settings), "here")
    with pytest.raises(NotConnected, match="certificate"):
        await untrusted.connect()
    await untrusted.close()
    source = RedisSource(RedisSettings.model_validate({**settings, "ca_file": str(tmp_path / "ca.pem")}), "here")
    await source.connect()
    with server.client() as client:
        client.publish("capture", b"hello")
    assert (await source.receive()).body == b"hello"
    await source.close()
    server.kill()
