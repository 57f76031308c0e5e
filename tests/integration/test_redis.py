"""What is specific to Redis: credentials, TLS, Sentinel, Cluster, pruning of streams."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pcapdaemon.core.answers import Verdict
from pcapdaemon.core.errors import NotConnected
from pcapdaemon.core.events import Event
from pcapdaemon.core.node_events import SourceDisconnected
from pcapdaemon.sources import redis_stream
from pcapdaemon.sources.base import Bus
from pcapdaemon.sources.pump import end, pump
from pcapdaemon.sources.redis import RedisSettings, RedisSource
from pcapdaemon.sources.redis_stream import RedisStreamSource, prune
from tests.helpers import certificates, eventually
from tests.listen import Ear, listening
from tests.servers import RedisServer, free_port


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis that requires a password, and has a user with limited channels."""
    server = RedisServer(tmp_path, "--requirepass", "right").start()
    with server.client(password="right") as client:
        client.execute_command(
            "ACL",
            "SETUSER",
            "node",
            "on",
            ">pw",
            "resetchannels",
            "&capture",
            "-@all",
            "+@pubsub",
            "+ping",
        )
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
    await asyncio.sleep(2)  # long enough for several attempts
    await end(task)
    assert events
    assert all(isinstance(event, SourceDisconnected) and words in event.reason for event in events)
    assert "right" not in repr(events)
    with guarded.client(password="right") as client:
        assert int(client.info("stats")["total_connections_received"]) < 15


@pytest.mark.parametrize(
    "settings",
    [{"auth": "right", "channel": ["other", "capture"]}, {"username": "node", "auth": "pw"}],
)
async def test_redis_takes_passwords_users_and_several_channels(
    guarded: RedisServer, settings: dict[str, object]
) -> None:
    values = {"listen": True, "host": "127.0.0.1", "port": guarded.port, **settings}
    source = RedisSource(RedisSettings.model_validate(values), "here")
    await source.connect()
    with guarded.client(password="right") as client:
        client.publish("capture", b"hello")
    assert (await source.receive()).body == b"hello"
    await source.close()


async def test_redis_over_tls_verifies_the_servers_certificate(tmp_path: Path) -> None:
    certificates(tmp_path)
    tls = [
        "--tls-cert-file",
        "server.pem",
        "--tls-key-file",
        "server.key",
        "--tls-ca-cert-file",
        "ca.pem",
    ]
    port = free_port()
    server = RedisServer(
        tmp_path, "--tls-port", str(port), "--tls-auth-clients", "no", *tls
    ).start()
    settings = {"listen": True, "host": "127.0.0.1", "port": port, "tls": True}
    untrusted = RedisSource(RedisSettings.model_validate(settings), "here")
    with pytest.raises(NotConnected, match="certificate"):
        await untrusted.connect()
    await untrusted.close()
    source = RedisSource(
        RedisSettings.model_validate({**settings, "ca_file": str(tmp_path / "ca.pem")}), "here"
    )
    await source.connect()
    with server.client() as client:
        client.publish("capture", b"hello")
    assert (await source.receive()).body == b"hello"
    await source.close()
    server.kill()


def source_of(url: str, kind: type[Bus] = RedisSource, node: str = "here", **more: Any) -> Any:
    settings = RedisSettings.model_validate(
        {"listen": True, "url": url, "stream": "requests", **more}
    )
    return kind(settings, node)


KINDS: list[type[Bus]] = [RedisSource, RedisStreamSource]


async def heard_through(source: Any) -> None:
    async with listening(source) as ear:
        await source.send(b"hello")
        await ear.until(lambda: ear.bodies == [b"hello"])


@pytest.mark.parametrize("kind", KINDS)
async def test_url_with_credentials(guarded: RedisServer, kind: type[Bus]) -> None:
    source = source_of(f"redis://default:right@127.0.0.1:{guarded.port}/0", kind)
    assert "right" not in source.address
    await heard_through(source)


