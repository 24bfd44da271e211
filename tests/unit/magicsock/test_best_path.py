"""Trust in the best path, on a literal clock."""

from coderd.magicsock.best_path import BestPath
from coderd.magicsock.path import PathQuality
from coderd.magicsock.path_state import PathState

NEAR = PathQuality(("198.51.100.1", 1), 0.010, 1312)
FAR = PathQuality(("198.51.100.2", 1), 0.050, 1312)


def test_a_pong_is_trusted_for_six_and_a_half_seconds() -> None:
    best = BestPath()
    best.handle_pong(NEAR, 100.0)
    assert best.is_trusted(106.49)
    assert not best.is_trusted(106.5)
    assert best.addr == NEAR.addr


def test_while_trusted_only_a_better_path_takes_over() -> None:
    best = BestPath()
    best.handle_pong(NEAR, 100.0)
    best.handle_pong(FAR, 101.0)
    assert best.addr == NEAR.addr
    assert best.trust_until == 106.5


def test_once_trust_has_ended_any_answer_wins() -> None:
    best = BestPath()
    best.handle_pong(NEAR, 100.0)
    best.handle_pong(FAR, 106.5)
    assert best.addr == FAR.addr
    best.handle_pong(NEAR, 106.6)
    assert best.addr == NEAR.addr


def test_silence_raises_doubt_soon_and_two_seconds_more_end_trust() -> None:
    best = BestPath()
    best.handle_pong(NEAR, 100.0)
    assert not best.doubt_if_silent(100.2)
    assert best.doubt_if_silent(100.4)
    assert best.state(100.4) is PathState.DOUBT
    assert not best.doubt_if_silent(100.5)
    assert not best.is_lost(102.3)
    assert best.is_lost(102.5)
    best.end_trust(102.5)
    assert best.state(102.5) is not PathState.DIRECT
    assert best.addr == NEAR.addr


def test_a_path_in_doubt_is_suspect_before_it_is_lost_and_then_any_answer_wins() -> None:
    best = BestPath()
    best.handle_pong(NEAR, 100.0)
    assert best.doubt_if_silent(101.0)
    assert best.state(101.05) is PathState.DOUBT
    best.handle_pong(FAR, 101.05)
    assert best.addr == NEAR.addr
    assert best.state(101.2) is PathState.SUSPECT
    best.handle_pong(FAR, 101.2)
    assert best.addr == FAR.addr
    assert best.state(101.4) is PathState.DIRECT


def test_a_peer_heard_elsewhere_has_deserted_a_path_that_is_silent_meanwhile() -> None:
    best = BestPath()
    best.handle_pong(NEAR, 100.0)
    assert not best.doubt_if_deserted(100.05)
    best.handle_heard(NEAR.addr, 100.2)
    assert not best.doubt_if_deserted(100.25)
    assert not best.doubt_if_deserted(107.0)
    best.handle_pong(NEAR, 110.0)
    assert best.doubt_if_deserted(110.2)


def test_data_from_the_path_delays_doubt_but_does_not_end_it() -> None:
    best = BestPath()
    best.handle_pong(NEAR, 100.0)
    best.handle_heard(NEAR.addr, 101.5)
    assert not best.doubt_if_silent(101.7)
    assert best.doubt_if_silent(102.6)
    best.handle_heard(NEAR.addr, 104.0)
    assert best.is_lost(104.7)


def test_a_pong_ends_doubt() -> None:
    best = BestPath()
    best.handle_pong(NEAR, 100.0)
    assert best.doubt_if_silent(102.0)
    best.handle_pong(NEAR, 103.9)
    assert not best.is_in_doubt
    assert not best.is_lost(105.0)


def test_a_slow_path_is_given_four_round_trips() -> None:
    best = BestPath()
    best.handle_pong(PathQuality(("198.51.100.3", 1), 0.8, 1312), 100.0)
    assert best.doubt_if_silent(102.0)
    assert not best.is_lost(105.1)
    assert best.is_lost(105.3)


def test_the_state_follows_the_clock_alone() -> None:
    best = BestPath()
    assert best.state(99.0) is PathState.IDLE
    best.note_wanted(100.0)
    assert best.state(145.0) is PathState.LOOKING
    assert best.state(145.1) is PathState.IDLE
    best.note_wanted(150.0)
    best.handle_pong(NEAR, 151.0)
    assert best.state(157.4) is PathState.DIRECT
    assert best.state(157.5) is PathState.LOOKING
    assert best.state(195.1) is PathState.IDLE


def test_a_path_that_is_withdrawn_is_looked_for_again() -> None:
    best = BestPath()
    best.note_wanted(100.0)
    best.handle_pong(NEAR, 100.0)
    best.clear()
    assert best.state(100.1) is PathState.LOOKING
    assert best.trust_until is None
