"""Shared room: nobody takes another's part."""

from hypothesis import given
from hypothesis import strategies as st

from coderd.model.fair import FairQueue, fair_excess

counts = st.dictionaries(st.integers(), st.integers(0, 200), max_size=20)


@given(counts, st.integers(0, 500))
def test_what_is_left_fits_and_who_has_a_fair_part_keeps_it(counts: dict[int, int], room: int) -> None:
    excess = fair_excess(counts, room)
    left = {key: n - excess.get(key, 0) for key, n in counts.items()}
    assert sum(left.values()) <= room
    assert all(n >= 0 for n in left.values())
    if counts:
        assert all(left[key] == n for key, n in counts.items() if n <= room // len(counts))
    if sum(counts.values()) <= room:
        assert excess == {}
    elif excess:
        assert sum(left.values()) > room - len(counts)


def test_who_floods_a_queue_loses_their_own() -> None:
    queue = FairQueue[str, int](4)
    assert [queue.push("eve", number) for number in range(6)] == [True] * 4 + [False] * 2
    assert not queue.push("ann", 100)
    assert not queue.push("ann", 101)
    assert not queue.push("ann", 102)
    assert len(queue) == 4
    assert queue.take_all() == [0, 1, 100, 101]
    assert queue.take_all() == []
    assert queue.push("ann", 103)
