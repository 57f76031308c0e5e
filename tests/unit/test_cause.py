"""What caused a request, in the words of any system."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core.cause import LONGEST, Cause
from pcapdaemon.core.record import asked
from pcapdaemon.core.request import validate


def read(cause: Any) -> tuple[Cause | None, list[str]]:
    request, problems = validate({"node": "any", "interface": ["eth0"], "cause": cause})
    return request.cause, [str(problem) for problem in problems]


def test_it_is_kept_with_what_people_search_by() -> None:
    cause = {"system": "alertmanager", "id": "ab12", "url": "https://am/#/x", "title": "Loss, 5 %"}
    request, problems = validate({"node": "any", "interface": ["eth0"], "cause": cause})
    assert not problems
    assert asked(request) == {"cause": cause}
    assert request.cause
    assert request.cause.tag == "cause:alertmanager:ab12"


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ({}, "cause: must have system, id, url or title"),
        ({"severity": "high"}, "cause: must have system, id, url or title"),
        ({"url": "javascript:alert(1)"}, "cause.url: must be a URL"),
        ({"url": "https://"}, "cause.url: must be a URL"),
        ({"url": "https://x/" + "a" * 2000}, "cause.url: must have at most 1024 characters"),
        ({"title": 7}, "cause.title: must be a string"),
        ("alert", "cause: "),
        ([], "cause: "),
    ],
)
def test_what_is_refused(cause: Any, words: str) -> None:
    _, problems = read(cause)
    assert len(problems) == 1
    assert problems[0].startswith(words)


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_words_become_one_printable_line(identity: str, title: str) -> None:
    cause, problems = read({"id": identity, "title": title})
    if cause is None:
        assert problems
        assert identity.split() + title.split() == []
        return
    for words in cause.as_json().values():
        assert words.isprintable()
        assert len(words) <= LONGEST
    assert "," not in cause.tag
