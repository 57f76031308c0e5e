"""Profiles: what a request says itself wins, and the node's maxima hold."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon import config
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.profile import IN_PROFILES, applied, fields_of
from pcapdaemon.core.request import ON_THE_WIRE, validate

PROFILES: dict[str, dict[str, Any]] = {
    "web": {"alias": ("public",), "packets": 100, "lookback": 30, "merge": True},
    "dns": {"interface": ("eth1",), "bpf": "port 53"},
}


def tables(*profiles: dict[str, Any]) -> dict[str, Any]:
    return {"http": {"listen": True}, "general": {"writelocal": True}, "profile": list(profiles)}


def test_a_request_has_what_its_profile_has_and_its_own_fields_win() -> None:
    found, problems = applied({"node": "any", "profile": "web", "packets": 7}, PROFILES)
    assert not problems
    assert found == {
        "node": "any",
        "profile": "web",
        "packets": 7,
        "alias": ("public",),
        "lookback": 30,
        "merge": True,
    }


@pytest.mark.parametrize(
    ("own", "gone"),
    [({"interface": ["eth0"]}, "alias"), ({"since": "2026-01-31T12:00:00Z"}, "lookback")],
)
def test_what_would_contradict_the_request_is_left_out(own: dict[str, Any], gone: str) -> None:
    found, _ = applied({"node": "any", "profile": "web", **own}, PROFILES)
    assert gone not in found
    assert found.items() >= own.items()


@pytest.mark.parametrize(
    ("profile", "own", "expected"),
    [
        ({"format": "pcap"}, {"merge": True}, {"merge": True}),
        ({"format": "pcapng"}, {"merge": True}, {"merge": True, "format": "pcapng"}),
        ({"merge": True}, {"format": "pcap"}, {"format": "pcap"}),
        ({"merge": True}, {"format": "pcapng"}, {"merge": True, "format": "pcapng"}),
    ],
)
def test_a_format_and_a_merge_that_exclude_each_other(
    profile: dict[str, Any], own: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert applied({"profile": "x", **own}, {"x": profile})[0] == {"profile": "x", **expected}


@given(st.dictionaries(st.sampled_from(list(ON_THE_WIRE.values())), st.none() | st.integers()))
def test_a_profile_hides_no_mistake_in_what_it_does_not_set(fields: dict[str, Any]) -> None:
    fields.pop("profile", None)
    before = {one.field: one for one in validate(fields)[1] if one.field not in PROFILES["dns"]}
    found, _ = applied({**fields, "profile": "dns"}, PROFILES)
    after = {one.field: one for one in validate(found)[1]}
    assert {name for name in before if name != "alias"} <= after.keys()


def test_false_is_an_answer_and_zero_is_none() -> None:
    found, _ = applied({"profile": "web", "merge": False, "lookback": 0}, PROFILES)
    assert (found["merge"], found["lookback"]) == (False, 30)


def test_an_unknown_profile_is_a_problem_that_names_the_others() -> None:
    found, (problem,) = applied({"profile": "ftp"}, PROFILES)
    assert found == {"profile": "ftp"}
    assert str(problem) == "profile: unknown profile 'ftp'; this node has: dns, web"


@given(st.dictionaries(st.sampled_from(list(ON_THE_WIRE.values())), st.none() | st.integers()))
def test_without_a_profile_nothing_changes(fields: dict[str, Any]) -> None:
    fields.pop("profile", None)
    assert applied(fields, PROFILES) == (fields, [])


def test_a_profile_of_the_configuration_takes_units_and_becomes_a_valid_request() -> None:
    made = {"name": "web", "alias": "public", "bytes": "10MB", "duration": "1m", "bpf": "tcp"}
    settings = config.validate(tables(made))
    expected = {"alias": ("public",), "bytes": 10_000_000, "duration": 60, "bpf": "tcp"}
    assert settings.profiles == {"web": expected}
    request, problems = validate({"node": "any", **settings.profiles["web"]})
    assert not problems
    assert (request.size, request.duration, request.aliases) == (10_000_000, 60, ("public",))


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        ([{"packets": 5}], "[[profile]] number 1 name"),
        ([{"name": "a b"}], "[[profile]] number 1 name"),
        ([{"name": "a"}, {"name": "a"}], "there is another profile a"),
        ([{"name": "a", "packets": 10**9}], "number 1 packets: 1000000000 is more than this node"),
        ([{"name": "a", "duration": "long"}], "[[profile]] number 1 duration: must be"),
        ([{"name": "a", "format": "erf"}], "[[profile]] number 1 format: must be"),
        ([{"name": "a", "interface": "x", "alias": "y"}], "number 1 interface: give interface or"),
        ([{"name": "a", "merge": True, "format": "pcap"}], "number 1 merge: one file of several"),
        ([{"name": "a", "bpf": "(tcp"}], "number 1 bpf: a parenthesis is not closed"),
        ([{"name": "a", "bpf": "t" * 5000}], "number 1 bpf: 5000 characters are more than this"),
        ([{"name": "a", "destinations": ["s3"]}], "number 1 destinations: s3 is not turned on"),
        ([{"name": "a", "packets": 0}], "number 1 packets: must be"),
    ],
)
def test_what_a_profile_cannot_be(profiles: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.validate(tables(*profiles))
    assert any(words in problem for problem in refused.value.problems), refused.value.problems


def test_a_profile_has_no_field_that_only_a_request_can_have() -> None:
    settings = config.validate(tables({"name": "a", "node": "web1", "id": "x"}))
    assert len(settings.warnings) == 2
    assert all("unknown key" in warning for warning in settings.warnings)
    assert fields_of(settings.profile[0]) == {}
    assert len(IN_PROFILES) == 16
