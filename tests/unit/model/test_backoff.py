"""Waits double from 50 ms to the longest, jittered, and shorten after a steady connection or a hope."""

from coderd.model.backoff import BRISK, BRISK_FOR, FIRST, STEADY, Backoff

LONGEST = 10.0


def test_waits_double_up_to_a_second_stay_there_for_a_while_and_grow_on() -> None:
    backoff = Backoff(lambda n: b"\xff" * n, longest=LONGEST)
    delays = [backoff.next_delay() for _ in range(50)]
    assert [round(delay, 2) for delay in delays[:6]] == [0.05, 0.1, 0.2, 0.4, 0.8, BRISK]
    brisk = [delay for delay in delays if delay < 1.001 * BRISK]
    assert delays[: len(brisk)] == brisk
    assert BRISK_FOR < sum(brisk) < BRISK_FOR + 2 * BRISK
    assert [round(delay) for delay in delays[len(brisk) :][:4]] == [2, 4, 8, LONGEST]
    assert round(max(delays), 2) == LONGEST
    assert backoff.attempts == 50


def test_jitter_never_halves_more_than_half() -> None:
    backoff = Backoff(lambda n: bytes(n), longest=LONGEST)
    assert backoff.next_delay() == FIRST / 2


def test_a_server_that_hangs_up_at_once_is_not_dialled_faster() -> None:
    backoff = Backoff(lambda n: b"\xff" * n, longest=LONGEST)
    for _ in range(50):
        delay = backoff.next_delay()
        backoff.handle_connection_ended(0.1)
    assert round(delay, 2) == LONGEST
    backoff.handle_connection_ended(STEADY)
    assert round(backoff.next_delay(), 2) == FIRST


def test_a_reason_to_hope_shortens_the_next_wait() -> None:
    backoff = Backoff(lambda n: b"\xff" * n, longest=5.0)
    assert round([backoff.next_delay() for _ in range(50)][-1], 2) == 5.0
    backoff.reset()
    assert round(backoff.next_delay(), 2) == FIRST
