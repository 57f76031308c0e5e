"""The contract of destinations, for each of them."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from pcapdaemon.core.errors import DeliveryFailed
from pcapdaemon.savefile.savefile import Savefile
from tests.contracts.destinations import CONTENT, HARNESSES, Harness, facts, savefile
from tests.contracts.sources import Shared
from tests.helpers import eventually

LARGE = CONTENT * 7
"""Too large for a single part in S3."""


@pytest.fixture(params=list(HARNESSES))
def harness(request: pytest.FixtureRequest, tmp_path: Path, shared: Shared) -> Harness:
    return HARNESSES[request.param](tmp_path, shared)


async def test_it_arrives_byte_for_byte_and_the_receipt_says_where(harness: Harness) -> None:
    receipt = await harness.destination.deliver(savefile(), facts(harness.name("a.pcap")))
    assert harness.contents(harness.name("a.pcap")) == [CONTENT]
    assert harness.name("a.pcap") in receipt.where or receipt.id in receipt.where
    assert not any(secret in f"{receipt.where} {receipt.id}" for secret in harness.secrets)


async def test_large_ones_too(harness: Harness) -> None:
    await harness.destination.deliver(savefile(LARGE), facts(harness.name("a.pcap")))
    assert harness.contents(harness.name("a.pcap")) == [LARGE]


async def test_from_the_disk_of_the_spool(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "spooled").write_bytes(LARGE)
    await harness.destination.deliver(
        Savefile.on_disk(tmp_path / "spooled"), facts(harness.name("a.pcap"))
    )
    assert harness.contents(harness.name("a.pcap")) == [LARGE]


async def test_the_same_savefile_again_is_still_one(harness: Harness) -> None:
    one = savefile()
    first = await harness.destination.deliver(one.reader(), facts(harness.name("a.pcap")))
    second = await harness.destination.deliver(
        one.reader(), facts(harness.name("a.pcap"), again=True)
    )
    assert harness.contents(harness.name("a.pcap")) == [CONTENT]
    assert first == second


async def test_many_at_a_time(harness: Harness) -> None:
    names = [harness.name(f"{number}.pcap") for number in range(8)]
    await asyncio.gather(*(harness.destination.deliver(savefile(), facts(name)) for name in names))
    assert [harness.contents(name) for name in names] == [[CONTENT]] * 8


async def test_check_finds_nothing_wrong_and_leaves_nothing_behind(harness: Harness) -> None:
    assert await harness.destination.check() == ""
    assert harness.leftovers() == 0


async def test_out_of_order_is_a_failure_for_now_in_words_without_secrets(harness: Harness) -> None:
    if not harness.server:
        return
    with harness.out_of_order() as destination:
        with pytest.raises(DeliveryFailed) as failure:
            await destination.deliver(savefile(), facts(harness.name("a.pcap")))
        problem = await destination.check()
    assert problem
    assert not any(
        secret in f"{failure.value} {problem} {destination.address}" for secret in harness.secrets
    )
    await harness.destination.deliver(savefile(), facts(harness.name("a.pcap"), again=True))
    assert harness.contents(harness.name("a.pcap")) == [CONTENT]


async def test_a_connection_that_breaks_in_the_middle_is_a_failure_for_now(
    harness: Harness,
) -> None:
    if not harness.server or harness.destination.name == "local":
        return
    destination, proxy = harness.behind_proxy()
    for _ in range(3):
        task = asyncio.create_task(
            destination.deliver(savefile(LARGE), facts(harness.name("a.pcap")))
        )
        await asyncio.sleep(0.03)
        proxy.cut()
        if not task.done():
            with contextlib.suppress(DeliveryFailed):
                await task
    proxy.close()
    await harness.destination.deliver(savefile(LARGE), facts(harness.name("a.pcap"), again=True))
    assert set(harness.contents(harness.name("a.pcap"))) == {LARGE}


async def test_whoever_waits_no_more_leaves_nothing_half_done(harness: Harness) -> None:
    one = savefile(LARGE)
    for pause in (0.0, 0.01, 0.05):
        reader = one.reader()
        task = asyncio.create_task(
            harness.destination.deliver(reader, facts(harness.name("a.pcap")))
        )
        await asyncio.sleep(pause)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, DeliveryFailed):
            await task
        reader.close()
    eventually(lambda: _open_now("task") < 40)
    await harness.destination.deliver(one, facts(harness.name("a.pcap"), again=True))
    assert harness.contents(harness.name("a.pcap")) == [LARGE]
    assert harness.leftovers() == (1 if harness.leftovers() else 0)


async def test_nothing_leaks(harness: Harness) -> None:
    await asyncio.gather(
        *(
            harness.destination.deliver(savefile(), facts(harness.name(f"{number}.pcap")))
            for number in range(4)
        )
    )
    before = _open_now("fd"), _open_now("task")
    for number in range(10):
        await harness.destination.deliver(
            savefile(), facts(harness.name(f"{number}.pcap"), again=True)
        )
    eventually(lambda: _open_now("fd") <= before[0] + 2 and _open_now("task") <= before[1] + 2)


def _open_now(what: str) -> int:
    """Return how many descriptors ("fd") or threads ("task") this process has."""
    return len(os.listdir(f"/proc/self/{what}"))
