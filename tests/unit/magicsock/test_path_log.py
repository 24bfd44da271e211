"""How long a direct path took to find, and how often the path changed while somebody cared."""

from coderd.magicsock.peer_state import PathLog
from coderd.model.paths import PathKind

NONE, RELAY, DIRECT = PathKind.NONE, PathKind.RELAY, PathKind.DIRECT
ADDR, OTHER = ("198.51.100.1", 41641), ("203.0.113.9", 1234)


def test_time_to_direct_counts_from_the_wish_not_from_when_the_peer_was_known() -> None:
    log = PathLog(0.0)
    log.note(RELAY, 7, 1.0, wanted_since=None)
    log.note(DIRECT, ADDR, 100.5, wanted_since=100.0)
    info = log.info(0.01)
    assert (info.time_to_direct, info.n_changes, info.since) == (0.5, 1, 100.5)


def test_it_counts_from_the_loss_of_the_last_one_and_another_address_is_no_new_one() -> None:
    log = PathLog(0.0)
    log.note(DIRECT, ADDR, 1.0, wanted_since=0.0)
    log.note(DIRECT, OTHER, 5.0, wanted_since=0.0)
    assert log.info(None).time_to_direct == 1.0
    log.note(RELAY, 7, 10.0, wanted_since=0.0)
    log.note(RELAY, 8, 11.0, wanted_since=0.0)
    assert log.info(None).time_to_direct is None
    log.note(DIRECT, ADDR, 12.0, wanted_since=0.0)
    assert log.info(None).time_to_direct == 2.0


def test_what_changes_while_nobody_cares_is_not_counted() -> None:
    log = PathLog(0.0)
    for via in (7, 8):
        log.note(RELAY, via, 1.0, wanted_since=None)
    log.note(DIRECT, ADDR, 2.0, wanted_since=None)
    log.note(RELAY, 7, 3.0, wanted_since=None)
    assert (log.info(None).n_changes, log.info(None).time_to_direct) == (0, None)
