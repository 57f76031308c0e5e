"""Events become results, and go to the configured places."""

import asyncio
import json
from dataclasses import replace
from typing import Any, Self

import pytest
from pydantic import ValidationError

from pcapdaemon.core.answers import Answer, AnswerKind
from pcapdaemon.core.choice import Surroundings
from pcapdaemon.core.cloudevents import decode
from pcapdaemon.core.events import (
    CaptureFailed,
    CaptureProgressed,
    CaptureStarted,
    CaptureStopped,
    Event,
    RequestAccepted,
    RequestFinished,
    RequestJoined,
    RequestRejected,
    RequestSeenBefore,
    SavefileDelivered,
    SavefileLost,
    SavefileSpooled,
)
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.core.limits import StopReason
from pcapdaemon.core.node_events import SavefileLeftSpool, SavefileResumed
from pcapdaemon.core.outcome import Counts, Outcome, Receipt
from pcapdaemon.core.plan import CapturePlan, Rejection, make_plan
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import CaptureRequest, Problem, validate
from pcapdaemon.core.section import Section
from pcapdaemon.core.target import NOTHING_FOUND, Found
from pcapdaemon.results.history import History
from pcapdaemon.results.router import Results
from pcapdaemon.results.settings import ResultsSettings
from pcapdaemon.results.subscriber import MOST_WAITING, Subscriber
from pcapdaemon.sources.base import Bus, Message

ALL = [
    "rejected",
    "accepted",
    "started",
    "progress",
    "captured",
    "delivered",
    "spooled",
    "failed",
    "finished",
]


class Wanted(Section):
    results: tuple[str, ...] = ()


class FakeBus(Bus):
    """A bus that keeps what it was asked to send."""

    Settings = Wanted

    def __init__(self, settings: Any, node: str) -> None:
        self.settings, self.node = settings, node
        self.reported: list[tuple[str, str, dict[str, Any]]] = []

    async def connect(self) -> None: ...
    async def receive(self) -> Message:
        raise NotImplementedError

    async def close(self) -> None: ...
    @property
    def address(self) -> str:
        return "fake"

    async def send(self, body: bytes, to: str | None = None) -> int | None:
        result = decode(body)
        assert result
        self.reported.append((str(to), *result))
        return None

    @classmethod
    def of_answers(cls, settings: Any, node: str, place: str) -> Self:
        return cls(settings, node)


def bus(name: str, *places: str) -> FakeBus:
    made = type("Named", (FakeBus,), {"name": name})(Wanted(results=places), "here")
    assert isinstance(made, FakeBus)
    return made


class Desk:
    """Results with a history and buses."""

    def __init__(self, *buses: FakeBus, events: Any = ("rejected", "finished")) -> None:
        self.history, self.events = History("here"), []  # type: tuple[History, list[Event]]
        self.results = Results(
            "here", ResultsSettings(events=events), self.history.as_json, self.events.append
        )
        for one in buses:
            self.results.attach(one)

    async def on_event(self, *events: Event) -> None:
        for event in events:
            self.history.on_event(event)
            self.results.on_event(event)
        for _ in range(50):
            await asyncio.sleep(0)


def request(**fields: Any) -> CaptureRequest:
    found, problems = validate({"node": "any", "interface": ["e0"], **fields})
    assert not problems
    return found


def accepted(
    name: str = "ID", source: str = "redis", targets: Found | None = None, **fields: Any
) -> RequestAccepted:
    around = Surroundings(
        "here",
        1.0,
        {"e0": Interface("e0", InterfaceKind.NETWORK)},
        {},
        frozenset({"r", "s", "webhook"}),
        targets=targets or NOTHING_FOUND,
    )
    asked = {"pod": "shop/web-1", "interface": []} if targets else {}
    plan = make_plan(name, request(**fields, **asked), [], Policy(), around)
    assert isinstance(plan, CapturePlan)
    return RequestAccepted(source, plan, 1.0, ("a warning",))


