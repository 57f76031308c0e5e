"""The contract of sources: the same behavior, for every source with its real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pcapdaemon.core.answers import Verdict
from pcapdaemon.sources.base import Source
from tests import listen
from tests.contracts.sources import HARNESSES, Harness, Shared

WITH_SERVER = [name for name, harness in HARNESSES.items() if harness.server]


class Ear(listen.Ear):
    """An `Ear` with the harness of its source."""

    def __init__(self, harness: Harness, source: Source | None = None) -> None:
        super().__init__(source or harness.source)
        self.harness = harness

    async def until_left(self, number: int, seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while await self.harness.left() != number:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def listening(harness: Harness) -> AsyncIterator[Ear]:
    ear = Ear(harness)
    yield ear
    await ear.end()
    await harness.close()


@pytest.fixture(params=HARNESSES)
async def ear(request: pytest.FixtureRequest, tmp_path: Path, shared: Shared) -> AsyncIterator[Ear]:
    async with listening(HARNESSES[request.param](tmp_path, shared)) as ear:
        yield ear


@pytest.fixture(params=WITH_SERVER)
async def server(
    request: pytest.FixtureRequest, tmp_path: Path, shared: Shared
) -> AsyncIterator[Ear]:
    """The sources whose server may stop."""
    async with listening(HARNESSES[request.param](tmp_path, shared)) as ear:
        yield ear


async def test_messages_come_whole_and_in_order(ear: Ear) -> None:
    await ear.until(ear.connections)
    sent = [b"message %d" % number for number in range(50)]
    for body in sent:
        await ear.harness.send(body)
    await ear.until(lambda: len(ear.bodies) == 50)
    assert ear.bodies == sent
    assert not ear.losses()


async def test_any_body_comes_as_it_is_and_the_next_one_after_it(ear: Ear) -> None:
    await ear.until(ear.connections)
    bodies = [
        ear.harness.fit(body)
        for body in (b"", b"\x00\xff garbage", b"[" * 50_000, b"x" * 10_000_000, b"next")
    ]
    for body in bodies:
        await ear.harness.send(body)
    await ear.until(lambda: len(ear.bodies) == len(bodies), 20)
    assert ear.bodies == bodies


async def test_ends_at_once_while_it_waits_for_a_message(ear: Ear) -> None:
    await ear.until(ear.connections)
    async with asyncio.timeout(10):
        await ear.end()


@pytest.mark.parametrize("verdict", [Verdict.TAKEN, Verdict.DONE, Verdict.BAD])
async def test_what_was_decided_does_not_come_again(server: Ear, verdict: Verdict) -> None:
    server.verdict = verdict
    await server.until(server.connections)
    await server.harness.send(b"one")
    await server.until(lambda: server.bodies == [b"one"])
    await server.until_left(0)


async def test_what_is_for_another_node_is_skipped_as_the_source_allows(server: Ear) -> None:
    server.verdict = Verdict.ELSEWHERE
    await server.until(server.connections)
    await server.harness.send(b"one")
    await server.until(lambda: server.bodies)
    if server.harness.others_may_have_it:
        await server.until(lambda: server.bodies == [b"one", b"one"])
        server.verdict = Verdict.DONE
    await server.until_left(0)


async def test_what_this_node_is_too_busy_for_comes_again_where_the_bus_can_do_that(
    server: Ear,
) -> None:
    server.verdict = Verdict.BUSY
    await server.until(server.connections)
    await server.harness.send(b"one")
    await server.until(lambda: server.bodies)
    assert server.messages[0].returnable == server.harness.returns
    server.verdict = Verdict.TAKEN
    if server.harness.returns:
        await server.until(lambda: server.bodies == [b"one", b"one"])
        assert server.messages[0].key == server.messages[1].key
    await server.until_left(0)


async def test_an_undecided_message_comes_again_after_a_restart_of_the_node_where_the_bus_keeps_it(
    server: Ear,
) -> None:
    server.verdict = None
    await server.until(server.connections)
    await server.harness.send(b"one")
    await server.until(lambda: server.bodies)
    if await server.harness.left() == 0:
        return  # the bus does not keep it: it was received once
    await server.end()
    again = Ear(server.harness, server.harness.same_node())
    await again.until(lambda: again.bodies == [b"one"])
    await again.end()


async def test_server_that_is_down_at_start_is_found_when_it_comes(server: Ear) -> None:
    await server.end()
    server.harness.stop()
    late = Ear(server.harness)
    await late.until(late.losses)
    await asyncio.to_thread(server.harness.start)
    await late.until(late.connections)
    await late.harness.send(b"hello")
    await late.until(lambda: late.bodies == [b"hello"])
    await late.end()


async def test_server_that_is_killed_is_found_again_after_its_return(server: Ear) -> None:
    await server.until(server.connections)
    await server.harness.send(b"before")
    await server.until(lambda: server.bodies == [b"before"])
    await server.until_left(0)
    await asyncio.to_thread(server.harness.stop)
    await server.until(server.losses)
    await asyncio.to_thread(server.harness.start)
    await server.until(lambda: server.connections() == 2)
    await server.harness.send(b"after")
    await server.until(lambda: server.bodies == [b"before", b"after"])


async def test_server_that_hangs_is_noticed_and_heard_when_it_goes_on(
    server: Ear,
) -> None:
    await server.until(server.connections)
    server.harness.freeze()
    try:
        await server.until(server.losses)
    finally:
        server.harness.thaw()
    await server.until(lambda: server.connections() == 2)
    await server.harness.send(b"after")
    await server.until(lambda: b"after" in server.bodies)


async def test_connection_cut_in_the_middle_of_a_message(server: Ear) -> None:
    await server.end()
    source, proxy = server.harness.behind_proxy()
    ear = Ear(server.harness, source)
    big = server.harness.fit(b"x" * 900_000)
    try:
        await ear.until(ear.connections)
        proxy.cut_after(200_000)
        await server.harness.send(big)
        await ear.until(lambda: proxy.cuts)
        # a bus that keeps messages redelivers them, so its source need not notice the cut
        if not server.harness.keeps:
            await ear.until(ear.losses)
            await ear.until(lambda: ear.connections() == 2)
        await server.harness.send(b"after")
        await ear.until(lambda: b"after" in ear.bodies)
        if server.harness.keeps:
            await ear.until(lambda: big in ear.bodies)
        assert {*ear.bodies} <= {big, b"after"}
    finally:
        await ear.end()
        proxy.close()


async def test_silent_servers_are_not_taken_for_dead_ones(tmp_path: Path, shared: Shared) -> None:
    harnesses = []
    for name in WITH_SERVER:
        (tmp_path / name).mkdir()
        harnesses.append(HARNESSES[name](tmp_path / name, shared))
    ears = [Ear(harness) for harness in harnesses]
    for ear in ears:
        await ear.until(ear.connections)
    await asyncio.sleep(8)  # longer than any timeout: nothing may happen
    assert [ear.losses() for ear in ears] == [[] for _ in ears]
    for ear in ears:
        await ear.end()
        await ear.harness.close()
