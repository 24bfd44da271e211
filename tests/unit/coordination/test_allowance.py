"""How many messages a node may send.

So many at once, so many a second, and an answer to each that calls for one.
"""

from coderd.coordination.io.node_link import MESSAGE_BURST, MESSAGE_RATE
from coderd.model.token_bucket import TokenBucket


def test_a_burst_is_taken_and_then_so_many_a_second() -> None:
    allowance = TokenBucket(MESSAGE_RATE, MESSAGE_BURST, 100.0)
    assert all(allowance.take(1, 100.0) for _ in range(int(MESSAGE_BURST)))
    assert not allowance.take(1, 100.0)
    later = 100.0 + 3 / MESSAGE_RATE
    assert [allowance.take(1, later) for _ in range(4)] == [True, True, True, False]


def test_who_is_told_of_thousands_may_confirm_each_of_them() -> None:
    allowance = TokenBucket(MESSAGE_RATE, MESSAGE_BURST, 100.0)
    for _ in range(5000):
        allowance.give(1, 100.0)
        assert allowance.take(1, 100.0)


def test_what_was_granted_and_not_used_is_no_bigger_burst() -> None:
    allowance = TokenBucket(MESSAGE_RATE, MESSAGE_BURST, 100.0)
    for _ in range(5000):
        allowance.give(1, 100.0)
    assert sum(allowance.take(1, 100.0) for _ in range(1000)) == MESSAGE_BURST
