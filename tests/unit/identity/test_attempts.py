"""Unknown tokens are counted per address and for everybody; who never failed is always let in."""

from coderd.identity.attempts import (
    BURST,
    GLOBAL_BURST,
    MAX_ADDRESSES,
    RATE,
    SITE_BURST,
    SITE_RATE,
    Attempts,
)
from coderd.model.origins import Origin


def test_an_address_has_its_burst_and_gets_more_with_time() -> None:
    attempts = Attempts()
    outcomes = [attempts.fail(Origin.of("192.0.2.1"), 0.0) for _ in range(int(BURST))]
    assert outcomes == [False] * (int(BURST) - 1) + [True]
    assert not attempts.allows(Origin.of("192.0.2.1"), 0.0)
    assert attempts.allows(Origin.of("192.0.2.2"), 0.0)
    assert attempts.allows(Origin.of("192.0.2.1"), 1 / RATE)


def test_when_everybodys_are_used_up_only_those_who_failed_are_refused() -> None:
    attempts = Attempts()
    for number in range(int(GLOBAL_BURST)):
        attempts.fail(Origin.of(f"10.0.0.{number}"), 0.0)
    assert not attempts.allows(Origin.of("10.0.0.1"), 0.0)
    assert attempts.allows(Origin.of("192.0.2.1"), 0.0)
    assert attempts.allows(Origin.of("10.0.0.1"), 60.0)


def test_what_is_remembered_is_bounded() -> None:
    attempts = Attempts()
    for number in range(MAX_ADDRESSES + 10):
        attempts.fail(Origin.of(str(number)), 0.0)
        attempts.fail(Origin.of(f"2001:db8:{number:x}::1"), 0.0)
    assert [len(buckets) for buckets in attempts._origins._buckets] == [MAX_ADDRESSES] * 2


def test_the_many_networks_of_one_site_have_one_burst_together() -> None:
    attempts = Attempts()
    outcomes = [
        attempts.fail(Origin.of(f"2001:db8:1:{number:x}::1"), 0.0) for number in range(int(SITE_BURST))
    ]
    assert outcomes == [False] * (int(SITE_BURST) - 1) + [True]
    assert not attempts.allows(Origin.of("2001:db8:1:ffff::1"), 0.0)
    assert attempts.allows(Origin.of("2001:db8:2::1"), 0.0)
    assert attempts.allows(Origin.of("2001:db8:1:ffff::1"), 1 / SITE_RATE)


def test_an_origin_is_a_network_and_a_site_of_ipv6_and_an_address_of_ipv4() -> None:
    assert Origin.of("2001:db8:1:2:3::4%eth0") == Origin("2001:db8:1:2::/64", "2001:db8:1::/48")
    assert Origin.of("::ffff:192.0.2.1") == Origin("192.0.2.1")
    assert Origin.of("192.0.2.1") == Origin("192.0.2.1")
    assert Origin.of("") == Origin("")
