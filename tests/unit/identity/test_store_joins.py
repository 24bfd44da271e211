"""What the store is asked when nodes join: all about one of them at once, and the keys of many together."""

import random
from pathlib import Path

from coderd.identity.io.store import Store
from coderd.identity.people import KeyTaken, NotFound
from coderd.identity.tokens import TokenKind
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.netmap import NodeKind
from tests.unit.identity.claims import claim_key

rng = random.Random(2).randbytes


def key() -> NodePublic:
    return NodePrivate.generate(rng).public()


def test_a_dossier_tells_who_it_is_its_key_and_whom_it_may_meet(tmp_path: Path) -> None:
    store = Store(tmp_path / "identity.db")
    ann, bob = store.users.create("ann").result, store.users.create("bob").result
    laptop, dev = (
        store.nodes.enrol_device(ann.user, "laptop", key()).result,
        store.nodes.create_workspace(ann.user, "dev").result,
    )
    guest = store.nodes.enrol_device(bob.user, "guest", key()).result
    shared = store.shares.offer(ann.user, "dev", "bob", accepts=True).result
    node_key = key()
    claim_key(store, dev.node, node_key)
    assert store.tokens.find_node_record(dev.token) == (shared, node_key, store.nodes.partners(shared))
    assert store.tokens.find_node_record(laptop.token) == (laptop.node, None, [shared])
    assert store.tokens.find_node_record(guest.token) == (guest.node, None, [shared])
    store.close()


def test_only_a_nodes_own_token_has_a_dossier(tmp_path: Path) -> None:
    store = Store(tmp_path / "identity.db")
    ann = store.users.create("ann").result
    dev = store.nodes.create_workspace(ann.user, "dev").result
    join_key = store.tokens.create(ann.user, TokenKind.JOIN, "paste", workspace="dev").result
    for token in (ann.token, join_key.token, dev.token[:-1], dev.token + "x", "rubbish", ""):
        assert store.tokens.find_node_record(token) is None
    store.nodes.delete(ann.user, NodeKind.WORKSPACE, "dev")
    assert store.tokens.find_node_record(dev.token) is None
    store.close()


def test_of_keys_claimed_together_a_refused_one_spoils_no_other(tmp_path: Path) -> None:
    store = Store(tmp_path / "identity.db")
    ann = store.users.create("ann").result.user
    first, second, third, gone = (
        store.nodes.create_workspace(ann, f"dev-{index}").result.node for index in range(4)
    )
    store.nodes.delete(ann, NodeKind.WORKSPACE, gone.name)
    taken, old, new = key(), key(), key()
    claim_key(store, second, old)
    answers = store.nodes.claim_keys(
        [(first, taken), (second, taken), (gone, key()), (second, new), (third, old), (first, taken)]
    ).result
    assert [type(answer) for answer in answers] == [
        type(None), KeyTaken, NotFound, NodePublic, type(None), type(None)
    ]  # fmt: skip
    assert answers[3] == old
    assert [store.nodes.admit(one) for one in (taken, new, old)] == [first, second, third]
    store.close()
