"""Messages are read as Go's encoding/json does, and all their problems are reported."""

import base64
import gzip
import ipaddress
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core.addressing import addressed_to
from pcapdaemon.core.message import MAX_MESSAGE, UnreadableMessage, read
from pcapdaemon.core.request import (
    FIELDS,
    CaptureRequest,
    new_id,
    unknown_fields,
    validate,
)

GOOD = {"node": "any", "interface": ["eth0"]}


def problems(**fields: Any) -> dict[str, str]:
    """Return the problems of a good message with these fields changed, by field."""
    _, found = validate(read(json.dumps({**GOOD, **fields}).encode()))
    return {problem.field: problem.message for problem in found}


def test_names_match_in_any_case_and_the_last_one_wins() -> None:
    assert read(b'{"node":"a","NODE":"b"}') == {"node": "b"}
    assert read(b'{"NODE":"b","node":"a"}') == {"node": "a"}
    assert read('{"\u017fnap": 5, "pac\u212aets": 7}'.encode()) == {"snap": 5, "packets": 7}


def test_null_changes_nothing() -> None:
    assert read(b'{"node":"a","node":null}') == {"node": "a"}
    assert read(b"null") == {}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"node":"a",}', "not JSON"),
        (b'{"node":"a"} x', "not JSON: Extra data at character 14"),
        (b"{'node':'a'}", "not JSON"),
        (b'{"packets":NaN}', "NaN is not allowed"),
        (b'{"packets":-Infinity}', "-Infinity is not allowed"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ('{"node":"a"}'.encode("utf-16"), "not JSON"),
        (b"[]", "object, not an array"),
        (b'"node"', "object, not a string"),
        (b"7", "object, not an integer"),
        (b"[" * 60_000, "nested too deeply"),
        (b'{"a":' * 10_000, "nested too deeply"),
        (b'{"packets":' + b"9" * 5000 + b"}", "too many digits"),
        (b" " * (MAX_MESSAGE + 1), f"a message may have at most {MAX_MESSAGE}"),
        (b'{"node":"a\nb"}', "not JSON"),
    ],
)
def test_what_go_refuses_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(UnreadableMessage, match=words):
        read(body)


def test_invalid_utf8_and_half_surrogates_become_replacement_characters() -> None:
    request, found = validate(read(b'{"node":"a\xffb","interface":["x\\ud800y"]}'))
    assert not found
    assert (request.node, request.interfaces) == ("a\ufffdb", ("x\ufffdy",))


@pytest.mark.parametrize("value", ["50", True, 50.0, 50.5, -1, 10**20, [], {}])
@pytest.mark.parametrize("field", ["packets", "bytes", "duration", "timeout", "snap"])
def test_limits_are_integers_and_not_negative(field: str, value: object) -> None:
    assert list(problems(**{field: value})) == [field]


def test_only_packets_may_not_be_zero() -> None:
    assert problems(bytes=0, duration=0, timeout=0, snap=0, alertid=0) == {}
    assert list(problems(packets=0)) == ["packets"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("packets", "50", "must be an integer, not a string"),
        ("packets", 50.0, "must be an integer, not a number with a fraction or exponent"),
        ("timeout", True, "must be an integer, not true or false"),
        ("interface", 5, "must be an array of strings, not an integer"),
        ("encryption", 1, "must be true or false, not an integer"),
        ("bpf", 7, "must be a string, not an integer"),
    ],
)
def test_a_wrong_type_names_the_field_and_what_is_wanted(
    field: str, value: object, words: str
) -> None:
    assert problems(**{field: value}) == {field: words}


def test_everything_wrong_at_once_is_told_at_once() -> None:
    found = problems(
        nodere="(",
        alias=["x"],
        packets="50",
        timeout=-1,
        encryption=1,
        id="a\x07",
        bpf=5,
        alertid=1.5,
    )
    assert set(found) == {
        "node",
        "interface",
        "nodere",
        "packets",
        "timeout",
        "encryption",
        "id",
        "bpf",
        "alertid",
    }


