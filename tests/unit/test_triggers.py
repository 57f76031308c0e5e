"""Alerts become messages: what each system sends, what is refused, and what never widens."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon import config
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.core.match import matcher_of
from pcapdaemon.core.paths import ABSENT, find
from pcapdaemon.core.request import validate
from pcapdaemon.native.live import refusal_of
from pcapdaemon.triggers.alert import MAX_ALERTS, MOST_OBJECTS, Alert, NotAnAlert, moment_of
from pcapdaemon.triggers.kinds import TABLE
from pcapdaemon.triggers.message import Malformed, alerts_of, id_of, make
from pcapdaemon.triggers.settings import TriggerSettings

ALERTS = Path(__file__).parents[1] / "alerts"
FILES = sorted(path for path in ALERTS.glob("*/*") if ".expected" not in path.name)
NOW = 1_800_000_000.0


def trigger(kind: str = "json", **more: Any) -> TriggerSettings:
    request = {"interface": "eth0", **more.pop("request", {})}
    base = {"name": "x", "kind": kind, "maxage": 0, "request": request}
    return TriggerSettings.model_validate({**base, **more})


def made(fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the message that an alert becomes."""
    settings = trigger(**more)
    (alert,) = alerts_of(json.dumps(fields).encode(), settings)
    return dict(make(alert, settings, NOW).fields)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_each_system_sends_is_understood(path: Path) -> None:
    found = alerts_of(path.read_bytes(), trigger(path.parent.name))
    expected = json.loads(path.with_name(f"{path.stem}.expected.json").read_text())
    assert len(found) == len(expected)
    for alert, whole in zip(found, expected, strict=True):
        wanted = {**whole, "cause": dict(whole["cause"])}
        facts = {name: getattr(alert, name) for name in wanted}
        if path.parent.name in ("cloudevents", "snmp", "syslog", "json") or "scan" in path.stem:
            key = facts.pop("key")  # a digest
            del wanted["key"]
            assert len(key) >= 16
            if wanted["cause"].get("id") == "" or "scan" in path.stem:
                wanted["cause"]["id"] = key
        times = {name: facts.pop(name) for name in ("at", "since") if name in facts}
        assert times == {name: pytest.approx(wanted.pop(name), abs=1e-6) for name in times}
        assert facts == wanted
        assert alert.at is None or "at" in times


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_becomes_a_valid_message_the_same_one_every_time(path: Path) -> None:
    settings = trigger(path.parent.name, lookback=5)
    for alert in alerts_of(path.read_bytes(), settings):
        fields = make(alert, settings, NOW).fields
        request, problems = validate(fields)
        assert problems == []
        assert request.cause
        assert make(alert, settings, NOW + 1).fields["id"] == fields["id"] == request.id


