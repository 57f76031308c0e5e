"""Text from strangers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcapdaemon.core.text import path_safe, printable


@given(st.text())
def test_printable_text_has_no_character_that_acts(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
    assert printable(shown) == shown


@pytest.mark.parametrize("evil", ["\x1b[31m", "a\nb", "\x9b", "\u202e", "\u2028", "\x00", "\ud800"])
def test_what_acts_on_a_terminal_or_breaks_a_line_is_escaped(evil: str) -> None:
    assert printable(evil) != evil
    assert "\\" in printable(evil)


@given(st.text(), st.integers(1, 255))
def test_a_path_component_is_one_whatever_comes(text: str, longest: int) -> None:
    name = path_safe(text, longest)
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\\\0 \n")
    assert not name.startswith((".", "-"))
    assert len(name) <= longest + 1
