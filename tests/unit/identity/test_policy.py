"""Who may meet whom."""

from uuid import UUID

import pytest

from coderd.identity.people import Node, User
from coderd.identity.policy import may_tunnel
from coderd.model.netmap import NodeKind
from coderd.model.roles import UserRole

ANN, BOB = User(UUID(int=1), "ann"), User(UUID(int=2), "bob", UserRole.OWNER)


def node(number: int, kind: NodeKind, owner: User) -> Node:
    return Node(UUID(int=number), kind, f"n{number}", owner, 0.0)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (node(1, NodeKind.DEVICE, ANN), node(2, NodeKind.WORKSPACE, ANN), True),
        (node(1, NodeKind.DEVICE, ANN), node(2, NodeKind.WORKSPACE, BOB), False),
        (node(1, NodeKind.DEVICE, BOB), node(2, NodeKind.WORKSPACE, ANN), False),
        (node(1, NodeKind.DEVICE, ANN), node(2, NodeKind.DEVICE, ANN), False),
        (node(1, NodeKind.WORKSPACE, ANN), node(2, NodeKind.WORKSPACE, ANN), False),
    ],
    ids=["own workspace", "another's workspace", "admin's device", "two devices", "two workspaces"],
)
def test_a_device_meets_its_owners_workspaces_and_nobody_else(one: Node, other: Node, expected: bool) -> None:
    assert may_tunnel(one, other) is expected
    assert may_tunnel(other, one) is expected
