"""Shares: offered, accepted, left, ended; what each side is told.

An offer discloses nothing about who there is.
"""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coderd.identity.apps import App, AppShare
from coderd.identity.effects import NOTHING, Effects
from coderd.identity.io.store import Store
from coderd.identity.people import BadName, Node, NotFound, TooManyShares, User
from coderd.identity.policy import access_for, access_of, may_tunnel
from coderd.identity.shares import OFFER_LIFETIME, BadPorts, GivenShare, ShareState, Wish
from coderd.model.keys import NodePublic
from coderd.model.netmap import NodeKind, PeerAccess
from coderd.model.paths import PathRule
from coderd.model.ports import ALL_PORTS, NO_PORTS, parse_ports

DAY = 86_400.0


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = Store(tmp_path / "identity.db", clock=clock)
    store.users.create_first_owner("admin", lambda token: None)
    yield store
    store.close()


@pytest.fixture
def ann(store: Store) -> User:
    user = store.users.create("ann").result.user
    store.nodes.create_workspace(user, "dev")
    return user


@pytest.fixture
def bob(store: Store) -> User:
    user = store.users.create("bob").result.user
    store.nodes.enrol_device(user, "laptop", NodePublic(b"\x01" * 32))
    return user


def given(store: Store, ann: User) -> list[GivenShare]:
    (dev,) = store.nodes.of(ann, NodeKind.WORKSPACE)
    return store.shares.given([dev.node_id])[dev.node_id]


DEV = ("ann", "dev")


def accepted(store: Store, bob: User) -> Node:
    """ann/dev, which bob has accepted."""
    (dev,) = store.shares.accept(bob, DEV).effects.amended
    return dev


def test_nothing_is_shared_before_the_guest_accepts(store: Store, ann: User, bob: User) -> None:
    dev = store.shares.offer(ann, "dev", "bob").result
    (laptop,) = store.nodes.of(bob, NodeKind.DEVICE)
    assert dev.shares == ()
    assert store.nodes.partners(dev) == store.nodes.partners(laptop) == []
    assert store.nodes.shared_with(bob) == []
    assert not may_tunnel(laptop, dev)
    shared = accepted(store, bob)
    assert shared.shared_with == (bob,)
    assert store.nodes.partners(laptop) == [shared]
    assert store.nodes.partners(shared) == [laptop]


def test_a_guest_can_leave_and_be_asked_again(store: Store, ann: User, bob: User) -> None:
    store.shares.offer(ann, "dev", "bob")
    store.shares.accept(bob, DEV)
    assert store.shares.leave(bob, DEV).effects.amended[0].shares == ()
    assert (store.shares.offered_to(bob), given(store, ann)) == ([], [])
    with pytest.raises(NotFound):
        store.shares.accept(bob, DEV)
    store.shares.offer(ann, "dev", "bob")
    assert [each.state for each in store.shares.offered_to(bob)] == [ShareState.OFFERED]


def test_who_declines_is_asked_no_more_and_may_think_again(store: Store, ann: User, bob: User) -> None:
    store.shares.offer(ann, "dev", "bob")
    store.shares.leave(bob, DEV)
    assert store.shares.offered_to(bob) == []
    store.shares.offer(ann, "dev", "bob", Wish(terminal=True))
    assert store.shares.offered_to(bob) == []
    assert store.shares.accept(bob, DEV).result.terminal


def test_terms_are_narrow_by_default_and_change_one_by_one(store: Store, ann: User, bob: User) -> None:
    store.shares.offer(ann, "dev", "bob")
    dev = accepted(store, bob)
    assert access_of(bob.user_id, dev) == PeerAccess(NO_PORTS, terminal=False)
    dev = store.shares.offer(ann, "dev", "bob", Wish(ports="22,8000-8999", terminal=True)).result
    dev = store.shares.offer(ann, "dev", "bob", Wish(lifetime=60)).result
    assert access_of(bob.user_id, dev) == PeerAccess(parse_ports("22,8000-8999"), terminal=True)
    assert dev.shares[0].expires_at == 1060.0
    dev = store.shares.offer(ann, "dev", "bob", Wish(is_endless=True)).result
    assert dev.shares[0].expires_at is None
    assert access_of(ann.user_id, dev) == PeerAccess()
    assert access_of(ann.user_id, replace(dev, path=PathRule.RELAY_ONLY)) == PeerAccess()


