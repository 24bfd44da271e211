"""What two sightings say of the ports between them."""

import pytest

from coderd.magicsock.port_sequence import LARGEST_STEP, MOST_PREDICTED, RANDOM_FOR, TRIES, PortSequence

T = 1000.0


@pytest.mark.parametrize(
    ("first", "last", "n_between", "expected"),
    [
        (20000, 20002, 1, (20001,)),
        (20000, 20006, 2, (20002, 20004)),
        (20000, 20768, 2, (20256, 20512)),
        (20000, 19998, 1, (19999,)),
        (65535, 1, 2, ()),
        (65534, 2, 1, ()),
        (65533, 3, 2, (65535, 1)),
        (20000, 20000, 1, ()),
        (20000, 50000, 1, ()),
        (20000, 20003, 1, ()),
    ],
)
def test_equal_steps_and_small_ones_are_a_sequence(
    first: int, last: int, n_between: int, expected: tuple[int, ...]
) -> None:
    assert PortSequence().predict(first, last, n_between, T) == expected


def test_once_the_step_is_known_others_flows_in_the_row_only_widen_it() -> None:
    sequence = PortSequence()
    sequence.predict(100, 102, 1, T)
    assert sequence.predict(200, 203, 1, T) == (201, 202)
    assert sequence.predict(300, 301 + MOST_PREDICTED, 1, T) == tuple(range(301, 301 + MOST_PREDICTED))
    assert sequence.step == 1


def test_three_rows_without_sequence_make_it_random_for_a_while() -> None:
    sequence = PortSequence()
    for _ in range(TRIES):
        assert not sequence.is_random(T)
        sequence.predict(1000, 40000, 1, T)
    assert sequence.is_random(T)
    assert sequence.is_random(T + RANDOM_FOR - 1)
    assert not sequence.is_random(T + RANDOM_FOR)
    sequence.predict(1000, 40000, 1, T + RANDOM_FOR)
    assert not sequence.is_random(T + RANDOM_FOR)


def test_a_row_with_a_sequence_or_another_network_begins_the_count_anew() -> None:
    sequence = PortSequence()
    sequence.predict(1000, 40000, 1, T)
    sequence.predict(1000, 40000, 1, T)
    sequence.predict(1000, 1002, 1, T)
    sequence.predict(1000, 40000, 1, T)
    assert not sequence.is_random(T)
    sequence.predict(1000, 40000, 1, T)
    sequence.predict(1000, 40000, 1, T)
    assert sequence.is_random(T)
    sequence.forget()
    assert not sequence.is_random(T)
    assert sequence.step is None


def test_a_step_is_no_larger_than_real_ones() -> None:
    assert PortSequence().predict(10, 10 + 2 * LARGEST_STEP, 1, T)
    assert not PortSequence().predict(10, 10 + 2 * (LARGEST_STEP + 1), 1, T)
