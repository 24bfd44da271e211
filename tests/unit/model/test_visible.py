"""What stands on a terminal, in a log or on a page of what others have written."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.model import limits
from coderd.model.visible import MORE, REPLACEMENT, is_hidden, json_visible, visible

HIDDEN = [
    *map(chr, range(0x20)),  # C0, ESC and newlines among them
    *map(chr, range(0x7F, 0xA0)),  # DEL, C1
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",  # bidirectional
    *"\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\u3164\u115f\ufe0f\U000e0041",  # of no width
    "\u2028",
    "\u2029",
    "\ud800",
    "\udfff",
    "\ue000",
    "\uffff",
]


@pytest.mark.parametrize("letter", HIDDEN, ids=lambda letter: f"{ord(letter):04x}")
def test_what_no_eye_sees_is_shown(letter: str) -> None:
    assert visible(f"a{letter}b") == f"a{REPLACEMENT}b"


def test_letters_of_people_stay() -> None:
    for text in ("ann/dev", "Zoë's Büro", "名前", "имя", "[bold]x[/bold]", "100 %  \\x1b[31m", "🙂"):
        assert visible(text) == text


def test_an_over_long_text_is_cut() -> None:
    assert visible("x" * 10_000) == "x" * limits.MAX_SHOWN_TEXT + MORE
    assert visible("abc", 2) == "ab" + MORE


@given(st.text(st.characters(codec=None)))
def test_whatever_it_is_it_can_be_written_and_nothing_in_it_is_hidden(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert not any(map(is_hidden, shown))
    assert "\n" not in shown


@given(st.text())
def test_json_is_of_the_same_value(text: str) -> None:
    shown = json_visible(json.dumps({text: text}, ensure_ascii=False))
    assert json.loads(shown) == {text: text}
    assert not any(map(is_hidden, shown))