OUTCOME = Outcome(
    5,
    100,
    5,
    2,
    stop_reason=StopReason.IDLE,
    seconds=3.0,
    trigger=1.0,
    first_packet_at=1.0,
    last_packet_at=2.0,
)
STOPPED = CaptureStopped("ID", "e0", "f.pcap", OUTCOME, sha256="ab", pending=("s3",))
LIFE: list[Any] = [
    CaptureStarted("ID", "e0", "EN10MB", 96, 5.0),
    CaptureProgressed("ID", "e0", Counts(1, 50, 1)),
    STOPPED,
    SavefileDelivered("ID", "e0", "s3", Receipt("s3://b/k", "etag", "https://signed"), 0.1),
    RequestFinished("ID"),
]


async def test_by_default_only_the_whole_story_is_told_and_it_is_whole() -> None:
    redis = bus("redis", "r")
    await Desk(redis).on_event(accepted(), *LIFE)
    ((place, kind, manifest),) = redis.reported
    assert (place, kind, manifest["id"], manifest["node"], manifest["final"]) == (
        "r",
        "finished",
        "ID",
        "here",
        True,
    )
    (capture,) = manifest["captures"]
    assert (capture["state"], capture["stop_reason"], capture["sha256"], capture["complete"]) == (
        "delivered",
        "idle",
        "ab",
        False,
    )
    assert "2 packets were dropped" in capture["missing"][0]
    assert capture["delivered"]["s3"] == {
        "where": "s3://b/k",
        "id": "etag",
        "link": "https://signed",
    }
    assert manifest["warnings"] == ["a warning"]


async def test_everything_is_told_where_it_is_wanted_in_order() -> None:
    redis = bus("redis", "r")
    await Desk(redis, events=ALL).on_event(accepted(), *LIFE)
    assert [kind for _, kind, _ in redis.reported] == [
        "accepted",
        "started",
        "progress",
        "captured",
        "delivered",
        "finished",
    ]


async def test_a_request_may_choose_what_and_where() -> None:
    redis, kafka = bus("redis", "r", "s"), bus("kafka", "r", "t")
    desk = Desk(redis, kafka)
    around = Surroundings(
        "here", 1.0, {"e0": Interface("e0", InterfaceKind.NETWORK)}, {}, desk.results.places
    )
    for to, kinds in (("s", ["captured"]), ("t", ["finished"]), ("r", ["accepted"])):
        plan = make_plan("ID", request(reply_to=to, reply_events=kinds), [], Policy(), around)
        assert isinstance(plan, CapturePlan)
        await desk.on_event(RequestAccepted("kafka", plan, 1.0), *LIFE)
    assert [(place, kind) for place, kind, _ in redis.reported] == [("s", "captured")]
    assert [(place, kind) for place, kind, _ in kafka.reported] == [
        ("t", "finished"),
        ("r", "accepted"),
    ], "r of the request's own bus"
    unknown = make_plan("ID", request(reply_to="elsewhere"), [], Policy(), around)
    assert isinstance(unknown, Rejection)
    assert str(unknown.problems[0]).startswith("reply_to: unknown place for results 'elsewhere'")
    assert "r, s, t" in str(unknown.problems[0])


async def test_rejections_are_told_with_all_problems_even_where_nothing_could_be_read() -> None:
    redis = bus("redis", "r")
    desk = Desk(redis)
    problems = (Problem("bpf", "syntax error"), Problem("", "and more"))
    await desk.on_event(
        RequestRejected(
            "ID", "redis", problems, AnswerKind.INVALID, ("w",), "see pcap-filter(7)", request()
        )
    )
    await desk.on_event(RequestRejected("NEW", "redis", (Problem("", "not JSON"),)))
    await desk.on_event(RequestRejected("NEW", "http", (Problem("", "not JSON"),)))
    first, second = (data for _, _, data in redis.reported)
    assert first["problems"] == [
        {"field": "bpf", "message": "syntax error"},
        {"field": "", "message": "and more"},
    ]
    assert (first["kind"], first["hint"], second["problems"][0]["message"]) == (
        "invalid",
        "see pcap-filter(7)",
        "not JSON",
    )


