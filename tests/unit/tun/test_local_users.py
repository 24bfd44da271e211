"""Which users are none of those that are named."""

import random

import pytest

from coderd.tun.io.local_users import LAST_UID, excluded


@pytest.mark.parametrize(
    ("allowed", "ranges"),
    [
        ([], [(0, LAST_UID)]),
        ([0], [(1, LAST_UID)]),
        ([0, 1, 1000], [(2, 999), (1001, LAST_UID)]),
        ([LAST_UID], [(0, LAST_UID - 1)]),
    ],
)
def test_the_rest_are_ranges(allowed: list[int], ranges: list[tuple[int, int]]) -> None:
    assert excluded(allowed) == ranges


def test_whoever_is_not_named_is_in_one_range_and_nobody_who_is() -> None:
    rng = random.Random(4)
    for _ in range(200):
        allowed = {rng.randrange(40) for _ in range(rng.randrange(20))}
        ranges = excluded(allowed)
        for uid in range(45):
            assert sum(first <= uid <= last for first, last in ranges) == (uid not in allowed)
