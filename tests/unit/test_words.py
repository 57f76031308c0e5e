"""One word for one thing: the API and results use the message's words and those of WORDS."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from pcapdaemon.api.answers import response_to
from pcapdaemon.api.views import RECORDER, REQUEST
from pcapdaemon.core.answers import Answer, AnswerKind
from pcapdaemon.core.events import (
    CaptureFailed,
    CaptureProgressed,
    CaptureStarted,
    CaptureStopped,
    RequestFinished,
    RequestJoined,
    RequestRejected,
    RequestSeenBefore,
    SavefileDelivered,
    SavefileLost,
    SavefileSpooled,
)
from pcapdaemon.core.fields import ResultKind
from pcapdaemon.core.intake import dry_run, listed
from pcapdaemon.core.interface import Interface, InterfaceKind, Target, TargetKind, described
from pcapdaemon.core.limits import StopReason
from pcapdaemon.core.orders import Order
from pcapdaemon.core.outcome import Content, Counts, Lookback, Outcome, Receipt
from pcapdaemon.core.record import CaptureRecord
from pcapdaemon.core.request import FIELDS, Problem
from pcapdaemon.core.target import Found
from pcapdaemon.core.wire import from_wire, to_wire
from scripts.words import WORDS
from tests.unit.test_results import Desk, accepted, bus, request

FREE = {"delivered", "lost", "unavailable", "targets"}
"""Objects whose members are named by destinations and interfaces."""

FRAME = {"id", "node", "state", "type", "title", "status", "interface"}
"""What every answer has; `type`, `title` and `status` are those of RFC 9457."""

PRESENCE = {"version": "1", "labels": {}, "interface": ["eth0"], "recorders": [], "memory": 1}
PRESENCE |= {"used": 0, "url": ""}
TARGET = Target(TargetKind.POD, "shop/web-1", "5d0c", ("app",))
OUTCOME = Outcome(
    5,
    100,
    6,
    1,
    2,
    stop_reason=StopReason.IDLE,
    seconds=3.0,
    trigger=1.0,
    first_packet_at=1.5,
    last_packet_at=2.0,
    lookback=Lookback(5, 4.5, 2, "why"),
    content=Content("gzip", 200, "cd"),
    target=described([TARGET]),
    error="words",
)
STOPPED = CaptureStopped("ID", "e0", "f.pcap", OUTCOME, "ab", ("s3",))
LIFE: list[Any] = [
    CaptureStarted("ID", "e0", "EN10MB", 96, 5.0),
    CaptureProgressed("ID", "e0", Counts(1, 50, 1)),
    STOPPED,
    SavefileSpooled("ID", "e0", "f.pcap", ("s3",), "down"),
    SavefileDelivered("ID", "e0", "s3", Receipt("s3://b/k", "etag", "https://signed"), 0.1),
    SavefileLost("ID", "e0", "local", "full", "f.pcap", 5),
    CaptureFailed("ID", "e1", "no such device", "look"),
    RequestFinished("ID"),
]


def names(value: Any) -> Iterator[str]:
    """The names of all members of a JSON value."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from names(list(one.values()) if name in FREE and isinstance(one, dict) else one)
    elif isinstance(value, list):
        for one in value:
            yield from names(one)


def properties(schema: Any) -> Iterator[str]:
    """The names of all properties in a JSON Schema."""
    if isinstance(schema, dict):
        yield from (
            schema.get("properties", {}) if isinstance(schema.get("properties"), dict) else ()
        )
        for one in schema.values():
            yield from properties(one)
    elif isinstance(schema, list):
        for one in schema:
            yield from properties(one)


async def words_of_results() -> set[str]:
    desk_bus = bus("redis", "r")
    desk = Desk(desk_bus, events=ResultKind.__args__)  # type: ignore[attr-defined]
    await desk.on_event(accepted(), *LIFE)
    await desk.on_event(
        RequestRejected("NO", "redis", (Problem("bpf", "wrong"),), request=request())
    )
    await desk.on_event(
        RequestJoined("J", "redis", "ID", 2.0, request()),
        RequestSeenBefore("ID", "redis", request()),
    )
    plan = accepted(targets=Found((Interface("e0", InterfaceKind.NETWORK, target=TARGET),))).plan
    running = [{"id": "x", "joined": [], "since": 1.0, "bpf": "", "captures": {}}]
    assert desk_bus.answer
    for conclusion in (dry_run("redis", plan, (), 0.0), listed(Order("L"), running, PRESENCE)):
        assert conclusion.answer
        desk_bus.answer(conclusion.answer)
    await asyncio.sleep(0)
    await desk.on_event()
    kinds = {kind for _, kind, _ in desk_bus.reported}
    assert kinds == {*ResultKind.__args__, "dryrun", "list"}  # type: ignore[attr-defined]
    return {name for _, _, data in desk_bus.reported for name in names(data)}


def words_of_api() -> set[str]:
    answers = [
        Answer("ID", kind, (Problem("bpf", "wrong"),), ("e0",), "hint", ("w",), "other")
        for kind in AnswerKind
    ]
    bodies = [json.loads(bytes(response_to(answer).body)) for answer in answers]
    schemas = [one.model_json_schema() for one in (REQUEST, RECORDER)]
    return {*names(bodies), *properties(schemas)}


async def test_every_word_is_the_messages_or_in_the_table_and_nothing_else_is_in_it() -> None:
    used = await words_of_results() | words_of_api()
    assert used - FRAME - FIELDS.keys() <= WORDS.keys()
    assert WORDS.keys() <= used


def test_no_word_of_the_table_says_what_a_field_of_the_message_says() -> None:
    inner = {field for name, field in FIELDS.items() if name != field}  # snaplen, for snap
    assert {"snaplen", "idle_timeout"} <= inner
    retired = {"size", "owed", "receipts", "counts"}
    assert not ((inner - FIELDS.keys()) | retired) & WORDS.keys()


def test_a_record_and_a_result_of_the_same_end_are_the_same_words() -> None:
    record = CaptureRecord("e0")
    record.stopped(OUTCOME, "f.pcap", "ab", ["s3"])
    shown, result = record.as_json(), STOPPED.as_json()
    assert {name: shown[name] for name in result} == result


@pytest.mark.parametrize(
    "value", [OUTCOME, Counts(1, 2, 3, 4, 5), Receipt("/x", "id"), Lookback(1, 0.5, 3)], ids=repr
)
def test_what_went_over_the_wire_is_the_same_again(value: Any) -> None:
    assert from_wire(type(value), json.loads(json.dumps(to_wire(value)))) == value
    assert TypeAdapter(type(value)).validate_python(value) == value