async def test_those_who_joined_are_told_the_same_under_their_own_id() -> None:
    redis, kafka = bus("redis", "r"), bus("kafka", "k")
    desk = Desk(redis, kafka, events=["captured", "finished"])
    await desk.on_event(
        accepted(),
        RequestJoined("OTHER", "kafka", "ID", 2.0, request()),
        *LIFE,
        RequestFinished("OTHER"),
    )
    assert [(kind, data["id"]) for _, kind, data in redis.reported] == [
        ("captured", "ID"),
        ("finished", "ID"),
    ]
    assert [(kind, data["id"]) for _, kind, data in kafka.reported] == [
        ("captured", "OTHER"),
        ("finished", "OTHER"),
    ]


async def test_a_savefile_in_the_spool_is_told_now_and_again_when_it_is_delivered() -> None:
    redis = bus("redis", "r")
    desk = Desk(redis, events=["spooled", "delivered", "finished"])
    spooled = SavefileSpooled("ID", "e0", "f.pcap", ("s3",), "s3: down")
    await desk.on_event(accepted(), LIFE[0], STOPPED, spooled, RequestFinished("ID"))
    assert [(kind, data.get("final")) for _, kind, data in redis.reported] == [
        ("spooled", None),
        ("finished", False),
    ]
    assert redis.reported[1][2]["captures"][0]["state"] == "spooled"
    await desk.on_event(LIFE[3], SavefileLeftSpool(("ID",), "e0"))
    assert [(kind, data.get("final")) for _, kind, data in redis.reported[2:]] == [
        ("delivered", None),
        ("finished", True),
    ]


async def test_a_request_is_not_finished_while_another_of_its_captures_runs() -> None:
    redis = bus("redis", "r")
    desk = Desk(redis, events=["captured", "finished"])
    spooled = SavefileSpooled("ID", "e0", "f.pcap", ("s3",), "s3: down")
    await desk.on_event(
        accepted(), CaptureStarted("ID", "e1", "EN10MB", 96, 5.0), LIFE[0], STOPPED, spooled
    )
    await desk.on_event(LIFE[3], SavefileLeftSpool(("ID",), "e0"))
    assert [kind for _, kind, _ in redis.reported] == ["captured"]
    other = replace(STOPPED, interface="e1", file_name="g.pcap")
    await desk.on_event(other, replace(LIFE[3], interface="e1"), RequestFinished("ID"))
    assert [(kind, data.get("final")) for _, kind, data in redis.reported[1:]] == [
        ("captured", None),
        ("finished", True),
    ]


async def test_a_place_that_is_none_does_not_silence_the_rejection_that_says_so() -> None:
    redis = bus("redis", "r")
    await Desk(redis).on_event(
        RequestRejected(
            "ID", "redis", (Problem("reply_to", "no such"),), request=request(reply_to="nowhere")
        )
    )
    assert [(place, kind) for place, kind, _ in redis.reported] == [("r", "rejected")]


async def test_a_dry_run_is_answered_where_it_asks_for() -> None:
    redis = bus("redis", "r", "s")
    desk = Desk(redis)
    assert redis.answer
    redis.answer(Answer("x", AnswerKind.DRYRUN, reply_to="s"))
    await desk.on_event()
    assert [(place, kind) for place, kind, _ in redis.reported] == [("s", "dryrun")]


async def test_a_rejection_of_the_same_id_does_not_touch_what_stands_in_the_spool() -> None:
    redis = bus("redis", "r")
    desk = Desk(redis)
    await desk.on_event(
        accepted(),
        LIFE[0],
        STOPPED,
        SavefileSpooled("ID", "e0", "f.pcap", ("s3",), "down"),
        RequestFinished("ID"),
    )
    await desk.on_event(
        RequestRejected("ID", "redis", (Problem("bpf", "wrong"),), request=request())
    )
    await desk.on_event(LIFE[3], SavefileLeftSpool(("ID",), "e0"))
    assert redis.reported[-1][1:2] == ("finished",)
    assert redis.reported[-1][2]["captures"][0]["delivered"]["s3"]["where"] == "s3://b/k"


