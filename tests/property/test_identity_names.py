"""Any host name becomes a usable label; no text passes for one that is none."""

import re

from hypothesis import given
from hypothesis import strategies as st

from coderd.identity.people import BadName, check_label, device_label, numbered_label
from coderd.identity.tokens import hash_token, token_kind

LABEL = re.compile(r"\A(?!-)[a-z0-9-]{1,63}(?<!-)\Z")


@given(st.text(max_size=300))
def test_any_host_name_becomes_a_label(host: str) -> None:
    assert LABEL.match(check_label(device_label(host)))


@given(st.text(alphabet="aZ0-_. é\n", max_size=70))
def test_a_name_is_accepted_exactly_if_it_is_a_label(name: str) -> None:
    try:
        accepted = check_label(name) == name
    except BadName:
        accepted = False
    assert accepted == bool(LABEL.match(name))


@given(st.from_regex(LABEL, fullmatch=True), st.integers(1, 1000))
def test_a_numbered_label_is_a_label(label: str, number: int) -> None:
    assert LABEL.match(check_label(numbered_label(label, number)))


@given(st.text(max_size=200).filter(lambda text: text.isprintable()))
def test_any_text_has_a_kind_or_none(text: str) -> None:
    token_kind(text)
    assert len(hash_token(text)) == 32
