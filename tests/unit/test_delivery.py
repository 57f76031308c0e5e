"""One savefile to all its destinations; waiting is switched off."""

import asyncio
from collections.abc import Iterator

import pytest
import stamina

from pcapdaemon.capture import Savefile
from pcapdaemon.delivery import Delivery
from pcapdaemon.destinations.base import Facts
from pcapdaemon.destinations.memory import MemoryDestination
from pcapdaemon.errors import DeliveryFailed, DeliveryRefused
from pcapdaemon.events import DeliveryDelayed, Event, SavefileDelivered, SavefileLost
from pcapdaemon.request import validate

FACTS = Facts("ID", "lo", "x.pcap", "", validate({"node": "any", "interface": ["lo"]})[0])


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=5):
        yield


async def delivered(*destinations: MemoryDestination, deadline: float = 60) -> list[Event]:
    events: list[Event] = []
    delivery = Delivery({str(n): d for n, d in enumerate(destinations)}, events.append, deadline)
    await delivery.deliver(Savefile([memoryview(b"packets")]), FACTS, 3)
    return events


async def test_every_destination_gets_it() -> None:
    one, other = MemoryDestination(), MemoryDestination()
    events = await delivered(one, other)
    assert one.savefiles == other.savefiles == {"x.pcap": b"packets"}
    assert [type(event) for event in events] == [SavefileDelivered, SavefileDelivered]


async def test_what_fails_for_now_is_tried_again_and_told() -> None:
    destination = MemoryDestination()
    destination.errors = [DeliveryFailed("disk full"), DeliveryFailed("still full")]
    events = await delivered(destination)
    assert [type(event) for event in events] == [DeliveryDelayed, DeliveryDelayed, SavefileDelivered]
    assert destination.savefiles == {"x.pcap": b"packets"}


async def test_what_is_refused_is_not_tried_again_and_the_loss_is_told_with_what_was_lost() -> None:
    destination, good = MemoryDestination(), MemoryDestination()
    destination.errors = [DeliveryRefused("no such bucket")]
    events = await delivered(destination, good)
    lost = next(event for event in events if isinstance(event, SavefileLost))
    assert (lost.file_name, lost.packets, lost.reason) == ("x.pcap", 3, "no such bucket")
    assert good.savefiles
    assert not destination.savefiles


async def test_a_defect_of_a_destination_is_told_as_a_loss_too() -> None:
    destination, good = MemoryDestination(), MemoryDestination()
    destination.errors = [RuntimeError("unforeseen")]
    events = await delivered(destination, good)
    assert {type(event) for event in events} == {SavefileLost, SavefileDelivered}


async def test_a_try_that_hangs_ends_with_the_deadline() -> None:
    class Hanging(MemoryDestination):
        async def deliver(self, savefile: Savefile, facts: Facts) -> str:
            await asyncio.Event().wait()
            return ""

    events = await delivered(Hanging(), deadline=0.01)
    assert isinstance(events[0], SavefileLost)
    assert "hangs" in events[0].reason


async def test_given_up_in_the_end() -> None:
    destination = MemoryDestination()
    destination.errors = [DeliveryFailed("down")] * 9
    events = await delivered(destination)
    assert isinstance(events[-1], SavefileLost)


async def test_ended_in_the_middle_it_is_told_as_lost() -> None:
    class Hanging(MemoryDestination):
        async def deliver(self, savefile: Savefile, facts: Facts) -> str:
            await asyncio.Event().wait()
            return ""

    events: list[Event] = []
    task = asyncio.create_task(Delivery({"h": Hanging()}, events.append, 60).deliver(Savefile([]), FACTS, 3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert isinstance(events[0], SavefileLost)
