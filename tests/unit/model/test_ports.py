"""Sets of ports: what people write, and the one canonical text of each set."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.model.ports import ALL_PORTS, MAX_RANGES, NO_PORTS, parse_ports, port_set


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("all", "all"),
        ("none", "none"),
        ("22", "22"),
        (" 22 , 80 ", "22,80"),
        ("80,22", "22,80"),
        ("8000-8999,22", "22,8000-8999"),
        ("1-10,5-20,21", "1-21"),
    ],
)
def test_a_list_of_ports_is_read_and_written_in_canonical_form(text: str, canonical: str) -> None:
    assert str(parse_ports(text)) == canonical
    assert parse_ports(canonical) == parse_ports(text)


@pytest.mark.parametrize("text", ["", "0", "65536", "22,", "9-8", "-1", "ssh", "1-", "٣", "9" * 900, "1--2"])
def test_what_is_no_list_of_ports_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        parse_ports(text)


def test_all_holds_every_port_and_none_holds_none() -> None:
    assert 0 in ALL_PORTS
    assert 65_535 in ALL_PORTS
    assert 22 not in NO_PORTS
    assert not NO_PORTS


def test_too_many_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="ranges"):
        port_set((port, port) for port in range(1, 4 * MAX_RANGES, 2))


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 40)), max_size=20))
def test_a_set_holds_exactly_the_ports_of_its_ranges(pairs: list[tuple[int, int]]) -> None:
    ranges = [(first, first + length) for first, length in pairs]
    ports = port_set(ranges)
    assert [port for port in range(400) if port in ports] == sorted(
        {port for first, last in ranges for port in range(first, last + 1)}
    )
    assert parse_ports(str(ports)) == ports


@given(st.text(max_size=30))
def test_any_text_is_a_set_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert parse_ports(str(parse_ports(text))) == parse_ports(text)
