"""Nodes that may meet, by policy and by the meetings of the server's own node. Pure."""

from uuid import UUID

from coderd.coordination.nodes_by_user import NodesByUser
from coderd.identity.people import Node
from coderd.identity.policy import may_tunnel
from coderd.model.netmap import NodeKind


class Neighbours:
    """Index of who may have to do with whom.

    Two nodes that may meet share a user, so only ``NodesByUser`` is searched. The server's own node shares
    users with no other node: it meets the workspaces that it has asked for, as far as policy lets it.
    """

    def __init__(self) -> None:
        self._by_user = NodesByUser()
        self._servers: dict[UUID, None] = {}
        self._met: dict[UUID, None] = {}
        """Workspaces that the server's own node has asked to meet."""

    def place(self, node: Node) -> None:
        """Takes a node, or what is new of it."""
        self._by_user.place(node)
        if node.kind is NodeKind.SERVER:
            self._servers[node.node_id] = None

    def remove(self, node_id: UUID) -> None:
        """Removes a node that was deleted; harmless if it is not known."""
        self._by_user.remove(node_id)
        self._servers.pop(node_id, None)
        self._met.pop(node_id, None)

    def meet(self, workspace_id: UUID) -> bool:
        """Begins the meeting of the server's own node with a workspace; returns False if it has begun."""
        if workspace_id in self._met:
            return False
        self._met[workspace_id] = None
        return True

    def part(self, workspace_id: UUID) -> bool:
        """Ends the meeting of the server's own node with a workspace; returns False if there is none."""
        if workspace_id not in self._met:
            return False
        del self._met[workspace_id]
        return True

    @property
    def servers(self) -> list[UUID]:
        """Ids of the server's own node."""
        return list(self._servers)

    def around(self, node: Node) -> list[UUID]:
        """Returns the ids of all nodes that may have to do with this one: no others can meet it."""
        near = self._by_user.around(node)
        if node.kind is NodeKind.SERVER:
            near |= self._met
        elif node.node_id in self._met:
            near |= self._servers
        return list(near)

    def may_meet(self, one: Node, other: Node) -> bool:
        """Returns whether policy, and the server where its own node is one of them, lets two nodes meet."""
        if NodeKind.SERVER in (one.kind, other.kind) and not self._met.keys() & {one.node_id, other.node_id}:
            return False
        return may_tunnel(one, other)
