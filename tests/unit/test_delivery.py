"""Delivery to all destinations, from memory and from the spool, without pauses between attempts."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import stamina

from pcapdaemon.core.errors import ConfigError, DeliveryFailed, DeliveryRefused
from pcapdaemon.core.events import (
    CaptureStopped,
    DeliveryDelayed,
    Event,
    SavefileDelivered,
    SavefileLost,
    SavefileNotSpooled,
    SavefileSpooled,
)
from pcapdaemon.core.limits import CaptureLimits, StopReason
from pcapdaemon.core.node_events import SavefileLeftSpool, SavefileResumed, SpoolFileRefused
from pcapdaemon.core.outcome import Outcome, Receipt
from pcapdaemon.core.request import validate
from pcapdaemon.delivery import delivery as module
from pcapdaemon.delivery import spooling
from pcapdaemon.delivery.delivery import Delivery
from pcapdaemon.delivery.parcel import Parcel, began_to_wait
from pcapdaemon.delivery.settings import DeliverySettings
from pcapdaemon.delivery.spool import Spool, SpoolSettings
from pcapdaemon.delivery.spooling import Spooling
from pcapdaemon.destinations.base import SavefileInfo
from pcapdaemon.destinations.memory import MemoryDestination
from pcapdaemon.savefile.savefile import Savefile
from pcapdaemon.uptime import uptime
from tests.helpers import savefile_of

CONTENT = b"packets" * 1000


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(spooling, "LOOK_EVERY", 0.01)
    with stamina.set_testing(True, attempts=1_000_000):
        yield


class Hanging(MemoryDestination):
    """A destination that never responds."""

    async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
        await asyncio.Event().wait()
        raise AssertionError


class Down(MemoryDestination):
    """A destination that fails until the test sets `up`."""

    up = False

    async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
        await asyncio.sleep(0.002)
        if not self.up:
            raise DeliveryFailed("down", retry_after=0.01)
        return await super().deliver(savefile, info)


def parcel(name: str = "x.pcap", content: bytes = CONTENT) -> Parcel:
    info = SavefileInfo(
        "ID",
        "lo",
        name,
        "node:a",
        validate({"node": "any", "interface": ["lo"], "customer": "acme"})[0],
    )
    outcome = Outcome(
        3,
        len(content),
        3,
        stop_reason=StopReason.PACKETS,
        seconds=1.0,
        trigger=1.0,
        first_packet_at=1.0,
        last_packet_at=2.0,
    )
    stopped = CaptureStopped("ID", "lo", name, outcome)
    return Parcel(
        info,
        stopped,
        CaptureLimits(3, 99, 1.0, 1.0),
        ("ID", "JOINED"),
        "redis",
        5.0,
        savefile_of(content),
    )


class Desk:
    """A delivery and its events."""

    def __init__(
        self, *destinations: MemoryDestination, spool: Path | None = None, **more: Any
    ) -> None:
        self.events: list[Event] = []
        self.pressed = False
        settings = DeliverySettings(
            **{"deadline": 60, "memory_grace": 30, **more.pop("delivery", {})}
        )
        self.spool = Spool(SpoolSettings(dir=str(spool), **more)) if spool else None
        named = {str(number): destination for number, destination in enumerate(destinations)}
        spooled = Spooling(self.spool, self.events.append) if self.spool else None
        self.settings = settings
        self.delivery = Delivery(named, self.events.append, settings, spooled, lambda: self.pressed)

    async def begin(self) -> "Desk":
        await self.delivery.resume(self.spool.load() if self.spool else [])
        return self

    async def deliver(self, one: Parcel) -> Parcel:
        await self.delivery.take(one)
        await self.delivery.deliver(one)
        return one

    def reported(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, fact: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not fact():
                await asyncio.sleep(0.002)

    async def close(self) -> None:
        await self.delivery.close()
        if self.spool:
            self.spool.close()


def files(directory: Path) -> list[str]:
    return sorted(
        path.suffix for path in directory.iterdir() if path.name not in (".lock", "quarantine")
    )


async def test_every_destination_gets_it() -> None:
    one, other = MemoryDestination(), MemoryDestination()
    desk = Desk(one, other)
    sent = await desk.deliver(parcel())
    assert one.savefiles == other.savefiles == {"x.pcap": CONTENT}
    assert [type(event) for event in desk.events] == [
        CaptureStopped,
        SavefileDelivered,
        SavefileDelivered,
    ]
    assert sent.savefile.closed


@pytest.mark.parametrize("digest", ["", hashlib.sha256(CONTENT).hexdigest()])
async def test_the_end_of_a_capture_is_told_with_its_digest_and_who_is_to_get_it(
    digest: str,
) -> None:
    desk, one = Desk(MemoryDestination(), MemoryDestination()), parcel()
    one.seal(digest)
    await desk.deliver(one)
    (stopped,) = desk.reported(CaptureStopped)
    assert stopped.pending == ("0", "1")
    assert stopped.sha256 == digest


async def test_what_fails_for_now_is_tried_again_and_told() -> None:
    destination = MemoryDestination()
    destination.errors = [DeliveryFailed("disk full"), DeliveryFailed("still full")]
    desk = Desk(destination)
    await desk.deliver(parcel())
    assert [type(event) for event in desk.events[1:]] == [
        DeliveryDelayed,
        DeliveryDelayed,
        SavefileDelivered,
    ]
    assert destination.savefiles == {"x.pcap": CONTENT}


async def test_a_second_try_says_that_the_first_may_have_succeeded() -> None:
    seen: list[bool] = []

    class Curious(MemoryDestination):
        async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
            seen.append(info.again)
            return await super().deliver(savefile, info)

    destination = Curious()
    destination.errors = [DeliveryFailed("reset")]
    await Desk(destination).deliver(parcel())
    assert seen == [False, True]


async def test_without_a_spool_what_is_refused_is_lost_and_told_with_what_was_lost() -> None:
    destination, good = MemoryDestination(), MemoryDestination()
    destination.errors = [DeliveryRefused("no such bucket", "see [s3] bucket")]
    desk = Desk(destination, good)
    await desk.deliver(parcel())
    (lost,) = desk.reported(SavefileLost)
    assert (lost.file_name, lost.packets, lost.reason) == (
        "x.pcap",
        3,
        "no such bucket (see [s3] bucket)",
    )
    assert good.savefiles
    assert not destination.savefiles


async def test_a_defect_of_a_destination_is_told_as_a_loss_too() -> None:
    destination, good = MemoryDestination(), MemoryDestination()
    destination.errors = [RuntimeError("unforeseen")]
    desk = Desk(destination, good)
    await desk.deliver(parcel())
    assert len(desk.reported(SavefileLost)) == len(desk.reported(SavefileDelivered)) == 1


@pytest.mark.parametrize("cls", [Hanging, Down])
async def test_without_a_spool_it_is_given_up_at_the_deadline(
    cls: type[MemoryDestination], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(cls(), MemoryDestination(), delivery={"deadline": 1})
    real, clock = time.monotonic, {"offset": 0.0}
    monkeypatch.setattr(
        "pcapdaemon.delivery.delivery.time.monotonic", lambda: real() + clock["offset"]
    )
    task = asyncio.create_task(desk.deliver(parcel()))
    await desk.until(lambda: desk.reported(SavefileDelivered))
    assert not task.done()
    clock["offset"] = 2
    sent = await task
    (lost,) = desk.reported(SavefileLost)
    assert "not delivered within 1 s" in lost.reason
    assert sent.savefile.closed


async def test_a_slow_destination_holds_up_no_other_and_not_the_next_capture() -> None:
    good = MemoryDestination()
    desk = Desk(Hanging(), good)
    tasks = [asyncio.create_task(desk.deliver(parcel(f"{number}.pcap"))) for number in range(10)]
    await desk.until(lambda: len(good.savefiles) == 10)
    await desk.close()
    await asyncio.gather(*tasks)


async def test_only_so_many_at_a_time_to_one_destination() -> None:
    most = [0, 0]

    class Counting(MemoryDestination):
        async def deliver(self, savefile: Savefile, info: SavefileInfo) -> Receipt:
            most[0] += 1
            most[1] = max(most)
            await asyncio.sleep(0.002)
            most[0] -= 1
            return Receipt("x")

    desk = Desk(Counting(), delivery={"concurrent": 3})
    await asyncio.gather(*(desk.deliver(parcel(str(number))) for number in range(12)))
    assert most[1] == 3


async def test_ended_in_the_middle_without_a_spool_it_is_told_as_lost() -> None:
    desk = Desk(Hanging())
    task = asyncio.create_task(desk.deliver(parcel()))
    await desk.until(lambda: desk.reported(CaptureStopped))
    await asyncio.sleep(0.01)
    await desk.close()
    await task
    assert "stopped" in desk.reported(SavefileLost)[0].reason


async def test_in_the_spool_before_its_end_is_told_and_gone_when_it_is_delivered(
    tmp_path: Path,
) -> None:
    desk = await Desk(MemoryDestination(), spool=tmp_path).begin()
    one = parcel()
    await desk.delivery.take(one)
    assert files(tmp_path) == [".json", ".savefile"]
    await desk.delivery.deliver(one)
    await desk.until(lambda: files(tmp_path) == [])
    await desk.close()


async def test_lazy_spool_is_not_touched_while_all_goes_well(tmp_path: Path) -> None:
    desk = await Desk(MemoryDestination(), spool=tmp_path, eager=False).begin()
    one = parcel()
    await desk.delivery.take(one)
    await desk.until(lambda: files(tmp_path) == [])
    await desk.delivery.deliver(one)
    await desk.close()


@pytest.mark.parametrize("eager", [True, False])
async def test_a_failing_destination_moves_it_to_the_spool_and_gets_it_later(
    tmp_path: Path, eager: bool
) -> None:
    down, good = Down(), MemoryDestination()
    desk = await Desk(down, good, spool=tmp_path, eager=eager, delivery={"memory_grace": 1}).begin()
    task = asyncio.create_task(desk.deliver(one := parcel()))
    await desk.until(lambda: good.savefiles and desk.reported(DeliveryDelayed))
    assert one.savefile.in_memory
    sent = await task
    assert not sent.savefile.in_memory
    (spooled,) = desk.reported(SavefileSpooled)
    assert (spooled.pending, "down" in spooled.reason) == (("0",), True)
    down.up = True
    desk.delivery.retry()
    await desk.until(lambda: down.savefiles == {"x.pcap": CONTENT})
    await desk.until(
        lambda: [event.ids for event in desk.reported(SavefileLeftSpool)] == [("ID", "JOINED")]
    )
    await desk.until(lambda: files(tmp_path) == [])
    await desk.close()


async def test_memory_that_is_short_moves_even_what_is_under_way(tmp_path: Path) -> None:
    hanging = Hanging()
    desk = await Desk(hanging, spool=tmp_path).begin()
    desk.pressed = True
    sent = await desk.deliver(parcel())
    assert not sent.savefile.in_memory
    assert desk.reported(SavefileSpooled)
    await desk.close()


async def test_what_is_refused_is_kept_and_tried_again_when_asked(tmp_path: Path) -> None:
    destination = MemoryDestination()
    destination.errors = [DeliveryRefused("wrong key")]
    desk = await Desk(destination, spool=tmp_path).begin()
    await desk.deliver(parcel())
    assert "wrong key" in desk.reported(SavefileSpooled)[0].reason
    watching = asyncio.create_task(desk.delivery.keep_watch())
    assert desk.spool
    desk.spool.order("retry", next(iter(desk.spool.stored)))
    await desk.until(lambda: destination.savefiles)
    await desk.until(lambda: files(tmp_path) == [])
    watching.cancel()
    await desk.close()


async def test_what_an_earlier_process_left_is_taken_up_with_all_that_is_known_of_it(
    tmp_path: Path,
) -> None:
    good = MemoryDestination()
    first = await Desk(Down(), good, spool=tmp_path).begin()
    task = asyncio.create_task(first.deliver(parcel()))
    await first.until(lambda: good.savefiles and first.reported(DeliveryDelayed))
    await first.close()
    await task
    assert first.reported(SavefileSpooled)
    await first.until(lambda: files(tmp_path) == [".json", ".savefile"])
    again = MemoryDestination()
    second = await Desk(again, good, spool=tmp_path).begin()
    (taken,) = second.reported(SavefileResumed)
    assert (taken.ids, taken.source, taken.received_at, taken.request.customer) == (
        ("ID", "JOINED"),
        "redis",
        5.0,
        "acme",
    )
    assert taken.delivered == (("1", Receipt("memory:x.pcap")),)
    await second.until(lambda: again.savefiles == {"x.pcap": CONTENT})
    await second.until(lambda: files(tmp_path) == [])
    assert len(second.reported(SavefileDelivered)) == 1
    await second.close()


async def test_a_destination_that_is_switched_off_is_waited_for(tmp_path: Path) -> None:
    first = await Desk(Down(), spool=tmp_path).begin()
    task = asyncio.create_task(first.deliver(parcel()))
    await first.until(lambda: first.reported(DeliveryDelayed))
    await first.close()
    await task
    second = await Desk(spool=tmp_path).begin()
    await second.until(lambda: second.reported(DeliveryDelayed))
    assert "no longer turned on" in second.reported(DeliveryDelayed)[0].reason
    second.delivery.configure({"0": (back := MemoryDestination())}, second.settings)
    await second.until(lambda: back.savefiles)
    await second.close()


IN_MANIFESTS = {
    "manifest": ('"stopped"', '"other"'),
    "since": ('"since": ', '"since": "then", "x": '),
    "uptime": ('"uptime": ', '"uptime": "then", "x": '),
    "path": ('"file_name": "x.pcap"', '"file_name": "../../x.pcap"'),
    "delivered": ('"delivered": ', '"delivered": [], "x": '),
    "infinite": ('"bytes": ', '"bytes": 1e999, "x": '),
    "huge": ('"since": ', f'"since": {"9" * 400}, "x": '),
    "nested": ('"limits": ', f'"limits": {"[" * 450}{"]" * 450}, "x": '),
    "deeply nested": ('"limits": ', f'"limits": {"[" * 100_000}{"]" * 100_000}, "x": '),
}


@pytest.mark.parametrize(
    "damage",
    [
        "torn",
        "changed",
        "no manifest",
        "no savefile",
        "hidden",
        "list",
        *IN_MANIFESTS,
        "pipe",
        "manifest is a pipe",
        "link",
    ],
)
async def test_what_is_torn_is_quarantined(tmp_path: Path, damage: str) -> None:
    first = await Desk(Down(), spool=tmp_path).begin()
    task = asyncio.create_task(first.deliver(parcel()))
    await first.until(lambda: first.reported(DeliveryDelayed))
    await first.close()
    await task
    savefile, manifest = next(tmp_path.glob("*.savefile")), next(tmp_path.glob("*.json"))
    if damage == "torn":
        savefile.write_bytes(CONTENT[:-1])
    elif damage == "changed":
        savefile.write_bytes(b"P" + CONTENT[1:])
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "no savefile":
        savefile.unlink()
    elif damage == "list":
        manifest.write_text("[]")
    elif damage in IN_MANIFESTS:
        manifest.write_text(manifest.read_text().replace(*IN_MANIFESTS[damage]))
    elif damage == "pipe":
        savefile.unlink()
        os.mkfifo(savefile)
    elif damage == "manifest is a pipe":
        manifest.unlink()
        os.mkfifo(manifest)
    elif damage == "link":
        savefile.rename(tmp_path.parent / "elsewhere")
        savefile.symlink_to(tmp_path.parent / "elsewhere")
    else:
        (tmp_path / f".{savefile.name}").write_bytes(b"half")
    good = MemoryDestination()
    second = await Desk(good, spool=tmp_path).begin()
    assert len(second.reported(SpoolFileRefused)) == (damage != "hidden")
    if damage == "hidden":
        await second.until(lambda: good.savefiles)
    else:
        assert not second.reported(SavefileResumed)
    await second.until(lambda: files(tmp_path) == [])
    quarantined = (
        list((tmp_path / "quarantine").iterdir()) if (tmp_path / "quarantine").exists() else []
    )
    assert bool(quarantined) == (damage != "hidden")
    await second.close()


async def test_what_is_not_the_spools_is_left_there(tmp_path: Path) -> None:
    (tmp_path / "0*[note").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    desk = await Desk(spool=tmp_path).begin()
    assert len(desk.reported(SpoolFileRefused)) == 2
    assert (tmp_path / "0*[note").read_text() == "mine"
    await desk.close()


@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o770, 0), (0o700, 12345)])
def test_a_directory_that_others_can_write_to_is_refused(
    tmp_path: Path, mode: int, owner: int
) -> None:
    if os.geteuid():
        owner = os.geteuid()
    os.chown(tmp_path, owner, -1)
    tmp_path.chmod(mode)
    if mode == 0o700 and owner in (0, os.geteuid()):
        return  # only root can give a directory away
    with pytest.raises(ConfigError, match=r"others can write|another user"):
        Spool(SpoolSettings(dir=str(tmp_path)))


async def test_room_is_made_by_the_oldest_which_is_named(tmp_path: Path) -> None:
    desk = await Desk(Down(), spool=tmp_path, maxfiles=2, delivery={"memory_grace": 1}).begin()
    desk.pressed = True
    for number in range(3):
        await desk.deliver(parcel(f"{number}.pcap"))
    (lost,) = desk.reported(SavefileLost)
    assert lost.file_name == "0.pcap"
    assert "the oldest" in lost.reason
    assert "down" in lost.reason
    assert len(desk.reported(SavefileLeftSpool)) == 1
    assert len(files(tmp_path)) == 4
    await desk.close()


async def test_a_savefile_that_is_delivered_anyway_drives_no_older_one_out(tmp_path: Path) -> None:
    down, good = Down(), MemoryDestination()
    desk = await Desk(down, spool=tmp_path, maxfiles=1, delivery={"memory_grace": 1}).begin()
    desk.pressed = True
    await desk.deliver(parcel("old.pcap"))
    desk.pressed = False
    desk.delivery.configure({"1": good}, desk.settings)
    await desk.deliver(parcel("new.pcap"))
    assert list(good.savefiles) == ["new.pcap"]
    assert not desk.reported(SavefileLost)
    assert desk.reported(SavefileNotSpooled)[0].file_name == "new.pcap"
    await desk.close()


async def test_too_old_is_dropped_and_named(tmp_path: Path) -> None:
    desk = await Desk(Down(), spool=tmp_path, maxage=100).begin()
    desk.pressed = True
    old = parcel()
    old.began -= 101
    await desk.deliver(old)
    watching = asyncio.create_task(desk.delivery.keep_watch())
    await desk.until(lambda: desk.reported(SavefileLost))
    assert "more than 100 s" in desk.reported(SavefileLost)[0].reason
    await desk.until(lambda: files(tmp_path) == [])
    watching.cancel()
    await desk.close()


async def test_dropped_by_hand(tmp_path: Path) -> None:
    desk = await Desk(Down(), spool=tmp_path).begin()
    desk.pressed = True
    await desk.deliver(parcel())
    assert desk.spool
    desk.spool.order("drop", next(iter(desk.spool.stored)))
    watching = asyncio.create_task(desk.delivery.keep_watch())
    await desk.until(lambda: desk.reported(SavefileLeftSpool))
    assert "spool drop" in desk.reported(SavefileLost)[0].reason
    await desk.until(lambda: files(tmp_path) == [])
    watching.cancel()
    await desk.close()


async def test_spool_that_fails_is_told_and_memory_carries_on(tmp_path: Path) -> None:
    good = MemoryDestination()
    desk = await Desk(good, spool=tmp_path / "spool").begin()
    (tmp_path / "spool" / ".lock").unlink()
    (tmp_path / "spool").rmdir()
    await desk.deliver(parcel())
    assert "No such file" in desk.reported(SavefileNotSpooled)[0].reason
    assert good.savefiles
    await desk.close()


async def test_what_is_delivered_while_memory_is_short_is_not_told_as_spooled(
    tmp_path: Path,
) -> None:
    desk = await Desk(MemoryDestination(), spool=tmp_path).begin()
    desk.pressed = True
    for number in range(20):
        await desk.deliver(parcel(str(number)))
    await asyncio.sleep(0.05)
    assert not desk.reported(SavefileSpooled)
    await desk.until(lambda: files(tmp_path) == [])
    await desk.close()


async def test_what_is_delivered_while_it_is_written_to_the_spool_does_not_stay_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, put = threading.Event(), Spool.put

    def slow(*args: Any) -> str:
        gate.wait(5)
        return put(*args)

    monkeypatch.setattr(Spool, "put", slow)
    down = Down()
    desk = await Desk(down, spool=tmp_path, eager=False).begin()
    desk.pressed = True
    task = asyncio.create_task(desk.deliver(parcel()))
    await desk.until(lambda: desk.reported(DeliveryDelayed))
    await asyncio.sleep(0.03)
    down.up = True
    await desk.until(lambda: down.savefiles)
    gate.set()
    await task
    await desk.until(lambda: files(tmp_path) == [])
    assert not desk.reported(SavefileSpooled)
    await desk.close()


async def test_a_savefile_is_stored_once_though_several_destinations_want_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, put, stored = threading.Event(), Spool.put, []

    def slow(*args: Any) -> str:
        gate.wait(5)
        stored.append(put(*args))
        return str(stored[-1])

    monkeypatch.setattr(Spool, "put", slow)
    wrong = [MemoryDestination(), MemoryDestination()]
    for one in wrong:
        one.errors = [DeliveryRefused("wrong key")]
    desk = await Desk(*wrong, spool=tmp_path, eager=False).begin()
    desk.pressed = True
    task = asyncio.create_task(desk.deliver(sent := parcel()))
    await desk.until(lambda: not any(one.errors for one in wrong))
    await asyncio.sleep(0.03)
    gate.set()
    await task
    assert (files(tmp_path), len(stored)) == ([".json", ".savefile"], 1)
    desk.delivery.retry()
    await desk.until(lambda: not sent.pending and files(tmp_path) == [])
    await desk.close()


async def test_a_full_disk_is_reported_once_and_not_tried_without_end(tmp_path: Path) -> None:
    desk = await Desk(Down(), spool=tmp_path / "spool").begin()
    desk.delivery.end_soon()
    (tmp_path / "spool" / ".lock").unlink()
    (tmp_path / "spool").rmdir()
    task = asyncio.create_task(desk.deliver(parcel()))
    await desk.until(lambda: len(desk.reported(DeliveryDelayed)) > 10)
    assert len(desk.reported(SavefileNotSpooled)) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await desk.close()


@pytest.mark.parametrize("spooled", [True, False])
async def test_a_capture_whose_end_is_still_written_at_the_end_of_the_daemon_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spooled: bool
) -> None:
    gate, write = threading.Event(), Spool._write

    def slow(*args: Any) -> None:
        gate.wait(5)
        write(*args)

    monkeypatch.setattr(Spool, "_write", slow)
    monkeypatch.setattr(module, "digest", lambda _: str(gate.wait(5)))
    desk = await Desk(MemoryDestination(), spool=tmp_path if spooled else None).begin()
    task = asyncio.create_task(desk.delivery.take(parcel(), with_digest=not spooled))
    await asyncio.sleep(0.03)
    assert not desk.events
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [type(event) for event in desk.events] == [CaptureStopped, SavefileLost]
    gate.set()
    await asyncio.sleep(0.05)
    await desk.until(lambda: files(tmp_path) == [])
    await desk.close()


async def test_a_spool_that_hangs_holds_up_nothing_and_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, put = threading.Event(), Spool.put

    def slow(*args: Any) -> str:
        gate.wait(5)
        return put(*args)

    monkeypatch.setattr(Spool, "put", slow)
    monkeypatch.setattr(spooling, "STORE_WITHIN", 0.05)
    good = MemoryDestination()
    desk = await Desk(good, spool=tmp_path).begin()
    await desk.deliver(parcel())
    assert "did not respond" in desk.reported(SavefileNotSpooled)[0].reason
    assert good.savefiles
    gate.set()
    await asyncio.sleep(0.05)
    await desk.until(lambda: files(tmp_path) == [])
    await desk.close()


@pytest.mark.parametrize("spooled", [True, False])
async def test_a_capture_that_ends_too_late_for_the_end_of_the_daemon_is_told(
    tmp_path: Path, spooled: bool
) -> None:
    desk = await Desk(Hanging(), spool=tmp_path if spooled else None).begin()
    task = asyncio.create_task(desk.deliver(parcel()))
    await desk.until(lambda: desk.reported(CaptureStopped))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (len(desk.reported(SavefileSpooled)), len(desk.reported(SavefileLost))) == (
        (1, 0) if spooled else (0, 1)
    )
    await desk.close()


@pytest.mark.parametrize(
    ("waited", "written", "now", "expected"),
    [
        (0.0, 100.0, 100.0, 0.0),
        (0.0, 100.0, 160.0, 60.0),
        (50.0, 100.0, 160.0, 110.0),
        (50.0, 10_000.0, 30.0, 50.0),  # the machine was started again: its time off does not count
        (-50.0, 100.0, 160.0, 60.0),
    ],
)
def test_the_age_of_a_savefile_does_not_depend_on_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch, waited: float, written: float, now: float, expected: float
) -> None:
    monkeypatch.setattr(time, "clock_gettime", lambda _: now)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert now - began_to_wait({"waited": waited, "uptime": written}) == expected


async def test_a_manifest_of_before_uptimes_is_as_old_as_its_daemon(tmp_path: Path) -> None:
    assert uptime() - began_to_wait({}) < 1
