"""The server's word is good for so long, across restarts and clocks that step."""

import pytest

from coderd.daemon.authority import Authority

DAY = 86400.0


def test_the_servers_word_ends_a_day_after_it_was_heard() -> None:
    authority = Authority(DAY, heard_at=0.0, now=100.0, unix_now=1e9)
    authority.hear(1000.0)
    assert not authority.has_expired(1000.0 + DAY - 1)
    assert authority.has_expired(1000.0 + DAY)
    authority.hear(1000.0 + DAY)
    assert not authority.has_expired(1000.0 + DAY)


@pytest.mark.parametrize(
    ("heard_at", "expired"),
    [(1e9 - DAY, True), (1e9 - DAY + 1, False), (1e9 + 5 * DAY, False), (0.0, False)],
    ids=["a day ago", "almost", "the clock was set back", "nobody knows"],
)
def test_what_an_earlier_process_heard_counts(heard_at: float, expired: bool) -> None:
    authority = Authority(DAY, heard_at=heard_at, now=100.0, unix_now=1e9)
    assert authority.has_expired(100.0) is expired


def test_without_a_limit_it_never_ends() -> None:
    assert not Authority(0.0, heard_at=1.0, now=0.0, unix_now=1e9).has_expired(1e9)


def test_it_says_when_in_wall_clock_seconds() -> None:
    authority = Authority(DAY, heard_at=0.0, now=100.0, unix_now=1e9)
    authority.hear(110.0)
    assert authority.heard_at(130.0, 1e9 + 30) == 1e9 + 10