@pytest.mark.parametrize("kind", TABLE)
@given(body=st.binary(max_size=300) | st.text().map(str.encode))
def test_any_bytes_are_alerts_or_are_refused(kind: str, body: bytes) -> None:
    try:
        found = alerts_of(body, trigger(kind))
    except NotAnAlert:
        return
    for alert in found:
        _is_harmless(alert, trigger(kind, request={"comment": "a"}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
@given(data=st.data())
def test_whatever_is_in_a_field_it_becomes_no_filter_but_that_of_its_flow(
    path: Path, data: st.DataObject
) -> None:
    if path.suffix != ".json":
        return
    whole = json.loads(path.read_text())
    _replace_one(whole, data)
    kind = path.parent.name
    settings = trigger(kind, lookback=5, request={"tags": "{labels.x}", "comment": "c"})
    try:
        found = alerts_of(json.dumps(whole).encode(), settings)
    except NotAnAlert:
        return
    for alert in found:
        _is_harmless(alert, trigger(kind, lookback=5))


def _replace_one(value: Any, data: st.DataObject) -> None:
    """Put anything in the place of one value somewhere in a JSON value."""
    while isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(value[key], dict | list) or data.draw(st.booleans()):
            value[key] = data.draw(JSON)
            return
        value = value[key]


def _is_harmless(alert: Alert, settings: TriggerSettings) -> None:
    try:
        fields = make(alert, settings, NOW).fields
    except Malformed as error:
        assert len(str(error)) < 1000
        assert str(error).isprintable()
        return
    request, problems = validate(fields)
    assert problems == []
    assert request.id
    assert set(request.id) <= set(map(chr, range(33, 127))) - set("/\\ \"'")
    assert request.capture_filter is None
    ends = {"src", "dst"} & alert.flow.keys()
    assert bool(request.flow) == bool(ends)
    if request.flow:
        assert refusal_of(request.flow.capture_filter) == ""
    if request.since:
        assert request.since.timestamp() <= NOW


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2021-01-07T08:38:00.032813093Z", 1610008680.032813),
        ("2023-09-18T06:13:41.532140+0000", 1695017621.53214),
        (1463726594.405281, 1463726594.405281),
        ("1463726594.405281", 1463726594.405281),
        (1558107116746, 1558107116.746),
        (1558107116746609, 1558107116.746609),
        (1558107116746609046, 1558107116.746609),
        ("0001-01-01T00:00:00Z", None),
        ("2021-01-07T08:38:00", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("yesterday", None),
        (1e300, None),
        (float("nan"), None),
        (-5, None),
        (True, None),
        (None, None),
        ([1], None),
        ("9" * 400, None),
    ],
)
def test_times(value: Any, seconds: float | None) -> None:
    assert moment_of(value) == (pytest.approx(seconds, abs=1e-5) if seconds else None)


@given(JSON)
def test_no_value_is_a_time_that_can_not_be_written(value: Any) -> None:
    moment = moment_of(value)
    assert moment is None or 0 < moment < 253402300800


def test_paths_prefer_names_with_dots() -> None:
    fields = {"output_fields": {"fd.rip": "1"}, "a": {"b": {"c": 1}}, "a.b": {"d": 2}, "l": [[7]]}
    assert find(fields, "output_fields.fd.rip") == "1"
    assert find(fields, "a.b.c") == 1
    assert find(fields, "a.b.d") == 2
    assert find(fields, "l.0.0") == 7
    for absent in ("a.b.e", "a.b.c.d", "l.1", "l.-1", "l.\u0661", "", ".", "l.0.0.0", "x"):
        assert find(fields, absent) is ABSENT


@pytest.mark.parametrize(
    ("wanted", "value", "fits"),
    [
        ("critical", "critical", True),
        ("crit*", "critical", True),
        ("crit", "critical", False),
        ("Critical", "critical", False),
        (["page", "crit*"], "critical", True),
        ("!=info", "critical", True),
        ("!=info", "info", False),
        (2, 2, True),
        (2, "2", True),
        (2, 2.5, False),
        ("<=2", 2, True),
        ("<=2", "2.0", True),
        ("<=2", "low", False),
        (">1", True, False),
        (True, True, True),
        (True, 1, False),
        ("true", True, True),
        ("network", ["host", "network"], True),
        ("network", ["host"], False),
        ("*", None, False),
        ("*", {"a": 1}, False),
        ("!=x", ABSENT, False),
        ("\u0662", 2, False),
        ("[a-c]*", "b", True),
    ],
)
def test_matchers(wanted: Any, value: Any, fits: bool) -> None:
    assert matcher_of("at", wanted)({} if value is ABSENT else {"at": value}) is fits


def test_matching_takes_no_time_whatever_the_text() -> None:
    assert not matcher_of("at", "*a" * 100 + "b")({"at": "a" * 100_000})


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("<2x", "must be a comparison"),
        ([], "must be a text"),
        ({"a": []}, "must be a text"),
        ("x" * 300, "at most 256"),
        (None, "must be a text"),
    ],
)
def test_what_a_matcher_cannot_be(wanted: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        trigger(match={"at": wanted} if not isinstance(wanted, dict) else wanted)


def test_values_are_filled_in_where_they_are_harmless() -> None:
    fields = {"host": "web1", "who": "a,b", "n": 7, "ip": "10.0.0.1", "yes": True}
    request = {
        "node": "{host}",
        "labels": {"instance": "{host}:9100"},
        "addresses": ["{ip}"],
        "tags": "who:{who},n:{n}",
        "comment": "{host} {yes} {n}",
    }
    found = made(fields, request=request)
    assert found["node"] == "web1"
    assert found["labels"] == {"instance": "web1:9100"}
    assert found["addresses"] == ["10.0.0.1"]
    assert found["tags"] == "who:a;b,n:7"
    assert found["comment"] == "web1 true 7"


@pytest.mark.parametrize(
    ("request_", "value", "words"),
    [
        ({"node": "{x}"}, "any", "node: 'any' can't be a name"),
        ({"node": "{x}"}, "a\nb", None),
        ({"labels": {"i": "{x}"}}, "web*", "labels: 'web*' must not contain"),
        ({"addresses": ["{x}"]}, "0.0.0.0/0", "addresses: '0.0.0.0/0' is not an address"),
        ({"interface": "{x}"}, "any", "interface: 'any' can't be a name"),
        ({"alias": "{x}"}, " a", "alias: ' a' can't be a name"),
        ({"comment": "{y}"}, "z", "comment: the alert has no y"),
        ({"comment": "{x}"}, {"a": 1}, "comment: x is not a text or a number"),
        ({"comment": "{x}"}, None, "comment: the alert has no x"),
        ({"comment": "{x}"}, "a" * 9999, None),
        ({"comment": "{x}"}, "\x1b[31m\u202e", None),
    ],
)
def test_what_must_not_be_filled_in_is_refused(
    request_: dict[str, Any], value: Any, words: str | None
) -> None:
    if words is None:
        found = made({"x": value}, request=request_)
        assert all(str(found[name]).isprintable() for name in request_)
        return
    with pytest.raises(Malformed) as refused:
        made({"x": value}, request=request_)
    assert str(refused.value).startswith(words)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"bpf": "host {x}"}, "request.bpf: may not contain {path}"),
        ({"folder": "{x}"}, "request.folder: may not contain {path}"),
        ({"bucket": "{x}"}, "request.bucket: may not contain {path}"),
        ({"reply_to": "{x}"}, "request.reply_to: may not contain {path}"),
        ({"id": "x"}, "request.id: the trigger sets it itself"),
        ({"flow": {}}, "request.flow: the trigger sets it itself"),
        ({"unknown": 5}, "request.unknown: unknown field"),
        ({"tags": "{x"}, "request.tags: a brace is not closed"),
        ({"tags": "x}"}, "request.tags: a brace is not closed"),
    ],
)
def test_what_a_request_of_a_trigger_cannot_have(request_: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="Value error") as refused:
        trigger(request=request_)
    assert words in str(refused.value)


