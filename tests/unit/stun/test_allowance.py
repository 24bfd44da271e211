"""Answers that are larger than their questions, on a literal clock."""

from coderd.stun.allowance import ALL_BURST, BURST, MAX_SOURCES, RATE, Allowance

T = 1000.0
VICTIM = "198.51.100.7"


def test_what_is_no_larger_is_always_answered() -> None:
    allowance = Allowance()
    assert all(allowance.admits(VICTIM, 40, 32, T) for _ in range(10_000))
    assert all(allowance.admits("2001:db8::7", 40, 44, T) for _ in range(10_000))
    assert len(allowance) == 0


def test_one_source_gets_few_larger_answers() -> None:
    allowance = Allowance()
    assert sum(allowance.admits(VICTIM, 20, 32, T) for _ in range(1000)) == BURST
    assert allowance.admits("198.51.100.8", 20, 32, T)
    assert sum(allowance.admits(VICTIM, 20, 32, T + 2) for _ in range(1000)) == 2 * RATE


def test_an_ipv6_network_is_one_source_and_a_mapped_address_is_ipv4() -> None:
    allowance = Allowance()
    assert sum(allowance.admits(f"2001:db8::{i:x}", 20, 44, T) for i in range(1000)) == BURST
    assert sum(allowance.admits(f"::ffff:198.51.100.{i}", 20, 32, T) for i in range(100)) == 100


def test_all_sources_together_get_no_more_than_a_server_sends_gladly() -> None:
    allowance = Allowance()
    n_sent = sum(
        allowance.admits(f"10.{i // 65536}.{i // 256 % 256}.{i % 256}", 20, 32, T) for i in range(9000)
    )
    assert n_sent == ALL_BURST
    assert len(allowance) == MAX_SOURCES
    assert allowance.admits(VICTIM, 40, 32, T)