def test_a_share_follows_the_apps_that_are_not_their_owners_alone(store: Store, ann: User, bob: User) -> None:
    store.shares.offer(ann, "dev", "bob")
    dev = accepted(store, bob)
    dev = store.apps.set(dev, App("docs", 8080, AppShare.SHARED)).effects.amended[0]
    assert dev.shares[0].ports == parse_ports("8080")
    dev = store.apps.set(dev, App("mine", 9090, AppShare.OWNER)).effects.amended[0]
    assert dev.shares[0].ports == parse_ports("8080")
    dev = store.apps.set(dev, App("docs", 8080, AppShare.OWNER)).effects.amended[0]
    assert dev.shares[0].ports == NO_PORTS
    dev = store.apps.set(dev, App("site", 80, AppShare.PUBLIC)).effects.amended[0]
    assert dev.shares[0].ports == parse_ports("80")
    assert store.apps.delete(dev, "site").effects.amended[0].shares[0].ports == NO_PORTS


def test_more_apps_than_a_set_of_ports_holds_do_not_break_the_workspace(
    store: Store, ann: User, bob: User
) -> None:
    store.shares.offer(ann, "dev", "bob")
    dev = accepted(store, bob)
    for port in range(1000, 1200, 2):
        dev = store.apps.set(dev, App(str(port), port, AppShare.SHARED)).effects.amended[0]
    assert 1000 in dev.shares[0].ports
    assert len(dev.shares[0].ports.ranges) == 64


def test_whom_a_workspace_is_told_of_and_may_not_use_it_reaches_nothing(
    store: Store, ann: User, bob: User
) -> None:
    (dev,), (laptop,) = store.nodes.of(ann, NodeKind.WORKSPACE), store.nodes.of(bob, NodeKind.DEVICE)
    assert access_for(dev, laptop) == PeerAccess(NO_PORTS, terminal=False)


@pytest.mark.parametrize("text", ["", "0", "65536", "9-8", "alles", "22;80", "apps,22"])
def test_what_is_no_set_of_ports_is_refused(store: Store, ann: User, text: str) -> None:
    with pytest.raises(BadPorts):
        store.shares.offer(ann, "dev", "bob", Wish(ports=text))


# Whether there is somebody


def test_an_offer_tells_nothing_about_whether_there_is_such_a_user(
    store: Store, ann: User, bob: User, clock: Clock
) -> None:
    for name in ("bob", "nobody", "carl"):
        assert store.shares.offer(ann, "dev", name).result.shares == ()
    store.shares.leave(bob, DEV)
    carl = store.users.create("carl").result.user
    seen = given(store, ann)
    assert [each.guest for each in seen] == ["bob", "carl", "nobody"]
    assert len({replace(each, guest="") for each in seen}) == 1
    assert store.shares.offered_to(carl) == []  # it was made before there was such a user
    store.users.change(bob, name="robert")
    assert given(store, ann) == seen
    store.shares.offer(ann, "dev", "robert")
    store.users.delete(bob)
    assert [each.guest for each in given(store, ann)] == ["bob", "carl", "nobody", "robert"]
    for name in ("bob", "nobody"):
        store.shares.withdraw(ann, "dev", name)
        with pytest.raises(NotFound) as caught:
            store.shares.withdraw(ann, "dev", name)
        assert str(caught.value) == f"ann/dev is not shared with {name}"
    clock.now += OFFER_LIFETIME
    assert given(store, ann) == []


