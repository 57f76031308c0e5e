"""A decision about a message is a value: the same message and view give the same decision."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core import intake
from pcapdaemon.core.answers import AnswerKind, Verdict
from pcapdaemon.core.choice import Surroundings
from pcapdaemon.core.events import RequestAccepted, RequestRejected
from pcapdaemon.core.intake import Conclusion, Envelope, Judged, View, judge
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.core.message import read
from pcapdaemon.core.orders import Order
from pcapdaemon.core.plan import CapturePlan, Rejection
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import FIELDS, Problem

NOW = 1_700_000_000.0
INTERFACES = {
    "eth0": Interface("eth0", InterfaceKind.NETWORK),
    "eth1": Interface("eth1", InterfaceKind.NETWORK),
    "any": Interface("any", InterfaceKind.ANY),
    "usbmon0": Interface("usbmon0", InterfaceKind.PSEUDO),
}
ALIASES = {"public": ["eth0", "eth1"], "gone": ["eth9"]}

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-5, 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
)
good: dict[str, st.SearchStrategy[Any]] = {
    "node": st.sampled_from(["any", "here"]),
    "interface": st.lists(st.sampled_from([*INTERFACES, "eth7"]), min_size=1, max_size=3),
    "alias": st.lists(st.sampled_from([*ALIASES, "unknown"]), min_size=1, max_size=2),
    "id": st.text("abc", min_size=1, max_size=5),
    "packets": st.integers(1, 100_000),
    "bytes": st.integers(0, 10**9),
    "duration": st.integers(0, 10_000),
    "timeout": st.integers(0, 10_000),
    "lookback": st.integers(0, 100),
    "snap": st.integers(0, 10**6),
    "bpf": st.sampled_from(["", "udp", "x" * 2000, "a\0b"]),
    "dryrun": st.booleans(),
    "merge": st.booleans(),
    "format": st.sampled_from(["pcap", "pcapng"]),
    "compress": st.sampled_from(["none", "gzip", "zstd"]),
    "packetdebug": st.booleans(),
    "issued_at": st.sampled_from(
        ["2023-11-14T22:13:19Z", "2020-01-01T00:00:00Z", "2199-01-01T00:00:00Z", "yesterday"]
    ),
    "reply_to": st.sampled_from(["results", "nowhere"]),
    "folder": st.sampled_from(["ours", "theirs"]),
}
messages = st.fixed_dictionaries(
    {"node": good["node"]},
    optional={name: strategy | values for name, strategy in good.items() if name != "node"},
) | st.dictionaries(st.sampled_from([*FIELDS, "cancel", "list", "odd"]), values, max_size=6)
envelopes = st.builds(
    Envelope,
    source=st.just("redis"),
    arrived_at=st.just(NOW),
    fallback_id=st.just("FALLBACK"),
    sent_at=st.none() | st.floats(NOW - 200, NOW + 1000),
    key=st.sampled_from(["", "7"]),
)
policies = st.builds(
    Policy,
    maxage=st.sampled_from([0, 60]),
    allow_packetdebug=st.booleans(),
    maxpackets=st.integers(1, 50_000),
)


def objections(request: Any) -> list[Problem]:
    return [Problem("folder", "not allowed")] if request.folder == "theirs" else []


def view(policy: Policy) -> View:
    around = Surroundings(
        "here", NOW, INTERFACES, ALIASES, frozenset({"results"}), ("folder", "bucket")
    )
    return View(policy, around, objections)


def fields_of(message: dict[str, Any]) -> dict[str, Any]:
    """Return the fields as `read` does."""
    return read(json.dumps(message).encode())


@given(messages, envelopes, policies)
def test_every_message_is_judged_and_always_in_the_same_way(
    message: dict[str, Any], envelope: Envelope, policy: Policy
) -> None:
    fields = fields_of(message)
    judged = judge(fields, envelope, view(policy))
    assert judged == judge(fields_of(message), envelope, view(policy))
    assert isinstance(judged, Order | Judged)


@given(messages, envelopes, policies)
def test_a_plan_stays_within_what_the_node_allows(
    message: dict[str, Any], envelope: Envelope, policy: Policy
) -> None:
    judged = judge(fields_of(message), envelope, view(policy))
    if not isinstance(judged, Judged) or not isinstance(judged.plan, CapturePlan):
        return
    plan, request = judged.plan, judged.request
    assert request is not None
    assert plan.limits.packets <= policy.maxpackets
    assert plan.limits.size <= policy.maxbytes
    assert plan.limits.duration <= policy.maxduration
    assert plan.limits.idle_timeout <= policy.maxtimeout
    assert plan.window(envelope.arrived_at).lookback <= policy.maxlookback
    assert plan.captures
    names = {part.interface.name for part in plan.captures}
    asked = {
        *request.interfaces,
        *(name for alias in request.aliases for name in ALIASES.get(alias, ())),
    }
    assert names <= asked & INTERFACES.keys() - {"usbmon0"}
    assert {name for name, _ in plan.unavailable} >= asked - INTERFACES.keys()
    assert plan.capture_filter == (request.capture_filter or "")
    assert plan.destination_fields == (request.folder, request.bucket)
    assert request.folder != "theirs"
    assert policy.allow_packetdebug or not plan.packet_debug
    assert judged.id == (request.id or "FALLBACK")


@given(messages, envelopes, policies)
def test_a_rejection_says_why_by_the_messages_own_words(
    message: dict[str, Any], envelope: Envelope, policy: Policy
) -> None:
    judged = judge(fields_of(message), envelope, view(policy))
    if not isinstance(judged, Judged) or not isinstance(judged.plan, Rejection):
        return
    assert judged.plan.problems
    for problem in judged.plan.problems:
        assert problem.message
        assert problem.field.partition(".")[0] in {
            "",
            *FIELDS,
            "cancel",
            "list",
            *fields_of(message),
        }
    assert judged.plan.id == judged.id
    assert judged.plan.kind in (AnswerKind.INVALID, AnswerKind.EXPIRED)


@given(messages, envelopes, policies)
def test_what_is_too_old_is_never_planned(
    message: dict[str, Any], envelope: Envelope, policy: Policy
) -> None:
    judged = judge(fields_of(message), envelope, view(policy))
    if (
        isinstance(judged, Judged)
        and policy.maxage
        and envelope.sent_at
        and NOW - envelope.sent_at > policy.maxage
    ):
        assert isinstance(judged.plan, Rejection)
        assert judged.request is None or judged.plan.kind is AnswerKind.EXPIRED


@given(messages, envelopes, policies)
def test_what_follows_is_one_answer_one_verdict_and_an_event(
    message: dict[str, Any], envelope: Envelope, policy: Policy
) -> None:
    judged = judge(fields_of(message), envelope, view(policy))
    if isinstance(judged, Order):
        return
    conclusion = concluded(judged, envelope)
    assert conclusion.answer is not None
    assert conclusion.answer.id == judged.id
    first = conclusion.events[0]
    if conclusion.verdict is Verdict.TAKEN:
        assert isinstance(first, RequestAccepted)
        assert conclusion.answer.kind is AnswerKind.ACCEPTED
    else:
        assert isinstance(first, RequestRejected)
        assert (conclusion.verdict is Verdict.BAD) == (conclusion.answer.kind is AnswerKind.INVALID)
        assert first.problems == conclusion.answer.problems


def concluded(judged: Judged, envelope: Envelope) -> Conclusion:
    if isinstance(judged.plan, Rejection):
        return intake.rejected(envelope.source, judged.plan, judged.warnings, judged.request)
    return intake.accepted(envelope, judged.plan, judged.warnings)


@given(st.lists(st.builds(Problem, st.just("bpf"), st.text(max_size=5)), min_size=1, max_size=60))
def test_many_problems_are_counted_and_not_all_named(problems: list[Problem]) -> None:
    conclusion = intake.rejected("redis", Rejection("ID", tuple(problems)))
    assert conclusion.answer
    assert len(conclusion.answer.problems) <= intake.MOST_PROBLEMS + 1
    if len(problems) > intake.MOST_PROBLEMS:
        assert (
            conclusion.answer.problems[-1].message
            == f"and {len(problems) - intake.MOST_PROBLEMS} more problems"
        )


def test_a_message_of_another_kind_is_an_order_or_says_what_is_wrong() -> None:
    envelope = Envelope("redis", NOW, "FALLBACK")
    assert judge({"cancel": "x"}, envelope, view(Policy())) == Order("", "x")
    judged = judge({"cancel": 5}, envelope, view(Policy()))
    assert isinstance(judged, Judged)
    assert isinstance(judged.plan, Rejection)
    assert (judged.id, judged.request) == ("FALLBACK", None)


def test_a_time_in_the_future_is_refused_by_the_brokers_clock_if_there_is_one() -> None:
    message = {"node": "any", "interface": ["eth0"], "issued_at": "2023-11-14T22:33:20Z"}
    ahead = 20 * 60
    for sent_at, good in ((None, False), (NOW, False), (NOW + ahead, True)):
        envelope = Envelope("test", NOW, "fallback", sent_at, "")
        judged = judge(message, envelope, view(Policy(maxage=0)))
        assert isinstance(judged, Judged)
        assert isinstance(judged.plan, CapturePlan) == good
        if isinstance(judged.plan, Rejection):
            assert "1200 s in the future" in str(judged.plan.problems[0])


def test_what_a_stranger_wrote_is_cut() -> None:
    message = {"node": "any", "interface": ["eth0"], "reply_to": "x" * 4096}
    judged = judge(message, Envelope("test", NOW, "fallback", None, ""), view(Policy()))
    assert isinstance(judged, Judged)
    assert isinstance(judged.plan, Rejection)
    conclusion = intake.rejected("test", judged.plan)
    assert conclusion.answer
    assert len(str(conclusion.answer.problems[0])) < 320
