"""Places are shared: nobody takes all of them, and whoever has fewest comes first."""

import random
from collections import Counter

import pytest

from coderd.model.seats import NoSeat, Seats


def test_a_person_has_a_limit_of_their_own() -> None:
    seats = Seats[int](limit=10, limit_each=3)
    assert [seats.take("bob", place) for place in range(3)] == [None] * 3
    with pytest.raises(NoSeat):
        seats.take("bob", 3)
    assert seats.take("ann", 4) is None
    seats.leave(0)
    assert seats.take("bob", 5) is None
    assert len(seats) == 4


def test_where_all_are_taken_a_newcomer_takes_the_newest_of_whoever_has_most() -> None:
    seats = Seats[int](limit=6, limit_each=4)
    for place in range(4):
        seats.take("bob", place)
    seats.take("eve", 4)
    seats.take("eve", 5)
    assert seats.take("ann", 6) == 3
    assert seats.take("ann", 7) == 2
    with pytest.raises(NoSeat):
        seats.take("ann", 8)  # everybody has two
    assert len(seats) == 6


def test_of_those_who_wait_a_persons_own_oldest_goes() -> None:
    seats = Seats[int](limit=10, limit_each=2, displaces_own=True)
    assert [seats.take("bob", place) for place in range(4)] == [None, None, 0, 1]


def test_a_place_that_was_given_away_is_nobodys_to_free() -> None:
    seats = Seats[int](limit=10, limit_each=1, displaces_own=True)
    seats.take("bob", 1)
    assert seats.take("bob", 2) == 1
    seats.leave(1)
    assert len(seats) == 1
    assert seats.take("bob", 3) == 2


def test_whatever_comes_and_goes_the_limits_hold_and_who_has_little_is_let_in() -> None:
    rng = random.Random(11)
    seats, taken = Seats[int](limit=20, limit_each=12), dict[int, str]()
    for place in range(5000):
        if taken and rng.random() < 0.3:
            gone = rng.choice(list(taken))
            seats.leave(gone)
            del taken[gone]
        person = rng.choice("aaaaaaab")
        n_own = Counter(taken.values())[person]
        try:
            displaced = seats.take(person, place)
        except NoSeat:
            assert n_own >= 9, "half of the places, less one"
            continue
        if displaced is not None:
            del taken[displaced]
        taken[place] = person
        counts = Counter(taken.values())
        assert len(seats) == len(taken) <= 20
        assert max(counts.values()) <= 12
