"""The store: roles, sharing, path rules, tokens with scopes and uses, the audit log."""

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from coderd.identity.effects import NOTHING, Effects, expulsion, removal
from coderd.identity.io.nodes import Issued
from coderd.identity.io.store import Store
from coderd.identity.people import Actor, BadShare, LastOwner, NameTaken, Node, NotFound, User
from coderd.identity.tokens import TokenKind
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathRule
from coderd.model.roles import Scope, UserRole
from tests.unit.identity.claims import claim_key


def node_of(store: Store, token: str) -> Node | None:
    bearer = store.tokens.find(token)
    return bearer.node if bearer is not None else None


rng = random.Random(3).randbytes


def key() -> NodePublic:
    return NodePrivate.generate(rng).public()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "identity.db", clock=lambda: 1000.0)
    yield store
    store.close()


@pytest.fixture
def owner(store: Store) -> User:
    store.users.create_first_owner("admin", lambda token: None)
    return store.users.get("admin")


@pytest.fixture
def ann(store: Store) -> User:
    return store.users.create("ann").result.user


@pytest.fixture
def bob(store: Store) -> User:
    return store.users.create("bob").result.user


# Roles


def test_the_last_owner_can_be_neither_removed_nor_demoted(store: Store, owner: User, ann: User) -> None:
    acts: list[Callable[[], object]] = [
        lambda: store.users.delete(owner).result,
        lambda: store.users.change(owner, role=UserRole.ADMIN).result,
    ]
    for act in acts:
        with pytest.raises(LastOwner):
            act()
    assert store.users.get("admin").role is UserRole.OWNER
    store.users.change(ann, role=UserRole.OWNER)
    store.users.delete(owner)
    with pytest.raises(LastOwner):
        store.users.delete(ann)


def test_a_user_goes_with_all_that_is_theirs(store: Store, owner: User, ann: User, bob: User) -> None:
    issued = store.nodes.create_workspace(ann, "dev").result
    proven = key()
    claim_key(store, issued.node, proven)
    other = store.nodes.create_workspace(bob, "lab").result.node
    store.shares.offer(bob, "lab", "ann", accepts=True)
    assert store.users.delete(ann).effects == removal(issued.node, proven) + Effects(amended=(other,))
    assert node_of(store, issued.token) is None
    assert store.nodes.admit(proven) is None
    assert [user.name for user in store.users.everybody()] == ["admin", "bob"]


def test_who_is_renamed_takes_their_nodes_along(store: Store, ann: User) -> None:
    store.nodes.create_workspace(ann, "dev")
    (node,) = store.users.change(ann, name="anna").effects.amended
    assert node.full_name == "anna/dev"
    renamed = store.nodes.rename(ann, NodeKind.WORKSPACE, "dev", "lab").result
    assert renamed.full_name == "anna/lab"


# Sharing and paths


def test_a_shared_workspace_and_the_guests_devices_are_partners(store: Store, ann: User, bob: User) -> None:
    laptop = store.nodes.enrol_device(bob, "laptop", key()).result.node
    store.nodes.create_workspace(ann, "other")
    dev = store.nodes.create_workspace(ann, "dev").result.node
    assert store.nodes.partners(laptop) == []
    dev = store.shares.offer(ann, "dev", "bob", accepts=True).result
    assert store.shares.offer(ann, dev.node_id, "bob").result == dev
    assert dev.shared_with == (bob,)
    assert store.nodes.partners(laptop) == [dev]
    assert store.nodes.partners(dev) == [laptop]
    assert store.nodes.shared_with(bob) == [dev]
    dev = store.shares.withdraw(ann, "dev", "bob").result
    assert store.nodes.partners(laptop) == store.nodes.partners(dev) == []
    with pytest.raises(NotFound):
        store.shares.withdraw(ann, "dev", "bob")


def test_a_workspace_is_not_shared_with_its_owner(store: Store, ann: User) -> None:
    store.nodes.create_workspace(ann, "dev")
    with pytest.raises(BadShare):
        store.shares.offer(ann, "dev", "ann")


