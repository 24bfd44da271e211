import os

import pytest

from coderd.model.account import Account, check_account
from coderd.model.errors import Exit, UserError
from coderd.terminal.sessions import Sessions

ANN = Account("ann", 1000, 1000, "/home/ann", "/bin/bash")
ROOT = Account("root", 0, 0, "/root", "/bin/bash")


def test_a_session_is_found_by_its_owner_with_its_token_alone() -> None:
    sessions = Sessions(os.urandom)
    one = sessions.open("laptop", 0.0)
    assert sessions.find("laptop", one.token) is one
    for owner, token in (("phone", one.token), ("laptop", bytes(16)), ("laptop", b"")):
        with pytest.raises(UserError):
            sessions.find(owner, token)


def test_there_are_limits_for_each_peer_and_for_all() -> None:
    sessions = Sessions(os.urandom, limit=3, limit_per_peer=2, reserved=0)
    first = sessions.open("a", 0.0)
    sessions.open("a", 0.0)
    with pytest.raises(UserError, match="too many"):
        sessions.open("a", 0.0)
    sessions.open("b", 0.0)
    with pytest.raises(UserError, match="too many"):
        sessions.open("c", 0.0)
    sessions.close(first)
    sessions.open("c", 0.0)


def test_a_session_ends_a_while_after_the_newest_who_was_attached_has_gone() -> None:
    sessions = Sessions(os.urandom, lifetime=10)
    session = sessions.open("a", 0.0)
    first, second = sessions.attach(session), sessions.attach(session)
    sessions.detach(session, first, 1.0)
    assert not sessions.expired(1000.0)
    sessions.detach(session, second, 1000.0)
    assert not sessions.expired(1009.0)
    assert sessions.expired(1010.0) == [session]


@pytest.mark.parametrize(
    ("account", "daemon_uid", "is_asked_for"),
    [(ROOT, 0, False), (ANN, 1000, False), (ANN, 990, True), (None, 0, True)],
    ids=["root unasked", "the daemon's own unasked", "another's without root", "nobody"],
)
def test_accounts_that_shells_must_not_have_are_refused(
    account: Account | None, daemon_uid: int, is_asked_for: bool
) -> None:
    with pytest.raises(UserError) as caught:
        check_account(account, daemon_uid=daemon_uid, is_asked_for=is_asked_for)
    assert caught.value.exit_code == Exit.USAGE


@pytest.mark.parametrize(("account", "daemon_uid"), [(ROOT, 0), (ANN, 1000), (ANN, 0)])
def test_an_account_that_was_named_is_taken(account: Account, daemon_uid: int) -> None:
    assert check_account(account, daemon_uid=daemon_uid, is_asked_for=True) is account


def test_the_machines_of_one_person_share_what_one_person_may_have() -> None:
    sessions = Sessions(os.urandom, limit=9, limit_per_peer=2, limit_per_person=3, reserved=0)
    sessions.open("laptop", 0.0, person="bob")
    sessions.open("laptop", 0.0, person="bob")
    sessions.open("tablet", 0.0, person="bob")
    with pytest.raises(UserError, match="too many"):
        sessions.open("phone", 0.0, person="bob")
    sessions.open("desktop", 0.0, person="ann")


def test_guests_leave_room_for_the_owner_of_the_workspace_however_many_they_are() -> None:
    sessions = Sessions(os.urandom, limit=4, limit_per_peer=4, limit_per_person=4, reserved=2)
    for guest in ("bob", "eve"):
        sessions.open(f"{guest}'s", 0.0, person=guest)
    with pytest.raises(UserError, match="too many"):
        sessions.open("mallory's", 0.0, person="mallory")
    sessions.open("laptop", 0.0, person="ann", is_hosts=True)
    sessions.open("laptop", 0.0, person="ann", is_hosts=True)
    with pytest.raises(UserError, match="too many"):
        sessions.open("laptop", 0.0, person="ann", is_hosts=True)
