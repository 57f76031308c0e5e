"""The plan that a node makes for a request."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core.choice import Surroundings
from pcapdaemon.core.interface import Interface, InterfaceKind
from pcapdaemon.core.limits import CaptureLimits
from pcapdaemon.core.plan import CapturePlan, Rejection, make_plan
from pcapdaemon.core.policy import Policy
from pcapdaemon.core.request import validate
from pcapdaemon.core.text import path_safe

HERE = Surroundings(
    node="web12",
    now=1795391625.9,
    interfaces={
        "eth0": Interface("eth0", InterfaceKind.NETWORK),
        "eth1": Interface("eth1", InterfaceKind.NETWORK),
        "lo": Interface("lo", InterfaceKind.NETWORK, loopback=True),
        "any": Interface("any", InterfaceKind.ANY),
        "nflog": Interface("nflog", InterfaceKind.PSEUDO),
    },
    aliases={"main": ["eth0", "eth1"], "public": ["eth0"], "gone": ["eth9"]},
)


def plan(general: Policy | None = None, **fields: Any) -> CapturePlan | Rejection:
    request, problems = validate(
        {"node": "any", **({} if "alias" in fields else {"interface": ["eth0"]}), **fields}
    )
    return make_plan("ID1", request, problems, general or Policy(), HERE)


def good(general: Policy | None = None, **fields: Any) -> CapturePlan:
    made = plan(general, **fields)
    assert isinstance(made, CapturePlan), made
    return made


def refused(general: Policy | None = None, **fields: Any) -> dict[str, str]:
    made = plan(general, **fields)
    assert isinstance(made, Rejection)
    return {problem.field: problem.message for problem in made.problems}


def test_defaults_where_a_request_says_nothing() -> None:
    made = good()
    assert made.limits == CaptureLimits(
        packets=50_000, size=100_000_000, duration=3600, idle_timeout=10
    )
    assert (made.snaplen, made.capture_filter, made.packet_debug) == (500, "", False)


def test_a_request_says_what_it_wants() -> None:
    made = good(packets=5, bytes=1000, duration=7, timeout=3, snap=96, bpf="port 53")
    assert made.limits == CaptureLimits(5, 1000, 7, 3)
    assert (made.snaplen, made.capture_filter) == (96, "port 53")


def test_snaplen_beyond_libpcaps_is_libpcaps() -> None:
    assert good(snap=10**9).snaplen == 262144


def test_the_maxima_are_allowed_and_more_is_rejected_by_field_and_key() -> None:
    assert good(packets=50_000, bytes=100_000_000, duration=3600, timeout=3600)
    found = refused(packets=50_001, bytes=100_000_001, duration=3601, timeout=3601, bpf="x" * 1025)
    assert list(found) == ["packets", "bytes", "duration", "timeout", "bpf"]
    assert "[general] maxpackets = 50000" in found["packets"]
    assert "[general] maxfilter" in found["bpf"]


def test_problems_of_the_message_and_of_the_plan_are_told_shared() -> None:
    assert set(refused(packets="50", timeout=99999, interface=["nope"])) == {
        "packets",
        "timeout",
        "interface",
    }


def test_an_alias_stands_for_several_interfaces_and_each_is_captured_once() -> None:
    made = good(alias=["main", "public"])
    assert [(part.interface.name, part.alias) for part in made.captures] == [
        ("eth0", "main"),
        ("eth1", "main"),
    ]


def test_interfaces_that_are_there_are_captured_and_the_others_named() -> None:
    made = good(interface=["eth0", "eth9", "eth0"])
    assert [part.interface.name for part in made.captures] == ["eth0"]
    assert made.unavailable == (("eth9", "no such interface on this node"),)


@pytest.mark.parametrize(
    "fields", [{"interface": ["eth9"]}, {"alias": ["unknown"]}, {"alias": ["gone"]}]
)
def test_without_any_interface_it_is_rejected(fields: dict[str, Any]) -> None:
    assert list(refused(**fields)) == list(fields)


@pytest.mark.parametrize(
    ("globs", "name", "allowed"),
    [
        ((), "eth0", True),
        ((), "any", True),
        ((), "nflog", False),
        (("eth*", "nflog"), "eth0", True),
        (("eth*", "nflog"), "nflog", True),
        (("eth*", "nflog"), "any", False),
        (("eth*", "nflog"), "lo", False),
    ],
)
def test_which_interfaces_are_allowed(globs: tuple[str, ...], name: str, allowed: bool) -> None:
    assert isinstance(plan(Policy(interfaces=globs), interface=[name]), CapturePlan) is allowed


def test_tags_in_the_order_of_the_original() -> None:
    made = good(alias=["public"], customer="C", alertid=7, tags="a,b", snap=96)
    tags = "customer:C,alertid:7,a,b,alias:public,node:web12,interface:eth0,snaplength:96"
    assert made.captures[0].tags == tags
    assert good(alertid=0).captures[0].tags == "node:web12,interface:eth0,snaplength:500"


def test_packetdebug_of_a_message_needs_leave() -> None:
    assert not good(packetdebug=True).packet_debug
    assert good(Policy(allow_packetdebug=True), packetdebug=True).packet_debug
    assert good(Policy(packetdebug=True)).packet_debug


def test_file_name() -> None:
    assert good().captures[0].file_name == "web12-eth0-1795391625-ID1.pcap"
    template = Policy(filename="{id}_{interface}.pcap")
    assert good(template).captures[0].file_name == "ID1_eth0.pcap"


@given(st.text(max_size=200), st.text(min_size=1, max_size=128))
def test_a_file_name_is_one_safe_component_whatever_comes(node: str, request_id: str) -> None:
    request, _ = validate({"node": "any", "interface": ["eth0"]})
    around = Surroundings(node, 1.0, HERE.interfaces, {})
    made = make_plan(request_id, request, [], Policy(), around)
    assert isinstance(made, CapturePlan)
    name = made.captures[0].file_name
    assert name == path_safe(name, 255)
    assert name.isascii()
    assert "/" not in name
    assert not name.startswith(".")
    assert len(name) < 250


@pytest.mark.parametrize(
    "template",
    [
        "{node}.pcap",
        "{interface}.pcap",
        "{nonsense}-{interface}-{id}",
        "{interface}{id",
        "{interface}{id:.3}",
        "{interface}{id!r}",
    ],
)
def test_a_template_that_cannot_be_unique_or_is_misspelt_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="filename"):
        Policy(filename=template)


def at(seconds: float) -> str:
    return datetime.fromtimestamp(HERE.now + seconds, UTC).isoformat()


@pytest.mark.parametrize(
    ("seconds", "lookback", "cut"),
    [(-10.0, 10.0, 0), (-0.25, 0.25, 0), (0, 0, 0), (3, 0, 0), (-120, 120, 0), (-150.5, 120, 30.5)],
)
def test_since_is_a_lookback_that_is_cut_and_not_refused(
    seconds: float, lookback: float, cut: float
) -> None:
    made = good(since=at(seconds))
    window = made.window(HERE.now)
    assert (window.lookback, window.cut) == pytest.approx((lookback, cut), abs=1e-3)
    later = min(120, max(0.0, 5 - seconds))
    assert made.window(HERE.now + 5).lookback == pytest.approx(later, abs=1e-3), "a slow start"


def test_a_lookback_counts_from_its_trigger_whenever_that_is() -> None:
    made = good(lookback=5)
    windows = [made.window(HERE.now + late) for late in (0, 7, -7)]
    assert {(one.lookback, one.cut) for one in windows} == {(5, 0)}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"until": 30}, (0, 0, 0, 30)),
        ({"since": -10, "until": -4}, (-4, 6, 0, 0)),
        ({"since": -150, "until": -110}, (-110, 10, 30, 0)),
        ({"since": -10, "until": 5}, (0, 10, 0, 5)),
        ({"lookback": 10, "until": -4}, (-4, 6, 0, 0)),
        ({"lookback": 3, "until": -4}, (-4, 0, 0, 0)),
    ],
)
def test_windows(fields: dict[str, float], expected: tuple[float, ...]) -> None:
    asked: dict[str, Any] = {n: v if n == "lookback" else at(v) for n, v in fields.items()}
    made = good(**asked)
    window = made.window(HERE.now)
    found = (window.trigger - HERE.now, window.lookback, window.cut, window.duration)
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"until": -1}, "lies in the past; give since or lookback too"),
        ({"since": -5, "until": -5}, "must be later than since"),
        ({"since": -900, "until": -800}, "is 800 s ago; this node looks back 120 s"),
        ({"until": 10**6}, "1000000 s ahead; this node captures for"),
    ],
)
def test_what_until_cannot_be(fields: dict[str, float], words: str) -> None:
    asked: dict[str, Any] = {name: at(value) for name, value in fields.items()}
    assert words in refused(**asked)["until"]


def test_equal_moments_are_one_capture_and_others_are_not() -> None:
    one, same, other = good(since=at(-5)), good(since=at(-5)), good(since=at(-6))
    assert one.equals(same)
    assert not one.equals(other)


def test_since_is_no_time_to_come_and_does_not_go_with_lookback() -> None:
    assert "20 s in the future by this node's clock" in refused(since=at(20))["since"]
    assert "not both" in refused(since=at(-5), lookback=5)["since"]
    assert "RFC 3339" in refused(since="yesterday")["since"]
