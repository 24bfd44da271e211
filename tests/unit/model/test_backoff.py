"""Waits double from 50 ms to the longest, jittered, and shorten after a steady connection or a word of hope."""

from coderd.model.backoff import FIRST, STEADY, Backoff

LONGEST = 10.0


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(lambda n: b"\xff" * n, longest=LONGEST)
    delays = [backoff.next_delay() for _ in range(12)]
    assert [round(delay, 2) for delay in delays[:4]] == [0.05, 0.1, 0.2, 0.4]
    assert round(max(delays), 2) == LONGEST
    assert backoff.attempts == 12


def test_jitter_never_halves_more_than_half() -> None:
    backoff = Backoff(lambda n: bytes(n), longest=LONGEST)
    assert backoff.next_delay() == FIRST / 2


def test_a_server_that_hangs_up_at_once_is_not_dialled_faster() -> None:
    backoff = Backoff(lambda n: b"\xff" * n, longest=LONGEST)
    for _ in range(20):
        delay = backoff.next_delay()
        backoff.handle_connection_ended(0.1)
    assert round(delay, 2) == LONGEST
    backoff.handle_connection_ended(STEADY)
    assert round(backoff.next_delay(), 2) == FIRST


def test_a_reason_to_hope_shortens_the_next_wait() -> None:
    backoff = Backoff(lambda n: b"\xff" * n, longest=5.0)
    assert round([backoff.next_delay() for _ in range(12)][-1], 2) == 5.0
    backoff.reset()
    assert round(backoff.next_delay(), 2) == FIRST
