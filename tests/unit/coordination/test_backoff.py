"""Waits double from 50 ms to 10 s, jittered, and shorten only after a steady connection."""

from coderd.coordination.backoff import FIRST, LONGEST, STEADY, Backoff


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(lambda n: b"\xff" * n)
    delays = [backoff.next_delay() for _ in range(12)]
    assert [round(delay, 2) for delay in delays[:4]] == [0.05, 0.1, 0.2, 0.4]
    assert round(max(delays), 2) == LONGEST
    assert backoff.attempts == 12


def test_jitter_never_halves_more_than_half() -> None:
    backoff = Backoff(lambda n: bytes(n))
    assert backoff.next_delay() == FIRST / 2


def test_a_server_that_hangs_up_at_once_is_not_dialled_faster() -> None:
    backoff = Backoff(lambda n: b"\xff" * n)
    for _ in range(20):
        delay = backoff.next_delay()
        backoff.handle_connection(0.1)
    assert round(delay, 2) == LONGEST
    backoff.handle_connection(STEADY)
    assert round(backoff.next_delay(), 2) == FIRST
