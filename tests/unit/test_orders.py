"""Messages that don't ask for a capture."""

import pytest

from pcapdaemon.core.orders import Order, find_order


@pytest.mark.parametrize(
    ("fields", "order"),
    [
        ({"node": "any", "interface": ["eth0"]}, None),
        ({"cancel": "x"}, Order("", "x")),
        ({"cancel": "x", "node": "web1", "id": "y", "labels": {}}, Order("y", "x")),
        ({"list": True, "nodere": "web"}, Order("")),
    ],
)
def test_orders(fields: dict[str, object], order: Order | None) -> None:
    assert find_order(fields) == order


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cancel": 5}, "cancel: must be the id of a request"),
        ({"cancel": ""}, "cancel: must be the id of a request"),
        ({"list": False}, "list: must be true"),
        ({"list": True, "interface": ["eth0"]}, "interface: can't be combined with list"),
        ({"list": True, "cancel": "x"}, "list: can't be combined with cancel"),
    ],
)
def test_orders_that_are_wrong_are_refused_in_words(fields: dict[str, object], words: str) -> None:
    problems = find_order(fields)
    assert isinstance(problems, list)
    assert words in [str(problem) for problem in problems]