async def test_what_another_process_captured_is_told_too() -> None:
    redis = bus("redis", "r")
    desk = Desk(redis)
    taken = SavefileResumed(
        ("ID", "OTHER"), "redis", 1.0, request(), STOPPED, (("local", Receipt("/x")),)
    )
    await desk.on_event(taken, LIFE[3], SavefileLeftSpool(("ID", "OTHER"), "e0"))
    assert [(kind, data["id"], data["final"]) for _, kind, data in redis.reported] == [
        ("finished", "ID", True),
        ("finished", "OTHER", True),
    ]
    assert redis.reported[0][2]["captures"][0]["delivered"].keys() == {"local", "s3"}


async def test_losses_and_captures_that_never_began_are_failures() -> None:
    redis = bus("redis", "r")
    desk = Desk(redis, events=["failed", "finished"])
    await desk.on_event(
        accepted(), CaptureFailed("ID", "e1", "no such device", "look"), LIFE[0], STOPPED
    )
    await desk.on_event(
        SavefileLost("ID", "e0", "s3", "no such bucket", "f.pcap", 5), RequestFinished("ID")
    )
    assert [data["reason"] for _, kind, data in redis.reported if kind == "failed"] == [
        "no such device",
        "no such bucket",
    ]
    states = {
        capture["interface"]: capture["state"] for capture in redis.reported[-1][2]["captures"]
    }
    assert states == {"e0": "lost", "e1": "failed"}


async def test_a_request_that_comes_again_is_told_so() -> None:
    redis = bus("redis", "r")
    await Desk(redis, events=["accepted"]).on_event(RequestSeenBefore("ID", "redis", request()))
    assert redis.reported[0][2]["again"] is True


async def test_answers_that_are_no_results_are_sent_whatever_is_configured() -> None:
    redis, silent = bus("redis", "r"), bus("kafka")
    desk = Desk(redis, silent, events=[])
    assert redis.answer
    assert silent.answer is None
    for kind in (
        AnswerKind.LIST,
        AnswerKind.ACCEPTED,
        AnswerKind.ELSEWHERE,
        AnswerKind.UNKNOWN,
        AnswerKind.INVALID,
    ):
        redis.answer(Answer("x", kind, details={"running": []}))
    await desk.on_event()
    assert [kind for _, kind, _ in redis.reported] == ["list"], "the others are reported by events"


async def test_readers_of_server_sent_events_hear_all_of_it_or_one_request() -> None:
    desk, closing = Desk(), asyncio.Event()
    everything, one = (
        desk.results.subscribe(closing),
        desk.results.subscribe(closing, "OTHER"),
    )
    first = [asyncio.ensure_future(anext(reader)) for reader in (everything, one)]
    await asyncio.sleep(0)
    await desk.on_event(accepted(), accepted("OTHER", "http"), *LIFE)
    assert (await first[0])[0] == "accepted"
    kind, body = await first[1]
    assert (kind, json.loads(body)["subject"]) == ("accepted", "OTHER")
    kinds = [(await anext(everything))[0] for _ in range(6)]
    assert kinds == ["accepted", "started", "progress", "captured", "delivered", "finished"]
    closing.set()
    assert [item async for item in everything] == []
    assert [item async for item in one] == []


async def test_a_slow_reader_misses_progress_first() -> None:
    reader = Subscriber(None)
    reader.put("accepted", b"")
    for _ in range(MOST_WAITING + 49):
        reader.put("progress", b"")
    reader.put("captured", b"")
    read = [await reader.next(1) for _ in range(MOST_WAITING)]
    kinds = [one[0] for one in read if one]
    assert (kinds[0], kinds[-1], len(kinds), reader.left_out) == (
        "accepted",
        "captured",
        MOST_WAITING,
        51,
    )
    assert await reader.next(0) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": ["nonsense"]},
        {"webhook": "ftp://x"},
        {"webhook": "https://x:abc/"},
        {"webhook": "https://x..de/"},
        {"webhook": "https://[x/"},
        {"webhook": "https://"},
        {"secret": "whsec_!!!!"},
        {"ca_file": "/no/such"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ResultsSettings.model_validate(wrong)
