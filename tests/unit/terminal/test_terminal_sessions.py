"""Whose shells there are: who may come back to which, and when one has waited long enough."""

from itertools import count

import pytest

from coderd.model.errors import UserError
from coderd.terminal.sessions import MAX_GRACE, Sessions


def tokens() -> Sessions:
    numbers = count(1)
    return Sessions(
        lambda n: next(numbers).to_bytes(n), limit=3, limit_per_peer=2, reserved=0, lifetime=100.0
    )


def test_a_token_opens_its_owners_session_alone() -> None:
    sessions = tokens()
    session = sessions.open("ann", 0.0)
    assert sessions.find("ann", session.token) is session
    with pytest.raises(UserError):
        sessions.find("bob", session.token)


def test_sessions_are_bounded_for_each_owner_and_in_all() -> None:
    sessions = tokens()
    sessions.open("ann", 0.0)
    sessions.open("ann", 0.0)
    with pytest.raises(UserError):
        sessions.open("ann", 0.0)
    sessions.open("bob", 0.0)
    with pytest.raises(UserError):
        sessions.open("bob", 0.0)


def test_a_session_that_nobody_comes_back_to_expires_and_one_that_is_used_does_not() -> None:
    sessions = tokens()
    left, used = sessions.open("ann", 0.0), sessions.open("ann", 0.0)
    number = sessions.attach(left)
    sessions.attach(used)
    sessions.detach(left, number, 10.0)
    assert sessions.expired(109.0) == []
    assert sessions.expired(110.0) == [left]


def test_a_session_whose_owner_may_not_come_any_more_is_forsaken_at_once_be_it_used_or_not() -> None:
    sessions = tokens()
    used, left, other = sessions.open("ann", 0.0), sessions.open("ann", 0.0), sessions.open("bob", 0.0)
    sessions.attach(used)
    assert sessions.forsaken(lambda owner: True, 1.0) == []
    assert sessions.forsaken(lambda owner: owner == "bob", 2.0) == [used, left]
    assert other not in sessions.forsaken(lambda owner: owner == "bob", 3.0)


def test_a_grace_outlasts_a_server_that_starts_anew_and_is_not_longer_than_allowed() -> None:
    sessions = tokens()
    session, greedy = sessions.open("server", 0.0, grace=30.0), sessions.open("server", 0.0, grace=1e9)
    assert greedy.grace == MAX_GRACE
    assert sessions.forsaken(lambda owner: False, 10.0) == []
    assert sessions.forsaken(lambda owner: True, 35.0) == []  # it is back, and has all of its grace again
    assert sessions.forsaken(lambda owner: False, 40.0) == []
    assert sessions.forsaken(lambda owner: False, 69.0) == []
    assert sessions.forsaken(lambda owner: False, 70.0) == [session]
