"""How CloudShark's answers are read, and what its configuration accepts."""

import json
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from pcapdaemon.destinations.cloudshark import (
    CloudShark,
    CloudSharkSettings,
    _id_in,
    _id_of,
    _json,
    _seconds,
    _tags,
)
from tests.cloudshark import TOKEN
from tests.contracts.destinations import facts


def settings(**values: Any) -> CloudSharkSettings:
    return CloudSharkSettings.model_validate({"upload": True, "token": TOKEN, **values})


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
    ],
)
def test_retry_after_is_a_number_of_seconds_or_a_date(header: str, seconds: float | None) -> None:
    assert _seconds(header) == seconds


@pytest.mark.parametrize("zone", ["GMT", "+0000"])
def test_retry_after_may_be_a_date_to_come(zone: str) -> None:
    date = formatdate(time.time() + 60).replace("-0000", zone)
    assert 50 < (_seconds(date) or 0) <= 61


@pytest.mark.parametrize(
    "header",
    [
        "²",
        "9" * 400,
        "9" * 5000,
        "Wed, 21 Oct 2015 07:28:00 +" + "9" * 20,
        "Wed, 21 Oct 99999 07:28:00 GMT",
    ],
)
def test_retry_after_that_is_none_is_no_error(header: str) -> None:
    seconds = _seconds(header)
    assert seconds is None or seconds >= 0


@given(
    st.one_of(
        st.text(),
        st.from_regex(
            r"\A(Mon, )?\d{1,3} (Jan|Feb) \d{1,6} \d{1,3}:\d{1,3}(:\d{1,3})? ([+-]\d{1,12}|GMT)\Z"
        ),
    )
)
def test_retry_after_is_read_whatever_comes(header: str) -> None:
    seconds = _seconds(header)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"filename": "a.pcap", "id": "78dcb6f9"}', "78dcb6f9"),
        ('  {"id": "78dcb6f9"}\n', "78dcb6f9"),
        ('{"id": ""}', ""),
        ('{"id": null}', ""),
        ('{"id": ["a"]}', ""),
        ('{"id": "%s"}' % ("x" * 129), ""),
        ('["id"]', ""),
        ("[" * 100_000, ""),
        ("9" * 10_000, ""),
        ("", ""),
    ],
)
def test_a_success_is_told_by_its_id_alone(text: str, found: str) -> None:
    assert _id_in(text) == found


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (
            {
                "captures": [
                    {"id": "one", "filename": "b.pcap"},
                    {"id": "two", "filename": "a.pcap"},
                ]
            },
            "two",
        ),
        ([{"id": "two", "filename": "a.pcap"}], "two"),
        ({"id": "two", "filename": "a.pcap"}, "two"),
        (
            {
                "captures": [
                    {"id": "one", "filename": "a.pcap.gz"},
                    {"id": "two", "filename": "ba.pcap"},
                ]
            },
            "",
        ),
        ({"captures": [{"id": 7, "filename": "a.pcap"}, {"filename": "a.pcap"}]}, ""),
        ({"num_found": 0, "captures": []}, ""),
        (None, ""),
    ],
)
def test_a_search_finds_the_very_name_wherever_it_stands(answer: object, found: str) -> None:
    assert _id_of(_json(json.dumps(answer)), "a.pcap") == found


@pytest.mark.parametrize("depth", [100, 500, 900])
def test_a_search_may_be_answered_with_anything_however_deep(depth: int) -> None:
    assert _id_of(_json("[" * depth + "]" * depth), "a.pcap") == ""


@pytest.mark.parametrize(
    ("customer", "tags", "sent"),
    [
        (None, "node:a,interface:lo", "node:a,interface:lo"),
        ("acme", "customer:acme,node:a", "customer:acme,node:a"),
        ("a,b,c", "customer:a,b,c,alertid:7,x,node:a", "customer:a;b;c,alertid:7,x,node:a"),
        ("a,b", "customer:a,b,customer:a,b", "customer:a;b,customer:a,b"),
        ("Müller, Söhne", "customer:Müller, Söhne,node:ü", "customer:Müller; Söhne,node:ü"),
        ("a\r\nb", "customer:a\r\nb,node:a\x00", "customer:a  b,node:a "),
    ],
)
def test_customer_is_one_tag(customer: str | None, tags: str, sent: str) -> None:
    assert _tags(facts(tags=tags, customer=customer)) == sent


@pytest.mark.parametrize(
    ("values", "base"),
    [
        ({}, "https://h"),
        ({"port": 443}, "https://h"),
        ({"port": 80}, "https://h:80"),
        ({"port": 8443}, "https://h:8443"),
        ({"scheme": "http"}, "http://h"),
        ({"scheme": "http", "port": 80}, "http://h"),
        ({"scheme": "http", "port": 443}, "http://h:443"),
        ({"host": "[2001:db8::1]", "port": 8443}, "https://[2001:db8::1]:8443"),
    ],
)
def test_port_stands_in_the_url_where_it_is_not_the_schemes_own(
    values: dict[str, Any], base: str
) -> None:
    assert settings(**{"host": "h", **values}).base == base


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"token": None}, "token .* is missing"),
        ({"token": ""}, "letters, digits"),
        ({"token": "a/b/../c"}, "letters, digits"),
        ({"token": f"{TOKEN}\n"}, "letters, digits"),
        ({"port": -1}, "port"),
        ({"port": 65536}, "port"),
        ({"port": "443"}, "port"),
        ({"scheme": "ftp"}, "scheme"),
        ({"host": "h/x"}, "host"),
        ({"host": "user@h"}, "host"),
        ({"host": "https://h"}, "host"),
        ({"host": ""}, "host"),
        ({"timeout": -1}, "timeout"),
        ({"ca_file": "/no/such"}, "can't read /no/such"),
    ],
)
def test_wrong_settings_are_refused_in_words(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings(**values)


def test_certificates_that_are_none_are_refused_with_all_other_problems(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    for name in (tmp_path, tmp_path / "ca.pem"):
        with pytest.raises(ValidationError, match="ca_file"):
            settings(ca_file=str(name))


def test_a_token_that_is_wrong_is_never_repeated() -> None:
    with pytest.raises(ValidationError) as error:
        settings(token=SecretStr(f"{TOKEN} "))
    assert TOKEN not in f"{error.value} {settings()!r} {CloudShark(settings()).address}"


def test_token_may_be_missing_where_nothing_is_uploaded() -> None:
    assert settings(upload=False, token=None).token is None


def test_what_others_can_read_is_warned_of() -> None:
    assert settings().flaws() == []
    (plain,) = settings(scheme="http").flaws()
    assert "unencrypted" in plain
    (insecure,) = settings(insecure=True).flaws()
    assert "[cloudshark] insecure" in insecure