def test_the_savefile_begins_before_the_alert_by_its_own_clock() -> None:
    def since(at: Any, **more: Any) -> Any:
        return made({"t": at}, at="t", **{"lookback": 10, **more}).get("since")

    assert since(NOW - 5) == "2027-01-15T07:59:45.000000+00:00"
    assert since(NOW + 3600) == since(NOW), "it counts as of now"
    assert since("0001-01-01T00:00:00Z") is None
    assert made({"t": "?"}, at="t", lookback=10)["lookback"] == 10
    assert since(NOW, lookback=None) is None
    assert since(1.0) == "1970-01-01T00:00:01.000000+00:00"


@pytest.mark.parametrize(
    ("mode", "flow", "expected"),
    [
        ("optional", {}, None),
        ("none", {"src": "10.0.0.1"}, None),
        ("host", {"src": "10.0.0.1", "sport": "bad", "proto": "gre"}, {"src": "10.0.0.1"}),
        ("optional", {"dst": "::1", "dport": "53", "proto": "UDP"}, "same"),
        ("required", {"src": "10.0.0.1", "sport": 8, "proto": "ICMP"}, "icmp"),
        ("required", {}, "flow: the alert names no address"),
        ("host", {"sport": 5}, "flow: the alert names no address"),
        ("optional", {"sport": 5}, "flow: the alert names a port, but no address"),
        ("optional", {"src": "10.0.0.1", "proto": "gre"}, "flow.proto: must be"),
        ("optional", {"src": ["10.0.0.1"]}, "flow.src: must be"),
        ("optional", {"src": "10.0.0.1", "dst": "::1"}, "flow: src and dst must both"),
    ],
)
def test_flows(mode: str, flow: dict[str, Any], expected: Any) -> None:
    paths = {name: name for name in ("src", "sport", "dst", "dport", "proto")}
    words = expected if isinstance(expected, str) and expected.startswith("flow") else ""
    if words:
        with pytest.raises(Malformed) as refused:
            made(flow, flow=mode, flow_from=paths)
        assert str(refused.value).startswith(words)
        return
    found = made(flow, flow=mode, flow_from=paths).get("flow")
    same = {"dst": "::1", "dport": 53, "proto": "udp"}
    icmp = {"src": "10.0.0.1", "proto": "icmp"}
    assert found == {"same": same, "icmp": icmp}.get(str(expected), expected)


def test_ids_are_safe_and_different_alerts_have_different_ones() -> None:
    keys = ["a", "a/b", "a_b", "a b", "../x", "\x1b", "x" * 300, "x" * 301, "é", "e"]
    found = [id_of(Alert({}, key), "ids") for key in keys]
    assert len(set(found)) == len(keys)
    assert all(len(one) <= 128 and one.isascii() and "/" not in one for one in found)
    assert found[0] == "ids-a"


