"""Unknown tokens are counted per address and for everybody; who never failed is always let in."""

from coderd.identity.attempts import BURST, GLOBAL_BURST, MAX_ADDRESSES, RATE, Attempts


def test_an_address_has_its_burst_and_gets_more_with_time() -> None:
    attempts = Attempts(0.0)
    outcomes = [attempts.fail("192.0.2.1", 0.0) for _ in range(int(BURST))]
    assert outcomes == [False] * (int(BURST) - 1) + [True]
    assert not attempts.allows("192.0.2.1", 0.0)
    assert attempts.allows("192.0.2.2", 0.0)
    assert attempts.allows("192.0.2.1", 1 / RATE)


def test_when_everybodys_are_used_up_only_those_who_failed_are_refused() -> None:
    attempts = Attempts(0.0)
    for number in range(int(GLOBAL_BURST)):
        attempts.fail(f"10.0.0.{number}", 0.0)
    assert not attempts.allows("10.0.0.1", 0.0)
    assert attempts.allows("192.0.2.1", 0.0)
    assert attempts.allows("10.0.0.1", 60.0)


def test_what_is_remembered_is_bounded() -> None:
    attempts = Attempts(0.0)
    for number in range(MAX_ADDRESSES + 10):
        attempts.fail(str(number), 0.0)
    assert len(attempts._addresses) == MAX_ADDRESSES
