"""Index of nodes by user, so that a change examines only the nodes that it may concern. Pure.

A tunnel joins a user's device with a workspace that is theirs or shared with them, so two nodes that may meet
have a user in common, and are not of one kind. To look only there makes a change cost what its circle has,
not what the server has: a workspace that is shared with a user who may use thousands is near that user's
devices, and not near the thousands.
"""

from collections.abc import Iterator
from uuid import UUID

from coderd.identity.people import Node
from coderd.model.netmap import NodeKind

_KINDS = tuple(NodeKind)


class NodesByUser:
    """Index of nodes by user: of a device its owner, of a workspace also each user with whom it is shared."""

    def __init__(self) -> None:
        self._nodes: dict[UUID, Node] = {}
        self._by_user: dict[tuple[UUID, NodeKind], dict[UUID, None]] = {}

    def place(self, node: Node) -> None:
        """Puts a node where it belongs now, instead of where it was."""
        known = self._nodes.get(node.node_id)
        if known == node:
            return
        if known is not None and list(_users(known)) != list(_users(node)):
            self.remove(node.node_id)
        self._nodes[node.node_id] = node
        for user_id in _users(node):
            self._by_user.setdefault((user_id, node.kind), {})[node.node_id] = None

    def remove(self, node_id: UUID) -> None:
        """Removes a node that was deleted; harmless if it is not known."""
        known = self._nodes.pop(node_id, None)
        if known is None:
            return
        for user_id in _users(known):
            circle = self._by_user.get((user_id, known.kind), {})
            circle.pop(node_id, None)
            if not circle:
                self._by_user.pop((user_id, known.kind), None)

    def around(self, node: Node) -> dict[UUID, None]:
        """Returns the ids of nodes of other kinds that share a user with this one, as given or as placed."""
        near: dict[UUID, None] = {}
        for one in (self._nodes.get(node.node_id, node), node):
            for user_id in _users(one):
                for kind in _KINDS:
                    if kind is not node.kind:
                        near.update(self._by_user.get((user_id, kind), {}))
        return near


def _users(node: Node) -> Iterator[UUID]:
    yield node.owner.user_id
    for user in node.shared_with:
        yield user.user_id