def test_a_denied_workspace_meets_nobody(store: Store, ann: User) -> None:
    laptop = store.nodes.enrol_device(ann, "laptop", key()).result.node
    store.nodes.create_workspace(ann, "dev")
    assert store.nodes.set_path(ann, "dev", PathRule.DENY).result.path is PathRule.DENY
    assert store.nodes.partners(laptop) == []
    relayed = store.nodes.set_path(ann, "dev", PathRule.RELAY_ONLY).result
    assert store.nodes.partners(laptop) == [relayed]


# Tokens


def test_tokens_are_listed_without_themselves_and_revoked_by_id(store: Store, ann: User, bob: User) -> None:
    made = store.tokens.create(ann, TokenKind.SESSION, "ci", scope=Scope.READ, expires_at=2000.0).result
    bearer = store.tokens.find(made.token)
    assert bearer is not None
    assert (bearer.user, bearer.record) == (ann, made.record)
    assert made.record in store.tokens.of(ann)
    assert made.record not in store.tokens.of(bob)
    assert made.token not in repr(store.tokens.of(ann))
    with pytest.raises(NotFound):
        store.tokens.revoke(bob, made.record.token_id)
    assert store.tokens.revoke(ann, made.record.token_id).effects == NOTHING
    assert store.tokens.find(made.token) is None


def test_a_revoked_node_token_takes_the_proven_key_along(store: Store, ann: User) -> None:
    issued, proven = store.nodes.create_workspace(ann, "dev").result, key()
    claim_key(store, issued.node, proven)
    (listed,) = [each for each in store.tokens.of(ann) if each.kind is TokenKind.WORKSPACE]
    assert listed.node == "ann/dev"
    assert store.tokens.revoke(ann, listed.token_id).effects == expulsion(issued.node, proven)
    assert store.nodes.admit(proven) is None
    assert store.nodes.get(ann, NodeKind.WORKSPACE, "dev") == issued.node


def test_a_machine_that_takes_over_a_workspace_ends_the_one_before_and_its_key(
    store: Store, ann: User
) -> None:
    issued, proven = store.nodes.create_workspace(ann, "dev").result, key()
    claim_key(store, issued.node, proven)
    join = store.tokens.create(ann, TokenKind.JOIN, "", uses=1, workspace="dev").result.token
    change = store.tokens.redeem(join, "other")
    assert change.effects == expulsion(issued.node, proven) + Effects(introduced=(issued.node,))
    assert store.nodes.admit(proven) is None
    assert store.tokens.find(issued.token) is None


def test_a_device_that_enrols_anew_ends_its_old_connection(store: Store, ann: User) -> None:
    proven = key()
    first = store.nodes.enrol_device(ann, "laptop", proven)
    assert first.effects == Effects(introduced=(first.result.node,))
    claim_key(store, first.result.node, proven)
    assert store.nodes.enrol_device(ann, "laptop", proven).effects == expulsion(first.result.node, proven)


def test_a_single_use_key_joins_one_machine(store: Store, ann: User) -> None:
    join = store.tokens.create(ann, TokenKind.JOIN, "", uses=1).result.token
    issued = store.tokens.redeem(join, "Builder.local").result
    assert issued.node.full_name == "ann/builder"
    assert node_of(store, issued.token) == issued.node
    assert store.tokens.find(join) is None
    with pytest.raises(NotFound):
        store.tokens.redeem(join, "builder")


def test_a_reusable_key_makes_workspaces_or_renews_the_one_it_names(store: Store, ann: User) -> None:
    join = store.tokens.create(ann, TokenKind.JOIN, "").result.token
    names = [store.tokens.redeem(join, "builder").result.node.name for _ in range(3)]
    assert names == ["builder", "builder-2", "builder-3"]
    bound = store.tokens.create(ann, TokenKind.JOIN, "", workspace="builder").result.token
    first = store.tokens.redeem(bound, "whatever").result
    again = store.tokens.redeem(bound, "whatever").result
    assert first.node == again.node
    assert node_of(store, first.token) is None
    assert node_of(store, again.token) == again.node


def test_an_expired_key_joins_nobody(store: Store, ann: User) -> None:
    join = store.tokens.create(ann, TokenKind.JOIN, "", expires_at=1000.0).result.token
    with pytest.raises(NotFound):
        store.tokens.redeem(join, "builder")