def test_one_of_node_and_nodere_one_of_interface_and_alias() -> None:
    _, found = validate({})
    assert [problem.field for problem in found] == ["node", "interface"]
    assert "not both" in problems(nodere="x")["node"]
    assert "not both" in problems(alias=["x"])["interface"]
    assert validate({"nodere": "x", "alias": ["a"], "node": "", "interface": []})[1] == []


def test_alertstr_takes_what_the_original_meant_and_what_it_took() -> None:
    assert problems(alertstr="text") == problems(alertstr=5) == {}


@pytest.mark.parametrize("value", ["", ".", "..", "x" * 129, "a\nb", "a\u202eb", 5])
def test_an_id_is_short_and_printable(value: object) -> None:
    assert list(problems(id=value)) == ["id"]
    assert problems(id="любой ✓ id/with:everything") == {}


def test_ids_that_are_made_up_sort_by_time() -> None:
    first = new_id()
    assert len(first) == 26
    assert first[:10] <= new_id()[:10]


def test_unknown_fields_are_named() -> None:
    assert unknown_fields(read(b'{"NODE":"any","Packts":5}')) == ["packts"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"node": "web12"}, True),
        ({"node": "any"}, True),
        ({"node": "Web12"}, False),
        ({"node": "web"}, False),
        ({"nodere": "web"}, True),
        ({"nodere": "^web$"}, False),
        ({"nodere": "WEB"}, False),
        ({"nodere": r"[[:alpha:]]+\d\d\z"}, True),
        ({"nodere": "("}, True),
        ({"nodere": "(?=web)"}, True),
        ({"node": 5}, True),
        ({"node": "other", "nodere": "other"}, True),
        ({}, True),
    ],
)
def test_is_it_for_this_node(fields: dict[str, Any], expected: bool) -> None:
    assert addressed_to(fields, "web12", {}) is expected


def test_an_expression_cannot_take_long() -> None:
    begun = time.perf_counter()
    assert not addressed_to({"nodere": "(a+)+$"}, "a" * 63 + "!", {})
    assert addressed_to({"nodere": "((a{1000}){1000}){1000}"}, "a", {}), (
        "too large to compile: answered as a problem"
    )
    assert time.perf_counter() - begun < 1


def test_every_field_of_the_original_is_taken() -> None:
    original = (
        "node nodere interface alias tags bpf customer alertid alertstr snap packets timeout"
        " duration bytes packetdebug logrequest folder bucket acl region endpoint encryption"
    )
    ours = "id labels issued_at dryrun comment reply_to reply_events lookback format merge compress"
    ours += " sha256 flow cause since until addresses profile destinations"
    ours += " pod container netns process unit inside payload encrypt_to"
    assert {*original.split(), *ours.split()} == set(FIELDS)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_in_words(body: bytes) -> None:
    try:
        fields = read(body)
    except UnreadableMessage as refusal:
        assert str(refusal)
    else:
        validate(fields)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(FIELDS)) | st.text(max_size=8), JSON, max_size=12))
def test_any_values_give_a_request_or_problems_that_name_a_field(values: dict[str, Any]) -> None:
    body = (
        json.dumps(values, allow_nan=False)
        if "NaN" not in json.dumps(values) and "Inf" not in json.dumps(values)
        else "{}"
    )
    request, found = validate(read(body.encode("utf-8", "replace")))
    assert isinstance(request, CaptureRequest)
    assert all(problem.field.partition(".")[0] in FIELDS and problem.message for problem in found)


@pytest.mark.parametrize("name", ["interface", "alias"])
def test_a_string_is_taken_where_an_array_of_one_is_meant(name: str) -> None:
    request, problems = validate({"node": "any", name: "eth0"})
    assert not problems
    assert ("eth0",) in (request.interfaces, request.aliases)


