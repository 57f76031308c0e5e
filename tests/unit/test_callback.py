"""What is sent to the system that caused a request."""

from datetime import date
from typing import Any

import pytest

from pcapdaemon import config
from pcapdaemon.core.errors import ConfigError
from pcapdaemon.results.callback import Callback, annotation, content_of
from pcapdaemon.results.callback_settings import CallbackSettings

CAPTURE = {
    "state": "delivered",
    "packets": 7,
    "trigger": 1000.5,
    "first_packet_at": 990.25,
    "last_packet_at": 1010.0,
    "delivered": {
        "s3": {"where": "s3://b/x.pcap", "link": "https://s3/x"},
        "local": {"where": "/x"},
    },
}
DATA: dict[str, Any] = {
    "id": "am-1",
    "node": "web1",
    "received_at": 1000.0,
    "captures": [CAPTURE],
    "cause": {"system": "grafana", "url": "https://g/d/ab_C-1/net?orgId=1&viewPanel=4"},
}


def settings(**more: Any) -> CallbackSettings:
    return CallbackSettings.model_validate({"name": "x", "url": "https://x/hook", **more})


def test_an_annotation_says_when_and_where() -> None:
    assert annotation(DATA) == {
        "dashboardUID": "ab_C-1",
        "panelId": 4,
        "time": 990_250,
        "timeEnd": 1_010_000,
        "tags": ["pcapdaemon", "am-1"],
        "text": "7 packets on web1: https://s3/x, /x",
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://g/d/abc", {"dashboardUID": "abc"}),
        ("https://g/d/abc?viewPanel=panel-12", {"dashboardUID": "abc", "panelId": 12}),
        ("https://g/alerting/1", {}),
        ("https://g/d/../x", {}),
        ("", {}),
    ],
)
def test_where_an_annotation_belongs(url: str, expected: dict[str, Any]) -> None:
    found = annotation({**DATA, "cause": {"url": url}})
    assert {name: found[name] for name in ("dashboardUID", "panelId") if name in found} == expected


def test_an_annotation_of_what_captured_nothing() -> None:
    empty = {"state": "empty", "packets": 0, "started_at": 5.0, "delivered": {}}
    found = annotation({"id": "x", "node": "n", "received_at": 4.0, "captures": [empty]})
    assert (found["time"], found["timeEnd"], found["text"]) == (5000, 5000, "0 packets on n: empty")
    assert annotation({"id": "x", "received_at": 4.0, "captures": []})["time"] == 4000


def test_a_template_is_filled_with_values_and_texts() -> None:
    body = {
        "packets": "{captures.0.packets}",
        "text": "{id}: {captures.0.packets} of {node}{none}",
        "all": ["{captures}", "{none}", 7],
        "deep": {"system": "{cause.system}"},
    }
    assert content_of(DATA, settings(body=body)) == {
        "packets": 7,
        "text": "am-1: 7 of web1",
        "all": [DATA["captures"], None, 7],
        "deep": {"system": "grafana"},
    }
    assert content_of(DATA, settings()) == DATA


def test_only_the_last_result_is_sent() -> None:
    callback = Callback(settings())
    assert [callback.concerns("finished", {"final": final}) for final in (False, True)] == [
        False,
        True,
    ]
    assert not callback.concerns("captured", {})


def tables(*callbacks: dict[str, Any]) -> dict[str, Any]:
    return {"http": {"listen": True}, "general": {"writelocal": True}, "callback": list(callbacks)}


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        ([{"url": "https://x"}], "[[callback]] number 1 name"),
        ([{"name": "x", "url": "ftp://x"}], "url: must be a URL that begins with"),
        ([{"name": "x", "url": "https://x:abc/"}], "a valid host and port"),
        ([{"name": "x", "url": "https://x..de/"}], "a valid host and port"),
        ([{"name": "x", "url": "https://x", "token": "a b "}], "printable ASCII"),
        ([{"name": "x", "url": "https://x", "token": "a\nb"}], "printable ASCII"),
        ([{"name": "x", "url": "https://x", "body": {"a": date(2026, 1, 1)}}], "only what JSON"),
        ([{"name": "x", "url": "https://x", "body": {"a": float("nan")}}], "only what JSON"),
        ([{"name": "x", "url": "https://x", "events": []}], "at least 1"),
        (
            [{"name": "x", "url": "https://x", "kind": "grafana", "events": ["captured"]}],
            "events must be finished",
        ),
        ([{"name": "x", "url": "https://x"}] * 2, "number 2: there is another callback x"),
        ([{"name": "x", "url": "https://x", "match": {"a": "<y"}}], "must be a comparison"),
        ([{"name": "x", "url": "https://x", "kind": "grafana", "body": {"a": 1}}], "body is for"),
    ],
)
def test_what_a_callback_cannot_be(callbacks: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.validate(tables(*callbacks))
    assert any(words in problem for problem in refused.value.problems), refused.value.problems


def test_a_plain_url_is_a_warning() -> None:
    found = config.validate(tables({"name": "x", "url": "http://192.0.2.1/x"}))
    assert any("sent unencrypted" in words for words in found.warnings)
