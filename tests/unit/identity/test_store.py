"""The store: what happens once happens once, tokens die with their owners, keys belong to one node."""

import random
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from coderd.identity.effects import Change, removal
from coderd.identity.io.store import Store
from coderd.identity.people import BadName, KeyTaken, NameTaken, Node, NotFound, User
from coderd.identity.policy import Terms
from coderd.identity.schema import metadata
from coderd.identity.tokens import hash_token
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.netmap import NodeKind
from coderd.model.roles import UserRole
from tests.unit.identity.claims import claim_key


def node_of(store: Store, token: str) -> Node | None:
    bearer = store.tokens.find(token)
    return bearer.node if bearer is not None else None


rng = random.Random(2).randbytes


def key() -> NodePublic:
    return NodePrivate.generate(rng).public()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "identity.db")
    yield store
    store.close()


@pytest.fixture
def ann(store: Store) -> User:
    return store.users.create("ann").result.user


@pytest.fixture
def bob(store: Store) -> User:
    return store.users.create("bob").result.user


def race(n_racers: int, attempt: Callable[[], bool]) -> int:
    """How many of so many threads, let go at once, were told True."""
    gate = threading.Barrier(n_racers)
    wins: list[bool] = []

    def run() -> None:
        gate.wait()
        wins.append(attempt())

    threads = [threading.Thread(target=run) for _ in range(n_racers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == n_racers
    return sum(wins)


def test_the_file_is_its_owners_alone_and_holds_no_token(tmp_path: Path) -> None:
    path = tmp_path / "identity.db"
    store = Store(path)
    token = store.nodes.create_workspace(store.users.create("ann").result.user, "dev").result.token
    store.close()
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert token.encode() not in file.read_bytes()


def test_the_migrations_make_the_schema(tmp_path: Path) -> None:
    Store(tmp_path / "identity.db").close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'identity.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_a_store_opens_again_with_everything_in_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "identity.db")
    issued = store.nodes.create_workspace(store.users.create("ann").result.user, "dev").result
    store.close()
    again = Store(tmp_path / "identity.db")
    assert node_of(again, issued.token) == issued.node
    again.close()


def test_the_first_admin_comes_once_and_the_token_works(store: Store) -> None:
    delivered: list[str] = []
    assert store.users.create_first_owner("admin", delivered.append).result
    assert not store.users.create_first_owner("admin", delivered.append).result
    (token,) = delivered
    admin = store.tokens.find_user(token)
    assert admin is not None
    assert (admin.name, admin.role) == ("admin", UserRole.OWNER)


def test_an_admin_whose_token_cannot_be_delivered_is_not_made(store: Store) -> None:
    def fail(token: str) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.users.create_first_owner("admin", fail)
    assert store.users.create_first_owner("admin", lambda token: None).result


@pytest.mark.slow
def test_of_many_first_admins_one_wins(store: Store) -> None:
    assert race(20, lambda: store.users.create_first_owner("admin", lambda token: None).result) == 1


@pytest.mark.slow
def test_of_100_racers_for_one_name_one_wins(store: Store, ann: User) -> None:
    def attempt() -> bool:
        try:
            store.nodes.create_workspace(ann, "dev")
        except NameTaken:
            return False
        return True

    assert race(100, attempt) == 1
    assert [node.name for node in store.nodes.of(ann, NodeKind.WORKSPACE)] == ["dev"]


@pytest.mark.slow
def test_of_100_racers_for_one_token_one_consumes_it(store: Store) -> None:
    token = store.users.create("ann").result.token
    assert race(100, lambda: store.sessions.sign_out(hash_token(token)).result) == 1
    assert store.tokens.find_user(token) is None


@pytest.mark.slow
def test_of_many_nodes_that_claim_one_key_one_gets_it(store: Store, ann: User) -> None:
    nodes = [store.nodes.create_workspace(ann, f"w{number}").result.node for number in range(30)]
    claimed, waiting = key(), list(nodes)

    def attempt() -> bool:
        try:
            claim_key(store, waiting.pop(), claimed)
        except KeyTaken:
            return False
        return True

    assert race(30, attempt) == 1
    assert store.nodes.admit(claimed) in nodes


def test_names_are_labels_and_belong_to_their_owner(store: Store, ann: User, bob: User) -> None:
    store.nodes.create_workspace(ann, "dev")
    store.nodes.create_workspace(bob, "dev")
    with pytest.raises(NameTaken):
        store.nodes.create_workspace(ann, "dev")
    with pytest.raises(BadName):
        store.nodes.create_workspace(ann, "Dev!")
    with pytest.raises(NameTaken):
        store.users.create("ann")


def test_each_token_speaks_for_its_own_kind(store: Store) -> None:
    ann, session = store.users.create("ann").result
    workspace = store.nodes.create_workspace(ann, "dev").result
    device = store.nodes.enrol_device(ann, "laptop", key()).result
    assert store.tokens.find_user(session) == ann
    assert node_of(store, session) is None
    assert node_of(store, workspace.token) == workspace.node
    assert node_of(store, device.token) == device.node
    assert store.tokens.find_user(device.token) is None
    for foreign in ("", "cdrs_", session[:-1], session + "x", workspace.token.replace("cdrw_", "cdrd_")):
        assert store.tokens.find_user(foreign) is None
        assert node_of(store, foreign) is None


def test_a_session_ends_when_its_time_is_over(tmp_path: Path) -> None:
    now = 1000.0
    store = Store(tmp_path / "identity.db", clock=lambda: now, terms=Terms(session_lifetime=60))
    ann, token = store.users.create("ann").result
    now = 1059.0
    assert store.tokens.find_user(token) == ann
    now = 1060.0
    assert store.tokens.find_user(token) is None
    store.close()


def test_the_same_key_enrols_the_same_device_with_a_new_token(store: Store, ann: User) -> None:
    machine = key()
    first = store.nodes.enrol_device(ann, "laptop", machine).result
    again = store.nodes.enrol_device(ann, "renamed", machine).result
    assert again.node == first.node
    assert node_of(store, first.token) is None
    assert node_of(store, again.token) == first.node


def test_a_rekeyed_device_is_found_by_its_proven_key(store: Store, ann: User) -> None:
    device = store.nodes.enrol_device(ann, "laptop", key()).result.node
    newer = key()
    claim_key(store, device, newer)
    assert store.nodes.enrol_device(ann, "laptop", newer).result.node == device


def test_two_machines_of_one_name_become_two_devices(store: Store, ann: User) -> None:
    names = [store.nodes.enrol_device(ann, "laptop", key()).result.node.name for _ in range(3)]
    assert names == ["laptop", "laptop-2", "laptop-3"]


def test_a_proven_key_enrols_for_nobody_else(store: Store, ann: User, bob: User) -> None:
    machine = key()
    claim_key(store, store.nodes.enrol_device(ann, "laptop", machine).result.node, machine)
    with pytest.raises(KeyTaken):
        store.nodes.enrol_device(bob, "laptop", machine)


def test_naming_a_key_without_proof_takes_it_from_nobody(store: Store, ann: User, bob: User) -> None:
    machine = key()
    squatter = store.nodes.enrol_device(bob, "squat", machine).result.node
    owner = store.nodes.enrol_device(ann, "laptop", machine).result.node
    assert store.nodes.admit(machine) is None
    claim_key(store, owner, machine)
    assert store.nodes.admit(machine) == owner
    with pytest.raises(KeyTaken):
        claim_key(store, squatter, machine)


def test_a_new_key_replaces_the_old(store: Store, ann: User) -> None:
    node = store.nodes.create_workspace(ann, "dev").result.node
    old, new = key(), key()
    assert claim_key(store, node, old).result is None
    assert claim_key(store, node, old).result is None
    assert claim_key(store, node, new).result == old
    assert store.nodes.admit(old) is None
    assert store.nodes.admit(new) == node


def test_deleting_a_node_ends_its_token_and_its_key(store: Store, ann: User) -> None:
    issued = store.nodes.create_workspace(ann, "dev").result
    node_key = key()
    claim_key(store, issued.node, node_key)
    assert store.nodes.delete(ann, NodeKind.WORKSPACE, "dev") == Change(
        issued.node, removal(issued.node, node_key)
    )
    assert node_of(store, issued.token) is None
    assert store.nodes.admit(node_key) is None
    with pytest.raises(NotFound):
        claim_key(store, issued.node, node_key)
    other = store.nodes.create_workspace(ann, "dev").result
    assert other.node.node_id != issued.node.node_id
    assert claim_key(store, other.node, node_key).result is None


def test_another_users_nodes_are_not_found(store: Store, ann: User, bob: User) -> None:
    node = store.nodes.create_workspace(ann, "dev").result.node
    for name in ("dev", node.node_id, UUID(int=7)):
        with pytest.raises(NotFound):
            store.nodes.get(bob, NodeKind.WORKSPACE, name)
        with pytest.raises(NotFound):
            store.nodes.delete(bob, NodeKind.WORKSPACE, name)
    with pytest.raises(NotFound):
        store.nodes.delete(ann, NodeKind.DEVICE, node.node_id)
    assert store.nodes.get(ann, NodeKind.WORKSPACE, node.node_id) == node


def test_partners_are_those_whom_policy_allows(store: Store, ann: User, bob: User) -> None:
    device = store.nodes.enrol_device(ann, "laptop", key()).result.node
    store.nodes.enrol_device(ann, "phone", key())
    own = [store.nodes.create_workspace(ann, name).result.node for name in ("a", "b")]
    store.nodes.create_workspace(bob, "c")
    assert store.nodes.partners(device) == own


def test_every_change_is_counted_and_looking_is_none(store: Store) -> None:
    before = store.n_changes
    ann = store.users.create("ann").result.user
    created = store.n_changes
    store.users.get("ann")
    assert store.n_changes == created > before
    with pytest.raises(NameTaken):
        store.users.create(ann.name)
    assert store.n_changes >= created