@pytest.mark.parametrize("value", ["a-17", 17, 0, ""])
def test_an_alert_has_a_number_or_a_text(value: str | int) -> None:
    request, problems = validate({"node": "any", "interface": ["lo"], "alertid": value})
    assert not problems
    assert request.alert_id == value


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("2026-01-31T12:00:00Z", True),
        ("2026-01-31t12:00:00.5+01:00", True),
        ("2026-01-31 12:00:00Z", True),
        ("2026-01-31", False),
        ("1767225600", False),
        ("2026-01-31T12:00Z", False),
        ("2026-01-31T12:00:00", False),
        ("2026-02-31T12:00:00Z", False),
        ("٢٠٢٦-01-31T12:00:00Z", False),
    ],
)
def test_times_are_strict(value: str, good: bool) -> None:
    _, problems = validate({"node": "any", "interface": ["lo"], "issued_at": value})
    assert (not problems) == good


def test_a_pattern_for_others_costs_little() -> None:
    begun = time.process_time()
    for number in range(200):
        assert not addressed_to({"nodere": f"^x{number}(a|b){{200}}(c?){{200}}$"}, "web1", {})
    assert time.process_time() - begun < 2
    assert addressed_to({"nodere": "x" * 257}, "web1", {}), "it is answered, and not compiled"
    _, problems = validate({"nodere": "x" * 257, "interface": ["lo"]})
    assert "256" in problems[0].message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\0}\0", "UTF-16"),
        (gzip.compress(b"{}", mtime=0), "gzip"),
        (b"\0\0\0\0\x07{}", "schema registry"),
        (base64.b64encode(b'{"node": "any"}'), "base64"),
    ],
)
def test_a_body_is_named_for_what_it_is(body: bytes, words: str) -> None:
    with pytest.raises(UnreadableMessage, match=words):
        read(body)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"receiver": "x", "alerts": []}, "Alertmanager"),
        ({"output_fields": {}, "rule": "x"}, "Falco"),
        ({"specversion": "1.0", "type": "x"}, "CloudEvent"),
        ({"Type": "Notification", "TopicArn": "x", "Message": "{}"}, "SNS"),
        ({"Records": []}, "S3"),
    ],
)
def test_an_alert_is_named_for_what_it_is(body: dict[str, Any], words: str) -> None:
    _, problems = validate(read(json.dumps(body).encode()))
    assert words in str(problems[0])


OWN = frozenset(map(ipaddress.ip_address, ("10.0.0.5", "192.0.2.7", "fd00::5")))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["10.0.0.5"], True),
        (["10.0.0.6"], False),
        (["10.0.0.6", "192.0.2.0/24"], True),
        (["10.0.0.9/24"], True),
        (["fd00::/64"], True),
        (["fd01::/64", "10.1.0.0/16"], False),
        ([], True),
        (["::ffff:10.0.0.5"], True),
        (["::ffff:10.0.0.0/120"], True),
        (["::ffff:10.0.0.6"], False),
        (["10.0.0.6"] * 64, False),
        (["10.0.0.6"] * 65, True),
        (["10.0.0.5/33"], True),
        (["web1"], True),
        ([7], True),
        ("10.0.0.6", False),
        ("10.0.0.5", True),
        ({"a": 1}, True),
    ],
)
def test_a_node_is_found_by_its_addresses_and_what_is_wrong_is_answered(
    wanted: Any, expected: bool
) -> None:
    fields = {"node": "any", "addresses": wanted}
    assert addressed_to(fields, "web1", {}, lambda: OWN) is expected
    assert not addressed_to({**fields, "node": "other"}, "web1", {}, lambda: OWN)


def test_a_node_that_does_not_know_its_addresses_answers() -> None:
    assert addressed_to({"node": "any", "addresses": ["10.0.0.6"]}, "web1", {}, lambda: None)


def test_addresses_are_addresses_or_networks() -> None:
    assert problems(addresses=["10.0.0.5", "192.0.2.0/24", "fd00::1"]) == {}
    assert problems(addresses="10.0.0.5") == {}
    for wrong in ("web1", "10.0.0.5/33", "fe80::1%eth0", ""):
        assert "must be an address or a network" in problems(addresses=[wrong])["addresses.0"]
