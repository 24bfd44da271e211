"""Nodes by user."""

from dataclasses import replace
from uuid import UUID

from coderd.coordination.nodes_by_user import NodesByUser
from coderd.identity.people import Node, Share, User
from coderd.model.netmap import NodeKind
from coderd.model.ports import ALL_PORTS

ANNE, BOB = User(UUID(int=1), "anne"), User(UUID(int=2), "bob")
LAPTOP = Node(UUID(int=10), NodeKind.DEVICE, "laptop", ANNE, 0.0)
TABLET = Node(UUID(int=11), NodeKind.DEVICE, "tablet", BOB, 0.0)
DEV = Node(UUID(int=20), NodeKind.WORKSPACE, "dev", ANNE, 0.0)


def test_a_node_is_near_those_of_its_user_and_of_another_kind_only() -> None:
    index = _of(LAPTOP, TABLET, DEV, replace(DEV, node_id=UUID(int=21), name="test"))

    assert set(index.around(DEV)) == {LAPTOP.node_id}
    assert set(index.around(LAPTOP)) == {DEV.node_id, UUID(int=21)}
    assert not index.around(TABLET)


def test_a_share_brings_the_guests_nodes_near() -> None:
    index = _of(LAPTOP, TABLET, replace(DEV, shares=(Share(BOB, ALL_PORTS, terminal=True),)))

    assert DEV.node_id in index.around(TABLET)


def test_a_share_taken_back_still_finds_the_guest_until_it_is_placed() -> None:
    index = _of(LAPTOP, TABLET, replace(DEV, shares=(Share(BOB, ALL_PORTS, terminal=True),)))

    assert TABLET.node_id in index.around(DEV)
    index.place(DEV)
    assert TABLET.node_id not in index.around(DEV)
    assert DEV.node_id not in index.around(TABLET)


def test_what_is_removed_is_near_nobody_and_leaves_nothing_behind() -> None:
    index = _of(LAPTOP)

    index.remove(LAPTOP.node_id)
    index.remove(LAPTOP.node_id)

    assert not index.around(LAPTOP)
    assert not index._by_user


def _of(*nodes: Node) -> NodesByUser:
    index = NodesByUser()
    for node in nodes:
        index.place(node)
    return index
