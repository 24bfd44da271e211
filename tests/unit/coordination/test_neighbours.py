"""Who may have to do with whom, the server's own node among them."""

from uuid import UUID

from coderd.coordination.neighbours import Neighbours
from coderd.identity.people import Node, User
from coderd.model.netmap import NodeKind

ANN, SERVER_USER = User(UUID(int=1), "ann"), User(UUID(int=0), "server")
LAPTOP = Node(UUID(int=10), NodeKind.DEVICE, "laptop", ANN, 0.0)
DEV = Node(UUID(int=20), NodeKind.WORKSPACE, "dev", ANN, 0.0)
SERVER = Node(UUID(int=30), NodeKind.SERVER, "server", SERVER_USER, 0.0)


def neighbours() -> Neighbours:
    index = Neighbours()
    for node in (LAPTOP, DEV, SERVER):
        index.place(node)
    return index


def test_a_users_device_and_workspace_are_near_and_may_meet() -> None:
    index = neighbours()
    assert index.around(DEV) == [LAPTOP.node_id]
    assert index.may_meet(LAPTOP, DEV)
    assert not index.may_meet(LAPTOP, SERVER)


def test_the_servers_node_is_near_a_workspace_only_while_it_meets_it() -> None:
    index = neighbours()
    assert (index.around(SERVER), index.may_meet(SERVER, DEV)) == ([], False)

    assert index.meet(DEV.node_id)
    assert not index.meet(DEV.node_id)
    assert index.around(SERVER) == [DEV.node_id]
    assert index.around(DEV) == [LAPTOP.node_id, SERVER.node_id]
    assert index.may_meet(SERVER, DEV)

    assert index.part(DEV.node_id)
    assert not index.part(DEV.node_id)
    assert (index.around(SERVER), index.may_meet(SERVER, DEV)) == ([], False)


def test_a_deleted_workspace_is_met_no_more() -> None:
    index = neighbours()
    index.meet(DEV.node_id)
    index.remove(DEV.node_id)
    assert index.around(SERVER) == []
    assert not index.part(DEV.node_id)
