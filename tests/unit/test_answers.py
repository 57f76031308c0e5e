"""Results as CloudEvents on a bus."""

import json

from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core.cloudevents import decode, encode


def test_a_result_is_a_cloud_event_and_can_be_read_back() -> None:
    body = encode(
        "rejected", "x", {"kind": "busy", "problems": ["no room"]}, "web 1", 1_700_000_000.5
    )
    event = json.loads(body)
    assert {"specversion", "id", "source", "type"} <= event.keys(), "what CloudEvents 1.0 requires"
    assert (event["source"], event["type"], event["subject"]) == (
        "/pcapdaemon/web%201",
        "pcapdaemon.request.rejected",
        "x",
    )
    assert event["time"] == "2023-11-14T22:13:20.500000+00:00"
    assert decode(body) == (
        "rejected",
        {"id": "x", "node": "web 1", "kind": "busy", "problems": ["no room"]},
    )


@given(st.binary(max_size=200))
def test_whatever_else_is_on_the_bus_is_no_result(body: bytes) -> None:
    assert decode(body) is None


def test_other_cloud_events_are_no_results() -> None:
    for body in (
        b"{}",
        b'{"specversion":"1.0","type":"other","data":{}}',
        b'{"specversion":"1.0","type":5}',
        b"[" * 100_000,
    ):
        assert decode(body) is None
