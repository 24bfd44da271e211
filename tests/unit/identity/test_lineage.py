"""What is given can be taken back: what ends with a token, what does not, and what ends by itself."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from coderd.identity.apps import App
from coderd.identity.effects import Effects
from coderd.identity.io.expiry import SESSIONS_AT_ONCE
from coderd.identity.io.store import Store
from coderd.identity.people import (
    Actor,
    AwaitsApproval,
    Enrolled,
    KeyTaken,
    NotFound,
    NotManaged,
    TimeIsUp,
    TokenGone,
    TooWide,
    User,
)
from coderd.identity.policy import DAY, Terms, end_of_made
from coderd.identity.tokens import TokenKind, TokenRecord, hash_token
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.paths import PathRule
from coderd.model.roles import Scope, UserRole
from tests.unit.identity.claims import claim_key

rng = random.Random(5).randbytes
NOW = 1_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def key() -> NodePublic:
    return NodePrivate.generate(rng).public()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = Store(tmp_path / "identity.db", clock=clock)
    yield store
    store.close()


def shown(store: Store, token: str) -> Actor:
    """Somebody who shows a token."""
    bearer = store.tokens.find(token)
    assert bearer is not None
    return Actor(bearer.user.name, bearer.user.user_id, "", bearer.record.token_id)


def make(store: Store, user: User, by: str, name: str = "", scope: Scope = Scope.ALL) -> str:
    """A session made with another."""
    return store.tokens.create(user, TokenKind.SESSION, name, scope=scope, by=shown(store, by)).result.token


def end_of(store: Store, token: str) -> float | None:
    bearer = store.tokens.find(token)
    assert bearer is not None
    return bearer.record.expires_at


# The rule

SIGN_IN = TokenRecord(UUID(int=1), TokenKind.SESSION, "", Scope.ALL, NOW, NOW + 60, is_sign_in=True)
MADE = TokenRecord(UUID(int=1), TokenKind.SESSION, "", Scope.ALL, NOW, NOW + 60)
EVER = TokenRecord(UUID(int=1), TokenKind.SESSION, "", Scope.ALL, NOW, None)


@pytest.mark.parametrize(
    ("maker", "wanted", "end"),
    [
        (SIGN_IN, None, NOW + 365 * DAY),
        (SIGN_IN, NOW + 400 * DAY, NOW + 365 * DAY),
        (SIGN_IN, NOW + 10, NOW + 10),
        (MADE, None, NOW + 60),
        (MADE, NOW + 400, NOW + 60),
        (MADE, NOW + 10, NOW + 10),
        (EVER, None, NOW + 365 * DAY),
    ],
)
def test_a_made_token_lives_as_long_as_its_maker_or_as_the_server_allows_a_sign_in(
    maker: TokenRecord, wanted: float | None, end: float
) -> None:
    assert end_of_made(maker, Scope.ALL, wanted, NOW, 365 * DAY) == end


@pytest.mark.parametrize("kind", TokenKind)
@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("wanted", Scope)
def test_a_made_token_is_never_wider_than_its_maker(kind: TokenKind, scope: Scope, wanted: Scope) -> None:
    maker = TokenRecord(UUID(int=1), kind, "", scope, NOW, None)
    if kind is TokenKind.SESSION and scope in (Scope.ALL, wanted):
        end_of_made(maker, wanted, None, NOW, DAY)
    else:
        with pytest.raises(TooWide):
            end_of_made(maker, wanted, None, NOW, DAY)


# In the store


def test_first_tokens_end_used_or_unused(store: Store, clock: Clock) -> None:
    given: list[str] = []
    store.users.create_first_owner("admin", given.append)
    ann, token = store.users.create("ann").result
    assert end_of(store, token) == end_of(store, given[0]) == NOW + 30 * DAY
    clock.now += 30 * DAY
    assert store.tokens.find(token) is store.tokens.find(given[0]) is None
    assert store.users.get("ann") == ann


def test_a_short_token_makes_only_short_ones(store: Store, clock: Clock) -> None:
    ann, token = store.users.create("ann").result
    short = store.tokens.create(
        ann, TokenKind.SESSION, "", expires_at=NOW + 2, by=shown(store, token)
    ).result.token
    child = make(store, ann, short)
    assert end_of(store, child) == NOW + 2
    join = store.tokens.create(ann, TokenKind.JOIN, "", by=shown(store, child)).result.record
    assert join.expires_at == NOW + 2
    clock.now += 2
    assert store.tokens.find(child) is None


def test_revoking_ends_what_was_made_with_it_however_deep(store: Store) -> None:
    ann, token = store.users.create("ann").result
    child = make(store, ann, token)
    grandchild = make(store, ann, child)
    join = store.tokens.create(ann, TokenKind.JOIN, "", by=shown(store, grandchild)).result.token
    browser = store.sessions.open(grandchild, "browser", lifetime=60.0).result
    sibling = make(store, ann, token)
    child_id = shown(store, child).token_id
    assert child_id is not None
    told = store.tokens.descent(ann, child_id)
    assert store.tokens.revoke(ann, child_id).result == told
    assert len(told) == 4
    for ended in (child, grandchild, join):
        assert store.tokens.find(ended) is None
    assert store.sessions.find(browser.hash) is None
    assert store.tokens.find(sibling) is not None
    assert store.tokens.find(token) is not None


def test_signing_out_ends_that_session_alone_and_cuts_no_chain(store: Store) -> None:
    ann, token = store.users.create("ann").result
    child = make(store, ann, token)
    grandchild = make(store, ann, child)
    assert store.sessions.sign_out(hash_token(child), by=Actor("ann")).result
    assert store.tokens.find(grandchild) is not None
    assert store.audit.page()[0].action == "session.end"
    first_id = shown(store, token).token_id
    assert first_id is not None
    store.tokens.revoke(ann, first_id)
    assert store.tokens.find(grandchild) is None


def test_a_session_that_has_expired_cuts_no_chain(store: Store, clock: Clock) -> None:
    ann, token = store.users.create("ann").result
    short = store.tokens.create(
        ann, TokenKind.SESSION, "", expires_at=NOW + 2, by=shown(store, token)
    ).result.token
    long = make(store, ann, token)
    clock.now += 31 * DAY
    assert store.tokens.find(token) is store.tokens.find(short) is None
    assert store.tokens.find(long) is not None


def test_nothing_is_made_with_a_token_that_has_been_revoked(store: Store) -> None:
    ann, token = store.users.create("ann").result
    child = make(store, ann, token)
    by = shown(store, child)
    assert by.token_id is not None
    store.tokens.revoke(ann, by.token_id)
    for act in (
        lambda: store.tokens.create(ann, TokenKind.SESSION, "", by=by),
        lambda: store.users.create("eve", by=by),
        lambda: store.sessions.issue(ann, by=by),
        lambda: store.nodes.create_workspace(ann, "dev", by=by),
        lambda: store.nodes.enrol_device(ann, "laptop", key(), by=by),
    ):
        with pytest.raises(TokenGone):
            act()
    assert [user.name for user in store.users.everybody()] == ["ann"]


def test_who_may_manage_somebody_is_asked_again_as_it_happens(store: Store) -> None:
    """Between the question and the act others change roles.

    An admin gets no sign-in of somebody who has become an owner.
    """
    admin, token = store.users.create("admin", role=UserRole.ADMIN).result
    bob = store.users.create("bob").result.user
    store.users.create("ann", role=UserRole.OWNER)
    by = shown(store, token)
    store.users.change(bob, role=UserRole.OWNER)
    for act in (
        lambda: store.sessions.issue(bob, by=by),
        lambda: store.users.change(bob, name="robert", by=by),
        lambda: store.users.delete(bob, by=by),
    ):
        with pytest.raises(NotManaged):
            act()
    carol = store.users.create("carol").result.user
    with pytest.raises(NotManaged):
        store.users.change(carol, role=UserRole.ADMIN, by=by)
    store.users.change(admin, role=UserRole.MEMBER)
    with pytest.raises(NotManaged):
        store.sessions.issue(carol, by=by)
    store.tokens.revoke(admin, by.token_id or UUID(int=0))
    with pytest.raises(TokenGone):
        store.users.change(admin, name="adam", by=by)


def test_nodes_and_others_sign_ins_end_with_a_token_only_where_that_is_asked_for(store: Store) -> None:
    owner, token = store.users.create("root", role=UserRole.OWNER).result
    child = make(store, owner, token)
    device = store.nodes.enrol_device(owner, "laptop", key(), by=shown(store, child)).result
    join = store.tokens.create(owner, TokenKind.JOIN, "", by=shown(store, child)).result.token
    space = store.tokens.redeem(join, "builder").result
    proven = key()
    claim_key(store, space.node, proven)
    ann, anns = store.users.create("ann", by=shown(store, child)).result
    child_id = shown(store, child).token_id
    assert child_id is not None
    assert len(store.tokens.descent(owner, child_id)) == 2
    assert len(store.tokens.descent(owner, child_id, is_whole=True)) == 5
    store.tokens.revoke(owner, child_id)
    for kept in (device.token, space.token, anns):
        assert store.tokens.find(kept) is not None
    first_id = shown(store, token).token_id
    assert first_id is not None
    assert len(store.tokens.descent(owner, first_id, is_whole=True)) == 4
    change = store.tokens.revoke(owner, first_id, is_whole=True)
    assert set(change.effects.expelled) == {device.node, space.node}
    assert change.effects.closed_keys == (proven,)
    for ended in (device.token, space.token, anns):
        assert store.tokens.find(ended) is None
    assert store.users.get("ann") == ann


def test_who_may_manage_somebody_no_more_does_not_end_their_sign_ins(store: Store) -> None:
    store.users.create("root", role=UserRole.OWNER)
    boss, token = store.users.create("boss", role=UserRole.ADMIN).result
    _, anns = store.users.create("ann", by=shown(store, token)).result
    store.users.change(boss, role=UserRole.MEMBER)
    boss_id = shown(store, token).token_id
    assert boss_id is not None
    assert len(store.tokens.revoke(boss, boss_id, is_whole=True).result) == 1
    assert store.tokens.find(anns) is not None


# Devices


def test_a_token_that_only_enrols_takes_over_no_device(store: Store) -> None:
    ann, token = store.users.create("ann").result
    enrols, machine = make(store, ann, token, scope=Scope.ENROL), key()
    first = store.nodes.enrol_device(ann, "laptop", machine, by=shown(store, enrols)).result
    with pytest.raises(Enrolled):
        store.nodes.enrol_device(ann, "laptop", machine, by=shown(store, enrols))
    other = store.nodes.enrol_device(ann, "tower", key(), by=shown(store, enrols)).result
    with pytest.raises(Enrolled):
        store.nodes.enrol_device(ann, "laptop", machine, own_token=other.token, by=shown(store, enrols))
    assert store.tokens.find(first.token) is not None
    again = store.nodes.enrol_device(
        ann, "laptop", machine, own_token=first.token, by=shown(store, enrols)
    ).result
    assert again.node == first.node
    assert store.nodes.enrol_device(ann, "laptop", machine, by=shown(store, token)).result.node == first.node


def test_a_devices_time_ends_at_its_moment_and_it_comes_back_by_signing_in(
    tmp_path: Path, clock: Clock
) -> None:
    store = Store(tmp_path / "identity.db", clock=clock, terms=Terms(device_lifetime=60))
    ann, _ = store.users.create("ann").result
    machine = key()
    device = store.nodes.enrol_device(ann, "laptop", machine).result
    claim_key(store, device.node, machine)
    assert store.expiry.sweep().result == NOW + 60
    clock.now += 60
    with pytest.raises(TimeIsUp):
        store.tokens.find_node_record(device.token)
    change = store.expiry.sweep()
    sign_in_ends = NOW + 30 * DAY
    ended = Effects(expired=(device.node,), closed_keys=(machine,))
    assert (change.result, change.effects) == (sign_in_ends, ended)
    assert store.nodes.admit(machine) is None
    assert store.expiry.sweep().effects == Effects()
    assert store.audit.page()[0].action == "device.expire"
    again = store.nodes.enrol_device(ann, "laptop", machine).result
    assert again.node == device.node
    assert store.tokens.find_node_record(again.token) is not None
    store.close()


def test_a_device_that_waits_for_approval_is_let_in_by_nobody_else(tmp_path: Path) -> None:
    store = Store(tmp_path / "identity.db", terms=Terms(needs_approval=True))
    ann, _ = store.users.create("ann").result
    dev = store.nodes.create_workspace(ann, "dev").result
    device = store.nodes.enrol_device(ann, "laptop", key()).result
    assert device.node.is_waiting
    with pytest.raises(AwaitsApproval):
        store.tokens.find_node_record(device.token)
    assert store.nodes.partners(dev.node) == []
    (approved,) = store.nodes.approve(ann, "laptop").effects.amended
    assert store.nodes.partners(dev.node) == [approved]
    assert store.tokens.find_node_record(device.token) is not None
    assert [each.action for each in store.audit.page()][:1] == ["device.approve"]
    with pytest.raises(NotFound):
        store.nodes.approve(ann, "tower")
    store.close()


def test_what_was_approved_is_one_machine_and_no_other_that_names_its_key(tmp_path: Path) -> None:
    """Node keys are known to all peers.

    Whoever has a session may enrol with one, and prove their own key then.
    """
    store = Store(tmp_path / "identity.db", terms=Terms(needs_approval=True))
    ann, token = store.users.create("ann").result
    approved, other = key(), key()
    device = store.nodes.enrol_device(ann, "laptop", approved).result.node
    store.nodes.approve(ann, "laptop")
    claim_key(store, device, approved)
    again = store.nodes.enrol_device(ann, "tower", approved, by=shown(store, token)).result
    assert again.node.node_id == device.node_id
    assert not again.node.is_waiting
    with pytest.raises(KeyTaken):
        claim_key(store, again.node, other)
    assert store.nodes.admit(other) is None
    assert claim_key(store, again.node, approved).result is None
    assert store.nodes.enrol_device(ann, "tower", other, by=shown(store, token)).result.node.is_waiting
    store.close()


def test_nothing_is_changed_with_a_token_that_has_been_revoked_or_by_who_manages_no_more(
    store: Store,
) -> None:
    """What an admin does to a member's things: let in, and asked again in the transaction."""
    admin, token = store.users.create("admin", role=UserRole.ADMIN).result
    store.users.create("root", role=UserRole.OWNER)
    ann = store.users.create("ann").result.user
    bob = store.users.create("bob").result.user
    dev = store.nodes.create_workspace(ann, "dev").result.node
    laptop = store.nodes.enrol_device(ann, "laptop", key()).result.node
    store.shares.offer(ann, "dev", "bob")
    by = shown(store, token)
    acts = (
        lambda: store.shares.offer(ann, "dev", "bob", by=by),
        lambda: store.shares.withdraw(ann, "dev", "bob", by=by),
        lambda: store.shares.accept(bob, dev.node_id, by=by),
        lambda: store.shares.leave(bob, dev.node_id, by=by),
        lambda: store.nodes.rename(ann, dev.kind, "dev", "prod", by=by),
        lambda: store.nodes.set_path(ann, "dev", PathRule.DENY, by=by),
        lambda: store.nodes.approve(ann, "laptop", by=by),
        lambda: store.nodes.delete(ann, laptop.kind, "laptop", by=by),
        lambda: store.apps.set(dev, App("web", 80), by=by),
        lambda: store.apps.delete(dev, "web", by=by),
    )
    store.users.change(admin, role=UserRole.MEMBER)
    for act in acts:
        with pytest.raises(NotManaged):
            act()
    store.users.change(admin, role=UserRole.ADMIN)
    store.tokens.revoke(admin, by.token_id or UUID(int=0))
    for act in acts:
        with pytest.raises(TokenGone):
            act()
    assert [node.name for node in store.nodes.of(ann, dev.kind)] == ["dev"]