def test_a_json_trigger_says_where_everything_is() -> None:
    settings = trigger(
        each="events",
        key="who.id",
        at="when",
        flow_from={"src": "who.ip"},
        resolved={"state": "ok"},
    )
    events = [
        {"who": {"id": 7, "ip": "10.0.0.1"}, "when": 1463726594000, "state": "bad"},
        {"who": {"id": 8}, "state": "ok"},
    ]
    one, two = alerts_of(json.dumps({"events": events}).encode(), settings)
    assert (one.key, one.at, one.flow, one.resolved) == (
        "7",
        1463726594,
        {"src": "10.0.0.1"},
        False,
    )
    assert (two.key, two.at, two.resolved) == ("8", None, True)
    with pytest.raises(NotAnAlert, match="has no array at events"):
        alerts_of(b"{}", settings)


@pytest.mark.parametrize(
    "body",
    [b"", b"[1]", b"null", b'"x"', b"{", b"[" * 100_000, b"1" * 5000, b"NaN", b'{"a":NaN}'],
)
@pytest.mark.parametrize("kind", ["alertmanager", "falco", "zeek", "cloudevents", "json"])
def test_what_is_no_alert_is_refused_in_words(kind: str, body: bytes) -> None:
    try:
        assert alerts_of(body, trigger(kind)) == []
    except NotAnAlert as error:
        assert 5 < len(str(error)) < 200  # some have a marker, and are skipped


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("alertmanager", b'{"alerts": [{"startsAt": 1' + b"0" * 400 + b"}]}"),
        ("alertmanager", b'{"alerts": [{"fingerprint": "\\ud800"}]}'),
        ("alertmanager", b'{"alerts": [{"labels": ' + b"[" * 977 + b"]" * 977 + b"}]}"),
        ("cloudevents", b'{"specversion": "1.0", "source": " ", "id": " "}'),
        ("json", b'{"message": "\\ud800"}'),
        ("json", b'{"a": ' + b"[" * 970 + b"]" * 970 + b"}"),
        ("syslog", b"\xed\xa0\x80"),
    ],
)
def test_what_is_extreme_is_an_alert_or_is_refused(kind: str, body: bytes) -> None:
    more = {"pattern": "(?P<x>.)"} if kind in ("json", "syslog") else {}
    for settings in (trigger(kind), trigger(kind, **more)):
        try:
            found = alerts_of(body, settings)
        except NotAnAlert:
            continue
        for alert in found:
            request, problems = validate(json.loads(json.dumps(make(alert, settings, NOW).fields)))
            assert problems == []
            assert request.cause


def test_of_a_huge_group_only_the_first_are_read() -> None:
    body = b'{"alerts": [' + b",".join([b"{}"] * 300_000) + b"]}"
    assert len(alerts_of(body, trigger("alertmanager"))) == MOST_OBJECTS


def test_an_old_alert_starts_nothing() -> None:
    with pytest.raises(Malformed, match=r"7200 s old \(\[\[trigger\]\] maxage = 3600\)"):
        made({"t": NOW - 7200}, at="t", maxage=3600)
    assert made({"t": NOW - 7200}, at="t", maxage=0)["id"]
    assert made({"t": NOW - 3000}, at="t", maxage=3600)["id"]


def test_an_expression_may_have_braces_of_its_own() -> None:
    assert made({}, request={"nodere": "^web[0-9]{2}$"})["nodere"] == "^web[0-9]{2}$"


def test_a_message_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(NotAnAlert, match="at most"):
        alerts_of(b" " * (MAX_ALERTS + 1), trigger())


def tables(*triggers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "http": {"listen": True},
        "general": {"writelocal": True},
        "trigger": list(triggers),
        **more,
    }


GOOD = {"name": "a", "kind": "json", "request": {"interface": "eth0"}}