def test_the_store_is_asked_the_same_for_every_name(
    store: Store, ann: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it takes the same time, but for what an index needs to find nothing."""
    import sqlalchemy as sa

    asked: list[str] = []
    engine = store._database._engine
    sa.event.listen(
        engine, "before_cursor_execute", lambda _c, _cur, text, _p, _ctx, _many: asked.append(text)
    )
    counts = []
    for name in ("bob", "nobody"):
        asked.clear()
        store.shares.offer(ann, "dev", name)
        counts.append(list(asked))
    assert counts[0] == counts[1]


def test_a_bad_name_is_refused_whoever_there_is(store: Store, ann: User) -> None:
    for name in ("me", "Bob", "a b", ""):
        with pytest.raises(BadName):
            store.shares.offer(ann, "dev", name)


# The clock


def test_a_share_ends_at_its_time_for_whoever_asks(store: Store, ann: User, bob: User, clock: Clock) -> None:
    store.shares.offer(ann, "dev", "bob", Wish(ports="all", lifetime=7 * DAY))
    store.shares.accept(bob, DEV)
    (laptop,) = store.nodes.of(bob, NodeKind.DEVICE)
    assert store.expiry.sweep().result == 1000.0 + 7 * DAY
    clock.now += 7 * DAY - 1
    assert store.expiry.sweep().effects == NOTHING
    assert store.nodes.partners(laptop)
    clock.now += 1
    (dev,) = store.nodes.of(ann, NodeKind.WORKSPACE)
    assert dev.shares == ()
    assert store.nodes.partners(laptop) == store.nodes.shared_with(bob) == []
    assert store.shares.offered_to(bob) == []
    with pytest.raises(NotFound):
        store.shares.accept(bob, DEV)
    assert store.expiry.sweep().effects == Effects(amended=(dev,))
    assert store.expiry.sweep().result == 1000.0 + 30 * DAY, "when the sign-ins end"
    (noted,) = store.audit.page(limit=1)
    assert (noted.action, noted.target, noted.detail) == ("workspace.share-end", "ann/dev", "with bob")


def test_an_offer_lapses_after_14_days(store: Store, ann: User, bob: User, clock: Clock) -> None:
    store.shares.offer(ann, "dev", "bob")
    clock.now += 14 * DAY
    assert store.shares.offered_to(bob) == []
    with pytest.raises(NotFound):
        store.shares.accept(bob, DEV)
    assert store.expiry.sweep().effects == NOTHING  # nobody who is connected is concerned
    store.shares.offer(ann, "dev", "bob")
    clock.now += 13 * DAY
    store.shares.accept(bob, DEV)
    clock.now += 14 * DAY
    assert store.expiry.sweep().effects == NOTHING
    (dev,) = store.nodes.of(ann, NodeKind.WORKSPACE)
    assert dev.shared_with == (bob,)
    assert [each.state for each in store.shares.offered_to(bob)] == [ShareState.ACCEPTED]


# Quotas


def test_offers_count_against_the_giver_alone_until_they_lapse(
    store: Store, ann: User, bob: User, clock: Clock
) -> None:
    for number in range(3):
        store.shares.offer(ann, "dev", f"user-{number}", max_given=3)
    for name in ("bob", "nobody"):
        with pytest.raises(TooManyShares):
            store.shares.offer(ann, "dev", name, max_given=3)
    store.shares.offer(ann, "dev", "user-0", Wish(terminal=True), max_given=3)  # no new one
    store.nodes.create_workspace(bob, "dev")
    store.shares.offer(bob, "dev", "ann", max_given=3)
    clock.now += OFFER_LIFETIME
    store.shares.offer(ann, "dev", "bob", max_given=3)


def test_the_quota_holds_against_racers(store: Store, ann: User) -> None:
    refused: list[str] = []

    def race(number: int) -> None:
        try:
            store.shares.offer(ann, "dev", f"user-{number}", max_given=5)
        except TooManyShares:
            refused.append(str(number))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(given(store, ann)), len(refused)) == (5, 5)


def test_a_guest_is_shown_the_newest_offers_of_very_many(
    store: Store, ann: User, bob: User, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coderd.identity.io.shares.MAX_LISTED", 3)
    for number in range(5):
        clock.now += 1
        store.nodes.create_workspace(ann, f"lab-{number}")
        store.shares.offer(ann, f"lab-{number}", "bob")
    assert [each.workspace for each in store.shares.offered_to(bob)] == ["lab-4", "lab-3", "lab-2"]
    assert store.shares.accept(bob, ("ann", "lab-0")).result.workspace == "lab-0"


def test_a_server_may_accept_for_its_users(store: Store, ann: User, bob: User) -> None:
    assert store.shares.offer(ann, "dev", "bob", accepts=True).result.shared_with == (bob,)
    assert store.shares.offer(ann, "dev", "nobody", accepts=True).result.shared_with == (bob,)
    assert [each.is_accepted for each in given(store, ann)] == [True, False]


def test_a_share_of_an_earlier_release_has_everything(store: Store, ann: User, bob: User) -> None:
    dev = store.shares.offer(ann, "dev", "bob", Wish(ports="all", terminal=True), accepts=True).result
    assert access_of(bob.user_id, dev) == PeerAccess(ALL_PORTS, terminal=True)