@pytest.mark.parametrize(
    "url", ["http://x", "redis://", "redis+sentinel://a:1,b:2", "redis+cluster://a:x1"]
)
def test_urls_that_cannot_be_used_are_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="url") as refusal:
        RedisSettings.model_validate({"listen": True, "url": url})
    assert "+sentinel://a:1" not in str(refusal.value.errors()[0]["msg"])  # type: ignore[attr-defined]


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[tuple[str, RedisServer]]:
    """A master, a replica and three sentinels that watch them; yields the URL and the master."""
    made: list[RedisServer] = []

    def server(name: str, *options: str) -> RedisServer:
        (tmp_path / name).mkdir()
        made.append(RedisServer(tmp_path / name, *options).start())
        return made[-1]

    master = server("master")
    server("replica", "--replicaof", "127.0.0.1", str(master.port))
    for number in range(3):
        conf = tmp_path / f"sentinel{number}.conf"
        conf.write_text(
            f"sentinel monitor mine 127.0.0.1 {master.port} 2\n"
            "sentinel down-after-milliseconds mine 500\nsentinel failover-timeout mine 2000\n"
        )
        made.append(RedisServer(tmp_path, sentinel=conf).start())
    with made[2].client() as client:
        eventually(lambda: int(client.sentinel_master("mine")["num-slaves"]) == 1, 20)
        eventually(lambda: int(client.sentinel_master("mine")["num-other-sentinels"]) == 2, 20)
    yield f"redis+sentinel://{','.join(f'127.0.0.1:{one.port}' for one in made[2:])}/mine", master
    for one in made:
        one.kill()


