"""Who may ask whether a key is a node's: relays elsewhere, however many strangers ask as well."""

import pytest

from coderd.model.origins import Origin
from coderd.server.relay.verify import ALL, OF_SITE, OF_SOURCE, Askers

RELAY = Origin.of("192.0.2.1")


@pytest.mark.slow
def test_one_address_or_site_does_not_use_up_the_questions_of_relays() -> None:
    askers = Askers()
    assert sum(askers.take(Origin.of("198.51.100.1"), 0.0) for _ in range(10_000)) == OF_SOURCE.burst
    site = (Origin.of(f"2001:db8:1:{number:x}::1") for number in range(10_000))
    assert sum(askers.take(origin, 0.0) for origin in site) == OF_SITE.burst
    assert askers.take(RELAY, 0.0)


def test_a_relay_that_has_asked_for_a_node_has_a_share_that_strangers_cannot_use_up() -> None:
    askers = Askers()
    assert askers.take(RELAY, 0.0)
    askers.note_yes(RELAY, 0.0)
    strangers = (Origin.of(f"10.0.{number >> 8}.{number & 255}") for number in range(10_000))
    assert sum(askers.take(origin, 0.0) for origin in strangers) == ALL.burst - 1
    assert not askers.take(Origin.of("192.0.2.2"), 0.0)
    assert askers.take(RELAY, 0.0)


def test_what_was_right_to_ask_is_not_counted_against_a_relay() -> None:
    askers = Askers()
    for _ in range(int(OF_SOURCE.burst) + 100):
        assert askers.take(RELAY, 0.0)
        askers.note_yes(RELAY, 0.0)
