"""The filter of a flow: exact, in both directions, and never wider than what was asked for."""

import ipaddress
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core.filters import is_simple
from pcapdaemon.core.flow import Flow, narrowed
from pcapdaemon.core.request import validate
from pcapdaemon.native.live import refusal_of


def read(flow: Any) -> tuple[Flow | None, list[str]]:
    request, problems = validate({"node": "any", "interface": ["eth0"], "flow": flow})
    return request.flow, [str(problem) for problem in problems]


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        ({"src": "1.2.3.4 or port 22"}, "flow.src: must be an IPv4 or IPv6 address"),
        ({"src": "fe80::1%eth0) or (port 22"}, "flow.src: must be"),
        ({"src": "localhost"}, "flow.src: must be"),
        ({"src": "1.2.3.4", "dst": "1.2.3"}, "flow.dst: must be"),
        ({"src": "1.2.3.4", "sport": "80 or 81"}, "flow.sport: must be an integer"),
        ({"src": "1.2.3.4", "sport": "\u0668\u0660"}, "flow.sport: must be an integer"),
        ({"src": "1.2.3.4", "sport": True}, "flow.sport: must be an integer"),
        ({"src": "1.2.3.4", "sport": 80.5}, "flow.sport: must be an integer"),
        ({"src": "1.2.3.4", "dport": 65536}, "flow.dport: must be at most 65535"),
        ({"src": "1.2.3.4", "dport": -1}, "flow.dport: must be at least 0"),
        ({"src": "1.2.3.4", "proto": "tcp or udp"}, "flow.proto: must be"),
        ({"src": "1.2.3.4", "dprt": 22}, "flow: unknown key 'dprt'"),
        ({"src": "1.2.3.4", "dst": "::1"}, "flow: src and dst must both be"),
        ({"src": "1.2.3.4", "proto": "icmp", "sport": 1}, "flow: icmp has no ports"),
        ({"proto": "tcp"}, "flow: must have src or dst"),
        ({}, "flow: must have src or dst"),
        (["1.2.3.4"], "flow: must be an object, or an array of two endpoints"),
        (["1.2.3.4", 7], "flow: must be an object, or an array of two endpoints"),
        (["1.2.3.4:http", "1.2.3.5"], "flow: an endpoint must look like"),
        (["1.2.3.4:1:2", "1.2.3.5"], "flow"),
        ("1.2.3.4", "flow: must be an object, or an array of two endpoints"),
        (7, "flow: must be an object, or an array of two endpoints"),
    ],
)
def test_what_is_not_understood_is_refused(flow: Any, words: str) -> None:
    _, problems = read(flow)
    assert len(problems) == 1
    assert problems[0].startswith(words)


@pytest.mark.parametrize(
    ("flow", "same"),
    [
        (["10.0.0.1:443", "10.0.0.2"], {"src": "10.0.0.1", "sport": 443, "dst": "10.0.0.2"}),
        (["[::1]:443", "fe80::1"], {"src": "::1", "sport": "443", "dst": "fe80:0::1"}),
        (["::ffff:10.0.0.1", "10.0.0.2:5"], {"src": "10.0.0.1", "dst": "10.0.0.2", "dport": 5}),
        ({"proto": "IPv6-ICMP", "src": "::1"}, {"proto": "icmp6", "src": "::1"}),
    ],
)
def test_forms_of_one_flow(flow: Any, same: Any) -> None:
    assert read(flow) == read(same)
    assert read(flow)[1] == []


def test_a_flow_that_names_a_host_is_not_taken_for_one() -> None:
    address = Flow.model_validate(
        {"src": "10.0.0.1", "dst": "fe80::1".replace("fe80::", "10.0.0.")}
    )
    text = address.capture_filter
    assert is_simple(text)
    assert not is_simple(text.replace("10.0.0.1", "face.de"))
    assert not is_simple(text.replace("10.0.0.1", "a"))


@pytest.mark.parametrize("name", ["icmp", "icmp6", "ICMPv6"])
@pytest.mark.parametrize(("src", "expected"), [("10.0.0.1", "icmp"), ("fd00::1", "icmp6")])
def test_icmp_is_that_of_the_addresses(name: str, src: str, expected: str) -> None:
    flow, problems = read({"proto": name, "src": src})
    assert problems == []
    assert flow
    assert flow.capture_filter.startswith(f"({expected} and ")


ADDRESSES = st.ip_addresses().map(str)
PORTS = st.integers(0, 65535)
SAFE = re.compile(r"\b(?:tcp|udp|sctp|icmp6?|src|dst|host|port|and|or|vlan)\b|[0-9a-f.:() ]")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "src": ADDRESSES | st.text(),
            "dst": ADDRESSES | st.text(),
            "sport": PORTS | st.text() | st.floats(),
            "dport": PORTS | st.booleans(),
            "proto": st.sampled_from(["tcp", "UDP", "sctp", "icmp", "icmp6"]) | st.text(),
        },
    )
)
def test_every_filter_is_made_of_known_words_and_names_what_was_given(flow: Any) -> None:
    found, problems = read(flow)
    assert bool(problems) != (found is not None)
    if found is None:
        return
    text = found.capture_filter
    assert SAFE.sub("", text) == ""
    assert is_simple(text)
    assert is_simple(narrowed("tcp port 5", text))
    assert not is_simple(" or ".join([f"({text})"] * 10)), "only one of them is known to be quick"
    assert refusal_of(text) == ""
    for name, word in (("src", "host"), ("dst", "host"), ("sport", "port"), ("dport", "port")):
        value = getattr(found, name)
        assert (value is None) or f"{word} {value}" in text
    for name in flow.keys() & {"src", "dst"}:
        given = ipaddress.ip_address(flow[name])
        assert getattr(found, name) == str(getattr(given, "ipv4_mapped", None) or given)