def test_who_is_an_admin_no_more_approves_no_device_of_their_own(store: Store) -> None:
    admin, token = store.users.create("admin", role=UserRole.ADMIN).result
    store.nodes.enrol_device(admin, "laptop", key())
    by = shown(store, token)
    store.users.create("root", role=UserRole.OWNER)
    store.users.change(admin, role=UserRole.MEMBER)
    with pytest.raises(NotManaged):
        store.nodes.approve(admin, "laptop", by=by)


def test_expired_sessions_and_join_keys_are_deleted_in_turns_and_what_they_made_is_their_parents(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    ann, first = store.users.create("ann").result
    lasting = make(store, ann, first, "lasting")
    store.users.create("bob")
    for _ in range(SESSIONS_AT_ONCE):
        store.tokens.create(ann, TokenKind.JOIN, "", expires_at=NOW + 1)
    short = store.tokens.create(
        ann, TokenKind.SESSION, "short", expires_at=NOW + 5, by=shown(store, lasting)
    ).result.token
    child = store.tokens.create(ann, TokenKind.JOIN, "child", by=shown(store, short)).result.record
    clock.now = NOW + 10
    end = store.expiry.sweep().result
    assert end is not None
    assert end <= clock.now, "there is more to do: the sweep comes back"
    end = store.expiry.sweep().result
    assert end is not None
    assert end > clock.now
    with sqlite3.connect(tmp_path / "identity.db") as database:
        left = {
            name for (name,) in database.execute("SELECT name FROM tokens WHERE expires_at <= ?", [clock.now])
        }
    assert left == set()
    assert child.expires_at == NOW + 5
    assert sorted(each.name for each in store.tokens.of(ann)) == ["", "lasting"]


def test_what_an_expired_session_had_made_is_revoked_with_that_ones_parent(
    store: Store, clock: Clock
) -> None:
    ann, first = store.users.create("ann").result
    parent = make(store, ann, first, "parent")
    opened = store.sessions.open(parent, "browser", lifetime=5.0).result
    session = store.sessions.find(opened.hash)
    assert session is not None
    by = Actor("ann", ann.user_id, "", session.token_id)
    device = store.nodes.enrol_device(ann, "laptop", key(), by=by).result
    clock.now = NOW + 10
    store.expiry.sweep()
    assert store.sessions.find(opened.hash) is None
    (record,) = [each for each in store.tokens.of(ann) if each.node]
    token_id = shown(store, parent).token_id
    assert record.parent_id == token_id
    assert token_id is not None
    ended = store.tokens.revoke(ann, token_id, is_whole=True).result
    assert device.node.full_name in {each.node for each in ended}
