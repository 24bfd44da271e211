"""How much one user may have: decided when a thing is made, whichever way, and by one statement."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coderd.identity.apps import App, AppShare
from coderd.identity.io.store import Store
from coderd.identity.people import Actor, IdentityError, QuotaReached, User
from coderd.identity.tokens import TokenKind
from coderd.model.keys import NodePublic
from coderd.model.netmap import NodeKind
from coderd.model.quotas import Quotas, Usage

FEW = Quotas(workspaces=2, devices=2, tokens=4, apps=2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "db", quotas=FEW, clock=lambda: 1000.0)
    yield store
    store.close()


@pytest.fixture
def ann(store: Store) -> User:
    return store.users.create("ann").result.user


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(QuotaReached) as caught:
        act()
    assert caught.value.hint
    return caught.value.code


def key(number: int) -> NodePublic:
    return NodePublic(bytes([number]) * 32)


def test_one_more_than_the_quota_is_refused_by_whatever_way_it_is_made(store: Store, ann: User) -> None:
    session = store.sessions.issue(ann).result.token
    join = store.tokens.create(ann, TokenKind.JOIN, "").result.token
    dev = store.nodes.create_workspace(ann, "dev").result.node
    store.tokens.redeem(join, "lab")
    assert refusal(lambda: store.nodes.create_workspace(ann, "more")) == "too_many_workspaces"
    assert refusal(lambda: store.tokens.redeem(join, "more")) == "too_many_workspaces"
    for number in (1, 2):
        store.nodes.enrol_device(ann, "laptop", key(number))
    assert refusal(lambda: store.nodes.enrol_device(ann, "laptop", key(3))) == "too_many_devices"
    store.sessions.open(session, "browser", lifetime=60)
    assert refusal(lambda: store.sessions.open(session, "browser", lifetime=60)) == "too_many_tokens"
    assert refusal(lambda: store.sessions.issue(ann, by=Actor("ann", ann.user_id))) == "too_many_tokens"
    for kind in (TokenKind.SESSION, TokenKind.JOIN):
        assert refusal(lambda kind=kind: store.tokens.create(ann, kind, "")) == "too_many_tokens"  # type: ignore[misc]
    for name in ("8000", "8001"):
        store.apps.set(dev, App(name, int(name), AppShare.OWNER))
    assert refusal(lambda: store.apps.set(dev, App("8002", 8002, AppShare.OWNER))) == "too_many_apps"
    assert store.users.usage(ann) == Usage(workspaces=2, devices=2, tokens=4, apps=2, shares=0)
    bob = store.users.create("bob").result.user
    store.nodes.create_workspace(bob, "dev")
    assert store.users.usage(bob) == Usage(workspaces=1, devices=0, tokens=1, apps=0, shares=0)


def test_a_refused_use_of_a_join_key_is_not_spent(store: Store, ann: User) -> None:
    join = store.tokens.create(ann, TokenKind.JOIN, "", uses=1).result.token
    first, _ = (store.nodes.create_workspace(ann, name).result.node for name in ("a", "b"))
    assert refusal(lambda: store.tokens.redeem(join, "lab")) == "too_many_workspaces"
    store.nodes.delete(ann, NodeKind.WORKSPACE, first.node_id)
    assert store.tokens.redeem(join, "lab").result.node.name == "lab"


def test_what_is_above_a_lowered_quota_stays_and_can_be_changed(tmp_path: Path) -> None:
    before = Store(tmp_path / "db")
    ann = before.users.create("ann").result.user
    made = [before.nodes.create_workspace(ann, f"w{number}").result.node for number in range(4)]
    for number in range(4):
        before.nodes.enrol_device(ann, "laptop", key(number + 1))
        before.apps.set(made[0], App(f"{8000 + number}", 8000 + number, AppShare.OWNER))
    before.close()
    store = Store(tmp_path / "db", quotas=FEW)
    assert len(store.nodes.of(ann, NodeKind.WORKSPACE)) == 4
    store.nodes.enrol_device(ann, "laptop", key(1))
    store.apps.set(made[0], App("8000", 8000, AppShare.PUBLIC))
    store.nodes.rename(ann, NodeKind.WORKSPACE, made[3].node_id, "other")
    assert refusal(lambda: store.nodes.create_workspace(ann, "more")) == "too_many_workspaces"
    assert refusal(lambda: store.apps.set(made[0], App("9000", 9000, AppShare.OWNER))) == "too_many_apps"
    assert store.users.usage(ann).workspaces == 4
    store.close()


def test_an_expired_token_makes_room(tmp_path: Path) -> None:
    now = 1000.0
    store = Store(tmp_path / "db", quotas=FEW, clock=lambda: now)
    ann = store.users.create("ann").result.user
    for _ in range(3):
        store.tokens.create(ann, TokenKind.SESSION, "", expires_at=1010.0)
    assert refusal(lambda: store.tokens.create(ann, TokenKind.SESSION, "")) == "too_many_tokens"
    now = 1011.0
    store.tokens.create(ann, TokenKind.SESSION, "")
    store.close()


def test_an_admin_gives_a_new_sign_in_to_whom_all_tokens_are_spent(store: Store, ann: User) -> None:
    for _ in range(3):
        store.tokens.create(ann, TokenKind.SESSION, "")
    assert store.sessions.issue(ann).result.token


@pytest.mark.parametrize("kind", ["workspaces", "devices", "tokens", "apps"])
def test_racers_do_not_exceed_a_quota(store: Store, ann: User, kind: str) -> None:
    dev = store.nodes.create_workspace(ann, "dev").result.node
    acts: dict[str, Callable[[int], object]] = {
        "workspaces": lambda number: store.nodes.create_workspace(ann, f"w{number}"),
        "devices": lambda number: store.nodes.enrol_device(ann, f"d{number}", key(number + 1)),
        "tokens": lambda number: store.tokens.create(ann, TokenKind.SESSION, f"t{number}"),
        "apps": lambda number: store.apps.set(dev, App(f"a{number}", 8000 + number, AppShare.OWNER)),
    }
    start, refused = threading.Barrier(16), list[str]()

    def race(number: int) -> None:
        start.wait()
        try:
            acts[kind](number)
        except IdentityError as error:
            refused.append(error.code)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert getattr(store.users.usage(ann), kind) == getattr(FEW, kind)
    assert set(refused) == {f"too_many_{kind}"}
