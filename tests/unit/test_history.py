"""What the API remembers."""

import asyncio

from pcapdaemon.core.answers import AnswerKind
from pcapdaemon.core.choice import Surroundings
from pcapdaemon.core.events import (
    CaptureFailed,
    CaptureStarted,
    CaptureStopped,
    DeliveryDelayed,
    Event,
    RequestAccepted,
    RequestFinished,
    RequestRejected,
    SavefileDelivered,
    SavefileLost,
)
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.core.limits import StopReason
from pcapdaemon.core.node_events import SourceConnected, SourceDisconnected
from pcapdaemon.core.outcome import Counts, Outcome, Receipt
from pcapdaemon.core.plan import CapturePlan, make_plan
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.record import CaptureRecord, CaptureState, RequestRecord, RequestState
from pcapdaemon.core.request import Problem, validate
from pcapdaemon.results.history import KEPT, KEPT_REJECTED, NOT_RESUMED, History


def accepted(request_id: str = "ID", **fields: object) -> RequestAccepted:
    request, _ = validate({"node": "any", "interface": ["eth0", "eth1"], **fields})
    interfaces = {name: Interface(name, InterfaceKind.NETWORK) for name in ("eth0", "eth1")}
    plan = make_plan(request_id, request, [], Policy(), Surroundings("n", 1.0, interfaces, {}))
    assert isinstance(plan, CapturePlan)
    return RequestAccepted("http", plan, 1.0)


def stopped(packets: int) -> CaptureStopped:
    outcome = Outcome(
        packets, 100, packets, stop_reason=StopReason.PACKETS, seconds=3.0, trigger=1.0
    )
    return CaptureStopped("ID", "eth0", "f.pcap", outcome, pending=("local",))


def after(*events: Event) -> CaptureRecord:
    history = History()
    for event in (accepted(), CaptureStarted("ID", "eth0", "EN10MB", 96, 5.0), *events):
        history.on_event(event)
    return history.requests["ID"].captures[0]


def test_what_the_spool_does_not_have_any_more_is_lost_and_joined_records_keep_their_own() -> None:
    capture = CaptureRecord("eth0", None, CaptureState.SPOOLED, file_name="x", pending=["s3"])
    one = RequestRecord("one", "redis", 1.0, state=RequestState.FINISHED, captures=[capture])
    two = RequestRecord(
        "two", "kafka", 2.0, state=RequestState.FINISHED, captures=[], asked={"customer": "acme"}
    )
    history = History()
    history.restore([one, two])
    assert (capture.state, capture.pending) == (CaptureState.LOST, [])
    assert capture.lost == {"s3": NOT_RESUMED}
    assert history.requests["two"].asked == {"customer": "acme"}


def test_a_capture_goes_through_its_states() -> None:
    assert after().state == "running"
    assert after(stopped(5)).state == "delivering"
    assert after(stopped(0)).state == "empty"
    record = after(stopped(5), SavefileDelivered("ID", "eth0", "local", Receipt("/x"), 0.1))
    assert (record.state, record.delivered) == (CaptureState.DELIVERED, {"local": Receipt("/x")})
    assert record.outcome == stopped(5).outcome
    assert after(CaptureFailed("ID", "eth0", "no such device", "hint")).state == "failed"


def test_a_delay_is_told_and_forgotten_when_it_arrives() -> None:
    delayed = DeliveryDelayed("ID", "eth0", "local", "disk full", 1)
    assert "disk full" in after(stopped(5), delayed).reason
    assert (
        after(
            stopped(5), delayed, SavefileDelivered("ID", "eth0", "local", Receipt("/x"), 0.1)
        ).reason
        == ""
    )


def test_lost_somewhere_is_lost() -> None:
    lost = SavefileLost("ID", "eth0", "s3", "refused", "f.pcap", 5)
    record = after(stopped(5), lost, SavefileDelivered("ID", "eth0", "local", Receipt("/x"), 0.1))
    assert (record.state, record.reason) == (CaptureState.LOST, "s3: refused")


def test_live_counters_lie_over_what_runs_only() -> None:
    history = History()
    history.on_event(accepted())
    history.on_event(CaptureStarted("ID", "eth0", "EN10MB", 96, 5.0))
    shown = history.as_json("ID", {"eth0": Counts(7), "eth1": Counts(8)})
    assert shown is not None
    assert [capture["packets"] for capture in shown["captures"]] == [7, 0]


async def test_who_waits_is_told_when_it_is_over() -> None:
    history = History()
    history.on_event(accepted())
    waiting = [asyncio.create_task(history.finished("ID")) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    history.on_event(RequestFinished("ID"))
    await asyncio.gather(*waiting)
    await history.finished("ID")
    await history.finished("never heard of")


def test_events_of_a_request_that_is_forgotten_are_no_error() -> None:
    history = History()
    for event in (
        stopped(5),
        RequestFinished("ID"),
        DeliveryDelayed("ID", "eth0", "local", "full", 1),
    ):
        history.on_event(event)
    assert not history.requests


def test_a_conflict_does_not_touch_the_request_that_runs() -> None:
    history = History()
    history.on_event(accepted())
    history.on_event(RequestRejected("ID", "http", (Problem("id", "runs"),), AnswerKind.CONFLICT))
    assert history.requests["ID"].state == "running"


def test_only_the_last_ones_are_kept_and_all_that_run() -> None:
    history = History()
    history.on_event(accepted("running"))
    for number in range(KEPT + 50):
        history.on_event(accepted(str(number)))
        history.on_event(RequestFinished(str(number)))
    assert len(history.requests) == KEPT
    assert "running" in history.requests
    assert str(KEPT + 49) in history.requests


def test_what_is_rejected_drives_out_nothing_else() -> None:
    history = History()
    history.on_event(accepted("real"))
    history.on_event(RequestFinished("real"))
    for number in range(KEPT + 50):
        history.on_event(RequestRejected(str(number), "redis", (Problem("", "bad"),)))
    history.on_event(RequestRejected("real", "redis", (Problem("", "of another with its id"),)))
    assert len(history.requests) == KEPT_REJECTED + 1
    assert history.requests["real"].state is RequestState.FINISHED


def test_a_record_shows_what_people_search_by() -> None:
    history = History()
    history.on_event(accepted("x", customer="acme", alertid="a-1", bpf="udp", comment="why"))
    found = history.as_json("x")
    assert found
    assert {name: found.get(name) for name in ("customer", "alertid", "bpf", "comment")} == {
        "customer": "acme",
        "alertid": "a-1",
        "bpf": "udp",
        "comment": "why",
    }
    assert "tags" not in found


def test_a_source_that_stays_deaf_is_deaf_since_the_beginning() -> None:
    history = History()
    history.on_event(SourceConnected("redis"))
    assert history.sources["redis"].connected
    history.on_event(SourceDisconnected("redis", "reset"))
    since = history.sources["redis"].since
    history.on_event(SourceDisconnected("redis", "refused"))
    assert (history.sources["redis"].since, history.sources["redis"].reason) == (since, "refused")