@pytest.mark.parametrize(
    ("triggers", "words"),
    [
        ([{"kind": "json"}], "[[trigger]] number 1 name"),
        ([{**GOOD, "kind": "nagios"}], "[[trigger]] number 1 kind: must be"),
        ([{**GOOD, "name": "A b"}], "[[trigger]] number 1 name"),
        ([GOOD, GOOD], "[[trigger]] number 2 name: there is another trigger a"),
        ([{**GOOD, "name": "test"}], "number 1 name: must not be test"),
        ([{**GOOD, "channel": "x"}], "number 1 channel: [redis] is not turned on"),
        ([{**GOOD, "send": "kafka"}], "number 1 send: [kafka] is not turned on"),
        ([{**GOOD, "file": "/x", "socket": "/y"}], "alerts come from one place"),
        ([{**GOOD, "secret": "s" * 9}], "give secret and signature together"),
        ([{**GOOD, "syslog": "udp://x"}], "must look like udp://127.0.0.1:5514"),
        ([{**GOOD, "pattern": "(a"}], "not a valid RE2 expression"),
        ([{**GOOD, "pattern": "a"}], "has no named group"),
        ([{**GOOD, "flow": "required"}], "alerts of kind json name no flow"),
        ([{**GOOD, "request": {}}], "number 1 request.interface: must be present"),
        ([{**GOOD, "request": {"interface": "e", "alias": "f"}}], "request.interface: give"),
        (
            [{**GOOD, "request": {"interface": "e", "packets": 10**9}}],
            "request.packets: 1000000000",
        ),
        ([{**GOOD, "request": {"profile": "x"}}], "request.profile: unknown profile"),
        ([{**GOOD, "token": "a-long-token "}], "number 1 token: must contain only printable"),
        ([{**GOOD, "match": {"a": {}}}], "match: a: must be a text"),
        ([{**GOOD, "resolved": {"a": {"b": {}}}}], "resolved: a.b: must be a text"),
        ([{**GOOD, "lookback": 5, "request": {"interface": "e", "lookback": 1}}], "not in both"),
        ([{**GOOD, "request": {"interface": "e", "until": "x"}}], "until: the trigger sets it"),
        ([{**GOOD, "request": {"alias": "x"}}], "request.alias: no [[interface]] has the alias x"),
        ([{**GOOD, "syslog": "udp://127.0.0.1:0"}], "must look like"),
        (
            [{**GOOD, "request": {"interface": "e", "destinations": ["s4"]}}],
            "request.destinations: not turned on: s4",
        ),
        (
            [{**GOOD, "request": {"interface": "e", "reply_to": "x"}}],
            "request.reply_to: no place for results: x",
        ),
        ([{**GOOD, "file": "/a\0b"}], "must not contain a NUL"),
        (
            [{**GOOD, "socket": "/x"}, {**GOOD, "name": "b", "socket": "/x"}],
            "number 2 socket: /x is used already",
        ),
        ([{**GOOD, "rate": 0}], "[[trigger]] number 1 rate: must be at least 1"),
    ],
)
def test_what_a_trigger_cannot_be(triggers: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.validate(tables(*triggers))
    assert any(words in problem for problem in refused.value.problems), refused.value.problems


@pytest.mark.parametrize(
    ("redis", "more", "words"),
    [
        ({"channel": "x"}, {"channel": "x"}, "channel: x is used already"),
        ({}, {"channel": "capture"}, "channel: capture is used already"),
        ({"stream": "x"}, {"stream": "x"}, "stream: x is used already"),
        ({"channel": "x", "results": "y"}, {"channel": "y"}, "channel: y is used already"),
        ({"channel": "x"}, {"channel": "y"}, ""),
        ({"stream": "x"}, {"channel": "y"}, ""),
        ({"channel": "x"}, {"stream": "y"}, ""),
    ],
)
def test_alerts_have_places_of_their_own(
    redis: dict[str, Any], more: dict[str, Any], words: str
) -> None:
    values = tables({**GOOD, **more}, redis={"listen": True, **redis})
    try:
        config.validate(values)
    except ConfigError as error:
        assert words
        assert words in error.problems[0]
    else:
        assert not words


def test_flaws_are_warnings() -> None:
    more = {"signature": "grafana", "secret": "s" * 9, "lookback": 200}
    warnings = config.validate(tables({**GOOD, **more})).warnings
    assert any("more than [general] maxlookback" in words for words in warnings)
    assert any("without timestamp_header" in words for words in warnings)
    assert any("lookback: eth0 has no recorder" in words for words in warnings)
    assert any("set [general] statedir" in words for words in warnings)


def test_names_in_match_keep_their_case(tmp_path: Path) -> None:
    from pcapdaemon import tables as files

    file = tmp_path / "x.toml"
    file.write_text('[[Trigger]]\nName = "a"\nmatch.labels.AlertName = "X*"\n')
    (found,) = files.read(file)["trigger"]
    assert found == {"name": "a", "match": {"labels": {"AlertName": "X*"}}}
    assert str(trigger(match=found["match"]).matchers[0]) == "labels.AlertName = 'X*'"