@pytest.mark.slow
def test_of_100_racers_for_a_single_use_key_one_joins(store: Store, ann: User) -> None:
    join = store.tokens.create(ann, TokenKind.JOIN, "", uses=1).result.token
    gate, issued = threading.Barrier(100), list[Issued]()

    def run() -> None:
        gate.wait()
        with contextlib.suppress(NotFound):
            issued.append(store.tokens.redeem(join, "builder").result)

    threads = [threading.Thread(target=run) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.node.name for each in issued] == ["builder"]


# The audit log


def test_every_change_is_noted_with_who_and_from_where(store: Store, ann: User, bob: User) -> None:
    by = Actor("ann", ann.user_id, "192.0.2.7")
    store.nodes.create_workspace(ann, "dev", by=by)
    store.shares.offer(ann, "dev", "bob", by=by)
    store.nodes.set_path(ann, "dev", PathRule.DENY, by=by)
    store.nodes.delete(ann, NodeKind.WORKSPACE, "dev", by=by)
    found = store.audit.page(limit=4)
    assert [(each.action, each.target, each.detail) for each in found] == [
        ("workspace.delete", "ann/dev", ""),
        ("workspace.path", "ann/dev", "deny"),
        ("workspace.share", "ann/dev", "with bob: ports apps, terminal False"),
        ("workspace.create", "ann/dev", ""),
    ]
    assert {(each.actor, each.actor_id, each.source, each.at) for each in found} == {
        ("ann", ann.user_id, "192.0.2.7", 1000.0)
    }
    older = store.audit.page(before=found[-1].number)
    assert [each.target for each in older] == ["bob", "ann"]


def test_what_is_refused_is_not_noted(store: Store, ann: User) -> None:
    before = store.audit.page()
    acts: list[Callable[[], object]] = [
        lambda: store.nodes.set_path(ann, "none", PathRule.DENY).result,
        lambda: store.shares.offer(ann, "none", "x").result,
    ]
    for act in acts:
        with pytest.raises(NotFound):
            act()
    assert store.audit.page() == before


def test_no_token_is_in_the_audit_log(store: Store, ann: User) -> None:
    tokens = [
        store.nodes.create_workspace(ann, "dev").result.token,
        (join := store.tokens.create(ann, TokenKind.JOIN, "").result.token),
        store.tokens.redeem(join, "x").result.token,
        store.users.create("carl").result.token,
    ]
    text = repr(store.audit.page())
    assert not any(token in text or token[5:] in text for token in tokens)


@pytest.mark.parametrize("statement", ["DELETE FROM audit", "UPDATE audit SET actor = 'nobody'"])
def test_the_audit_log_is_only_appended_to(store: Store, ann: User, tmp_path: Path, statement: str) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'identity.db'}")
    with pytest.raises(sa.exc.IntegrityError, match="only appended"), engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()
    assert store.audit.page()


def test_a_change_that_is_refused_in_part_changes_nothing(store: Store, owner: User) -> None:
    ann, bob = (store.users.create(name).result.user for name in ("anna", "bob"))
    with pytest.raises(NameTaken):
        store.users.change(bob, name=ann.name, role=UserRole.ADMIN)
    assert store.users.get(bob.user_id) == bob
    assert not [entry for entry in store.audit.page() if entry.action.startswith("user.r")]


def test_a_browsers_session_ends_with_the_token_that_opened_it(store: Store, ann: User) -> None:
    shown = store.tokens.create(ann, TokenKind.SESSION, "laptop").result
    opened = store.sessions.open(shown.token, "browser", lifetime=60.0).result
    found = store.sessions.find(opened.hash)
    assert found is not None
    assert found.user == ann
    store.tokens.revoke(ann, shown.record.token_id)
    assert store.sessions.find(opened.hash) is None
    with pytest.raises(NotFound):
        store.sessions.open(shown.token, "browser", lifetime=60.0)


def test_a_browsers_session_lives_no_longer_than_its_token(store: Store, ann: User) -> None:
    shown = store.tokens.create(ann, TokenKind.SESSION, "laptop", expires_at=1030.0).result
    assert store.sessions.open(shown.token, "browser", lifetime=60.0).result.lifetime == 30.0