@pytest.mark.parametrize("kind", KINDS)
async def test_sentinel_leads_to_the_new_master(
    sentinels: tuple[str, RedisServer], kind: type[Bus]
) -> None:
    url, master = sentinels
    source = source_of(url, kind)
    async with listening(source) as ear:
        await source.send(b"before")
        await ear.until(lambda: ear.bodies == [b"before"])
        master.kill()
        await ear.until(lambda: ear.connections() == 2, 30)

        async def send() -> None:
            try:
                await source.send(b"after")
            except NotConnected:
                return

        while b"after" not in ear.bodies:
            await send()
            await asyncio.sleep(0.2)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A cluster of three masters; yields its URL."""
    made = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        made.append(RedisServer(tmp_path / str(number), "--cluster-enabled", "yes").start())
    nodes = [f"127.0.0.1:{one.port}" for one in made]
    subprocess.run(
        ["redis-cli", "--cluster", "create", *nodes, "--cluster-yes"],
        check=True,
        capture_output=True,
    )
    with made[2].client() as client:
        eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok", 20)
    yield f"redis+cluster://{','.join(nodes)}"
    for one in made:
        one.kill()


@pytest.mark.parametrize("kind", KINDS)
async def test_cluster(cluster: str, kind: type[Bus]) -> None:
    await heard_through(source_of(cluster, kind))


async def test_requests_sent_during_a_restart_are_received_and_those_before_the_first_start_are_not(
    tmp_path: Path,
) -> None:
    server = RedisServer(tmp_path).start()
    url = f"redis://127.0.0.1:{server.port}"
    with server.client() as client:
        client.xadd("requests", {"request": b"before the first start"})
        async with listening(source_of(url, RedisStreamSource)) as ear:
            client.xadd("requests", {"request": b"one"})
            await ear.until(lambda: ear.bodies == [b"one"])
        client.xadd("requests", {"request": b"two"})
        async with listening(source_of(url, RedisStreamSource)) as ear:
            await ear.until(lambda: ear.bodies == [b"two"])
            assert ear.messages[0].sent_at
            client.xadd("requests", {"anything": b"a single field will do"})
            client.xadd("requests", {"node": b"here", "interface": b"eth0"})
            await ear.until(lambda: len(ear.bodies) == 3)
            assert ear.bodies[1:] == [
                b"a single field will do",
                b'{"node": "here", "interface": "eth0"}',
            ]
    server.kill()


async def test_stream_that_is_deleted_is_made_anew_and_what_is_in_it_is_heard(
    tmp_path: Path,
) -> None:
    server = RedisServer(tmp_path).start()
    with server.client() as client:
        async with listening(
            source_of(f"redis://127.0.0.1:{server.port}", RedisStreamSource)
        ) as ear:
            client.delete("requests")
            client.xadd("requests", {"request": b"in the new one"})
            await ear.until(lambda: ear.bodies == [b"in the new one"])
    server.kill()


@pytest.mark.parametrize("before", [0, 3])
async def test_a_group_that_vanishes_goes_on_after_the_last_known_entry(
    tmp_path: Path, before: int
) -> None:
    server = RedisServer(tmp_path).start()
    url = f"redis://127.0.0.1:{server.port}"
    with server.client() as client:
        client.xadd("requests", {"request": b"before the first start"})
        async with listening(source_of(url, RedisStreamSource)) as ear:
            for number in range(before):
                client.xadd("requests", {"request": b"%d" % number})
            await ear.until(lambda: len(ear.bodies) == before)
        async with listening(source_of(url, RedisStreamSource)) as ear:
            with client.pipeline() as pipe:  # at once, so that it can't read in between
                pipe.xgroup_destroy("requests", "pcapdaemon-here")
                pipe.xadd("requests", {"request": b"while there was no group"})
                pipe.execute()
            await ear.until(lambda: ear.connections() == 2)
            client.xadd("requests", {"request": b"after"})
            await ear.until(lambda: ear.bodies[-1:] == [b"after"])
            assert ear.bodies == [b"while there was no group", b"after"]
    server.kill()


async def test_another_stream_of_the_same_name_is_read_from_its_beginning(tmp_path: Path) -> None:
    server = RedisServer(tmp_path).start()
    with server.client() as client:
        async with listening(
            source_of(f"redis://127.0.0.1:{server.port}", RedisStreamSource)
        ) as ear:
            client.xadd("requests", {"request": b"old"})
            await ear.until(lambda: ear.bodies == [b"old"])
            with client.pipeline() as pipe:
                pipe.delete("requests")
                pipe.xadd("requests", {"request": b"of an earlier time"}, id="5-1")
                pipe.execute()
            await ear.until(lambda: ear.bodies == [b"old", b"of an earlier time"])
    server.kill()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_without_newer_commands(tmp_path: Path, kind: type[Bus]) -> None:
    """As Redis before 6.0 and most proxies: HELLO and CLIENT are unknown commands."""
    without = [word for name in ("HELLO", "CLIENT") for word in ("--rename-command", name, "")]
    server = RedisServer(tmp_path, *without).start()
    await heard_through(source_of(f"redis://127.0.0.1:{server.port}", kind))
    server.kill()


async def test_groups_of_nodes_that_are_gone_are_pruned_and_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_stream, "SIGN_OF_LIFE", 0.2)
    server = RedisServer(tmp_path).start()
    url = f"redis://127.0.0.1:{server.port}"
    gone = source_of(url, RedisStreamSource, node="gone")
    async with listening(gone) as ear:
        await gone.send(b"hello")
        await ear.until(lambda: ear.bodies)
    with server.client() as client:
        client.xgroup_create("requests", "somebody-elses", mkstream=True)
        async with listening(source_of(url, RedisStreamSource, node="alive")):
            await asyncio.sleep(1.6)  # the other node does not read in this time
            settings = RedisSettings.model_validate({"url": url, "stream": "requests"})
            would = await prune(settings, 1.5, dry_run=True)
            assert [name for name, _ in would] == ["pcapdaemon-gone"]
            assert await prune(settings, 1.5, dry_run=False)
        names = {group["name"] for group in client.xinfo_groups("requests")}
    assert names == {b"pcapdaemon-alive", b"somebody-elses"}
    server.kill()


async def test_an_entry_that_is_settled_while_another_is_acknowledged_comes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RedisServer(tmp_path).start()
    source = source_of(f"redis://127.0.0.1:{server.port}", RedisStreamSource)
    await source.connect()
    with server.client() as client:
        for number in range(2):
            client.xadd("requests", {"request": f'{{"id": "{number}"}}'})
        one, two = await source.receive(), await source.receive()
        xack = source.client.xack

        async def slow(*args: Any) -> Any:
            assert two.settle
            two.settle(Verdict.DONE)
            source._pending_from = b"0"  # as a reconnect or a BUSY does
            return await xack(*args)

        monkeypatch.setattr(source.client, "xack", slow)
        assert one.settle
        one.settle(Verdict.DONE)
        client.xadd("requests", {"request": '{"id": "last"}'})
        assert (await source.receive()).body == b'{"id": "last"}'
    await source.close()
    server.kill()


async def test_stream_under_a_key_of_another_kind_is_said(tmp_path: Path) -> None:
    server = RedisServer(tmp_path).start()
    with server.client() as client:
        client.set("requests", "a string")
    ear = Ear(source_of(f"redis://127.0.0.1:{server.port}", RedisStreamSource))
    await ear.until(ear.losses)
    assert "WRONGTYPE" in ear.losses()[0]
    await ear.end()
    server.kill()


async def test_two_daemons_of_one_name_share_a_stream_and_each_request_is_taken_once(
    tmp_path: Path,
) -> None:
    server = RedisServer(tmp_path).start()
    url = f"redis://127.0.0.1:{server.port}"
    async with (
        listening(source_of(url, RedisStreamSource)) as one,
        listening(source_of(url, RedisStreamSource)) as two,
    ):
        for number in range(40):
            await one.source.send(b"%d" % number)  # type: ignore[attr-defined]
        await one.until(lambda: len(one.bodies) + len(two.bodies) == 40)
        assert sorted(one.bodies + two.bodies) == sorted(b"%d" % number for number in range(40))
    server.kill()


async def test_the_documented_users_suffice(tmp_path: Path) -> None:
    server = RedisServer(tmp_path).start()
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "redis.md").read_text()
    lines = [line.split() for line in page.splitlines() if line.startswith("ACL SETUSER")]
    with server.client() as client:
        for line in lines:
            client.execute_command(*line)

    def user(name: str, **more: Any) -> dict[str, Any]:
        return {
            "listen": True,
            "host": "127.0.0.1",
            "port": server.port,
            "username": name,
            "auth": "PASSWORD",
            **more,
        }

    node = RedisSource(
        RedisSettings.model_validate(
            user("node", channel=["capture", "capture-fra1"], results="results")
        ),
        "a",
    )
    stream = RedisStreamSource(
        RedisSettings.model_validate(user("stream-node", stream="capture", results="results")), "b"
    )
    requester = RedisSource(RedisSettings.model_validate(user("requester", results="results")), "c")
    answers = RedisSource.of_answers(requester.settings, "c", "results")
    async with listening(answers) as heard, listening(node) as one, listening(stream) as two:
        await requester.send(b"hello")
        await RedisStreamSource(
            RedisSettings.model_validate(user("requester", stream="capture")), "c"
        ).send(b"hello")
        await one.until(lambda: one.bodies == two.bodies == [b"hello"])
        for bus in (node, stream):
            await bus.tell("results", b"done")
        await heard.until(lambda: heard.bodies == [b"done", b"done"])
        with server.client() as client:
            eventually(lambda: client.xinfo_groups("capture")[0]["pending"] == 0)
    assert await prune(
        RedisSettings.model_validate(user("pruner", stream="capture")), 0, dry_run=False
    )
    server.kill()
