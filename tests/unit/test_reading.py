"""Answers and results of nodes that have another version, or that are no nodes at all."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pcapdaemon.cli import show
from pcapdaemon.cli.watching import Watch
from pcapdaemon.fleet import reading
from pcapdaemon.fleet.followed import Followed

CAPTURE = {
    "interface": "eth0",
    "state": "delivered",
    "packets": 3,
    "bytes": 400,
    "dropped": 0,
    "dropped_by_interface": 0,
    "stop_reason": "packets",
    "delivered": {"local": {"where": "/tmp/x.pcap", "id": "", "link": ""}},
    "lookback": {"asked": 5, "covered": 4.5, "packets": 1, "reason": ""},
    "missing": ["1 packet"],
    "reason": "",
    "hint": "",
}
RECORD = {
    "id": "x",
    "node": "a",
    "state": "finished",
    "captures": [CAPTURE],
    "limits": {"packets": 3},
    "warnings": ["old"],
    "problems": [],
    "joined": "",
}
JUNK: tuple[Any, ...] = (None, 7, "word", [], {}, [None], {"a": None}, "\x1b[31m", 1e999, True, -1)


def damaged(value: Any) -> Iterator[Any]:
    """Yield a copy for each member at any depth and each junk value in its place."""
    for name in value if isinstance(value, dict) else range(len(value)):
        for junk in JUNK:
            broken = copy.deepcopy(value)
            broken[name] = junk
            yield broken
        without = copy.deepcopy(value)
        del without[name]
        yield without
        if isinstance(value[name], dict | list):
            for inner in damaged(value[name]):
                outer = copy.deepcopy(value)
                outer[name] = inner
                yield outer


def shown(nodes: Followed) -> None:
    """Show all there is, as the command line does at the end and on the way."""
    for as_json in (False, True):
        try:
            show.nodes(nodes, as_json)
        except (SystemExit, typer.Exit):
            continue
    with Watch() as watch:
        watch.show(nodes)


def test_a_damaged_final_record_is_shown_or_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    for data in damaged(RECORD):
        nodes = Followed()
        nodes.on_result("finished", {"id": "x", "node": "a", **data}, 1.0)
        shown(nodes)
        assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("accepted", {"interface": ["eth0"], "limits": {"packets": 3}, "warnings": ["w"]}),
        ("started", {"interface": "eth0", "linktype": "EN10MB", "snap": 9, "started_at": 1.0}),
        ("progress", {"interface": "eth0", "packets": 1, "bytes": 2}),
        ("rejected", {"problems": [{"field": "bpf", "message": "wrong"}], "hint": ""}),
        ("dryrun", {"interface": ["eth0"], "limits": {"packets": 3}, "unavailable": {"b": "c"}}),
        ("list", {"running": [{"id": "y", "since": 1.0, "bpf": "", "captures": {"eth0": {}}}]}),
        ("cancelled", {}),
    ],
)
def test_damaged_results_are_shown_or_ignored(
    kind: str, data: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for broken in damaged({"id": "x", "node": "a", **data}):
        nodes = Followed()
        nodes.on_result(kind, broken, 1.0)
        shown(nodes)
    capsys.readouterr()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_or_refused(found: Any) -> None:
    for read in (reading.answer, reading.record, reading.recorders, reading.refusal):
        try:
            read(found)
        except ValidationError as error:
            assert str(error)


def test_a_null_is_like_a_field_that_is_missing() -> None:
    record = reading.record({"id": "x", "state": "running", "captures": [{"state": "running"}]})
    assert record == reading.record(
        {**record, "captures": [{**record["captures"][0], "stop_reason": None, "lookback": None}]}
    )


def test_what_a_later_version_adds_is_kept() -> None:
    assert reading.record({**RECORD, "news": [1]})["news"] == [1]
