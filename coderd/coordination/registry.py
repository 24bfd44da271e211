"""Who is connected to the server, and who may see whom. Pure.

A command changes a presence, or what policy knows of a node, and owes a look at it to every viewer that it
may concern: ``Neighbours`` names the few. What a peer looks like is decided here from its identity; of what
a node says of itself, only its proven key, its disco key, its generation, its capabilities and where it can
be reached are passed on. Each connection's ``Viewer`` keeps what was sent to it and what it is owed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from coderd.coordination.message import (
    DerpMapChanged,
    PeerEntry,
    Peers,
    Reconnect,
    Refusal,
    RemovalReason,
    Update,
)
from coderd.coordination.neighbours import Neighbours
from coderd.coordination.path_reports import PathReports
from coderd.coordination.publication import Publication
from coderd.coordination.shown_entry import make_entry, narrow_entry, refuse_claim
from coderd.coordination.viewer import NodeFacts, Unseen, View, Viewer
from coderd.identity.people import Node
from coderd.identity.policy import access_for, is_relayed_only
from coderd.model.deadline import Deadline, earliest
from coderd.model.netmap import NodeKind

REPLACED = Refusal("replaced", "another machine has joined with this identity")
SUPERSEDED = Refusal("superseded", "this machine has connected anew")
EXPIRED = Refusal("expired", "this device's token has expired, and it has to sign in again")
DELETED = Refusal("unauthorized", "this identity has been deleted or its token revoked")


@dataclass(slots=True)
class _Presence:
    """What is known of a node that has been connected."""

    node: Node
    viewer: Viewer | None
    publication: Publication = field(default_factory=Publication)
    """What others are shown of it."""
    is_shown: bool = False
    """Whether the node has been shown to its peers in this connection."""
    gone: RemovalReason = RemovalReason.LOST
    """Why the last connection ended."""


class Registry:
    """Presences of all nodes, and the policy between them.

    Args:
        blocks_direct: whether all peers are relay-only, so that no node learns another's addresses.
    """

    def __init__(self, *, blocks_direct: bool = False) -> None:
        self.derp_map: dict[str, object] = {}
        """The relay map in JSON, as ``set_derp_map`` left it."""
        self.n_changes = 0
        """How often an identity has changed: what was read of the store before is valid while this is the
        same."""
        self._blocks_direct = blocks_direct
        self._presences: dict[UUID, _Presence] = {}
        self._neighbours = Neighbours()
        self.path_reports = PathReports(self, self._neighbours)
        """What nodes report of their paths."""

    # Commands of a connection

    def connect(
        self,
        node: Node,
        facts: NodeFacts,
        *,
        partners: Iterable[Node] = (),
        resumed: bool = False,
        wake: Callable[[], None],
    ) -> Viewer:
        """Takes a node in that has proven itself, and ends any older connection of the same identity.

        Args:
            node: the identity.
            facts: what its hello proved and said.
            partners: every node that it may meet, connected or not: those absent count as lost, not as
                removed, and a device learns their names.
            resumed: the hello showed a resume token, so an older connection is a stale one of the same
                machine.
            wake: called, at any time, when ``poll`` may have something new.
        """
        viewer = Viewer(node, facts, partners, wake)
        for known in (node, *viewer.partners):
            self._neighbours.place(known)
        presence = self._presences.get(node.node_id)
        if presence is None:
            self._presences[node.node_id] = _Presence(node, viewer)
            return viewer
        if presence.viewer is not None:
            presence.viewer.close(SUPERSEDED if resumed else REPLACED)
        presence.node, presence.viewer = node, viewer
        presence.publication.clear()
        return viewer

    def update(self, viewer: Viewer, update: Update, now: float) -> Refusal | None:
        """Takes where a node can be reached, and notifies its peers as often as ``Publication`` allows.

        Returns the reason to end its connection if it claims what it must not.
        """
        if viewer.end is not None:
            return None
        if update.generation not in (None, viewer.facts.generation):
            return Refusal("bad_claim", "the update's generation is not the hello's")
        if (refusal := refuse_claim(viewer.node, update.allowed_ips)) is not None:
            return refusal
        try:
            entry = make_entry(viewer.node, viewer.facts, update)
        except ValueError as error:
            return Refusal("malformed", str(error))
        self._publish(viewer, entry, now)
        return None

    def ready(self, viewer: Viewer, ids: Iterable[UUID]) -> None:
        """Takes that a node's tunnel knows these peers, as they were last sent to it.

        Wakes the peers that wait for it.
        """
        for node_id in viewer.confirm(ids):
            if (other := self.connection_of(node_id)) is not None:
                other.wake()

    def goodbye(self, viewer: Viewer) -> None:
        """Removes a node from its peers at once, since it leaves on purpose."""
        self._leave(viewer, RemovalReason.DISCONNECTED)

    def lost(self, viewer: Viewer) -> None:
        """Marks a node lost after its connection broke: peers keep it while their tunnels live.

        Harmless after ``goodbye``.
        """
        self._leave(viewer, RemovalReason.LOST)

    # Commands of the identities: what a change of them means for who is connected

    def note_rekeyed(self) -> None:
        """Counts a node's new key as a change.

        What was read before of a node that joins now is not valid any more.
        """
        self.n_changes += 1

    def introduce(self, node: Node) -> None:
        """Tells every node that may meet a new identity that it exists, before it connects."""
        self.n_changes += 1
        self._neighbours.place(node)
        for presence in self._near(node):
            if presence.viewer is not None and self._neighbours.may_meet(presence.viewer.node, node):
                presence.viewer.set_partner(node, is_allowed=True)
        self._mark(node)

    def forget(self, node: Node) -> None:
        """Ends a deleted identity's connection and removes it from all peers."""
        self.n_changes += 1
        presence = self._presences.pop(node.node_id, None)
        if presence is not None and presence.viewer is not None:
            presence.viewer.close(DELETED)
        for other in self._near(node):
            if other.viewer is not None:
                other.viewer.set_partner(node, is_allowed=False)
        self._mark(node)
        self._neighbours.remove(node.node_id)

    def expel(self, node: Node, why: Refusal = DELETED) -> None:
        """Ends the connection of a node that may not be here any more, though it exists.

        Its peers remove it at once.
        """
        self.n_changes += 1
        presence = self._presences.get(node.node_id)
        if presence is None:
            return
        if presence.viewer is not None:
            presence.viewer.close(why)
        presence.viewer, presence.gone, presence.is_shown = None, RemovalReason.DENIED, False
        self._mark(node)

    def amend(self, node: Node) -> None:
        """Takes a node's new name, owner's name, sharing or path rule.

        All nodes that it concerned before, or concerns now, are owed a look at it.
        """
        self.n_changes += 1
        presence = self._presences.get(node.node_id)
        own = presence.viewer if presence is not None else None
        if presence is not None:
            presence.node = node
            presence.publication.rename(node.full_name)
        if own is not None:
            is_renamed = own.node.full_name != node.full_name
            own.node = node
            if is_renamed and own.has_said_where:
                own.close(Reconnect(0))  # its own name is in the welcome
        for other in self._near(node):
            if other.viewer is not None and other.viewer is not own:
                self._reconsider(other.viewer, node, own)
        if own is not None and node.kind is NodeKind.WORKSPACE:
            self._reconsider_absent(own)
        self._neighbours.place(node)

    # Commands of the server itself

    def meet(self, workspace: Node) -> None:
        """Lets the server's own node and a workspace see each other, as far as policy allows."""
        if self._neighbours.meet(workspace.node_id):
            self._mark_meeting(workspace)

    def part(self, workspace: Node) -> None:
        """Ends the meeting of the server's own node with a workspace.

        Each is removed from the other's peers.
        """
        if self._neighbours.part(workspace.node_id):
            self._mark_meeting(workspace)

    def set_derp_map(self, derp_map: dict[str, object]) -> None:
        """Takes a new relay map in JSON.

        A node that joins gets it with the welcome, all connected ones are owed it.
        """
        if derp_map == self.derp_map:
            return
        self.derp_map = derp_map
        for viewer in self.connections():
            viewer.owe_derp_map()

    def close(self, farewells: Iterator[Reconnect]) -> None:
        """Ends every connection with a farewell of its own, without counting any node as lost.

        Called when the server ends.
        """
        for viewer in self.connections():
            viewer.close(next(farewells))
        self._presences.clear()

    # Polls

    def poll(self, viewer: Viewer, now: float) -> Peers | DerpMapChanged | None:
        """Returns the next message that a connection is owed, None if there is none now."""
        presence = self._presences.get(viewer.node.node_id)
        if presence is not None and presence.viewer is viewer and presence.publication.release(now):
            self._show(presence)
        return viewer.take(self, now)

    def poll_timeout(self, viewer: Viewer) -> Deadline | None:
        """Returns when ``poll`` may have something although nothing happens.

        Call it after ``poll`` has returned None.
        """
        presence = self._presences.get(viewer.node.node_id)
        is_own = presence is not None and presence.viewer is viewer
        return earliest(
            viewer.poll_timeout(self),
            presence.publication.deadline if presence is not None and is_own else None,
        )

    # Looking

    def is_online(self, node_id: UUID) -> bool:
        """Returns whether a node is connected."""
        return self.connection_of(node_id) is not None

    def node_of(self, node_id: UUID) -> Node | None:
        """Returns a node that is connected or has been, None for any other."""
        presence = self._presences.get(node_id)
        return presence.node if presence is not None else None

    def connection_of(self, node_id: UUID) -> Viewer | None:
        """Returns a node's connection, None if it has none."""
        presence = self._presences.get(node_id)
        return presence.viewer if presence is not None else None

    def connections(self) -> list[Viewer]:
        """Lists all connections, the server's own node's among them."""
        return [presence.viewer for presence in self._presences.values() if presence.viewer is not None]

    def n_connections(self) -> int:
        """Counts the connected nodes but the server's own."""
        return sum(viewer.node.kind is not NodeKind.SERVER for viewer in self.connections())

    # What a viewer asks

    def near(self, node: Node) -> list[UUID]:
        """Returns the ids of all nodes that may have to do with this one and have been connected."""
        return [presence.node.node_id for presence in self._near(node)]

    def view(self, viewer: Node, node_id: UUID) -> View:
        """Returns a peer as policy lets a viewer see it now.

        That is its entry, why it is gone, or why it is not shown.
        """
        presence = self._presences.get(node_id)
        if presence is None:
            return Unseen.NEVER
        if not self._neighbours.may_meet(viewer, presence.node):
            return RemovalReason.DENIED
        if presence.viewer is None:
            return presence.gone
        if (entry := presence.publication.entry) is None:
            return Unseen.NOT_YET
        by_relay = self._blocks_direct or is_relayed_only(viewer, presence.node)
        return narrow_entry(entry, access_for(viewer, presence.node), is_relayed_only=by_relay)

    def has_confirmed(self, workspace_id: UUID, device: Viewer) -> bool:
        """Returns whether a workspace has confirmed a device with the key and generation that it has now."""
        workspace = self.connection_of(workspace_id)
        return workspace is not None and workspace.is_ready_for(device)

    # Who is concerned

    def _publish(self, viewer: Viewer, entry: PeerEntry, now: float) -> None:
        if not viewer.has_said_where:
            if entry.home_region == 0:
                return
            viewer.owe_everything()
        presence = self._presences[viewer.node.node_id]
        if presence.publication.offer(entry, now):
            self._show(presence)
        elif presence.publication.deadline is not None:
            viewer.wake()  # it sleeps until some other deadline, or for ever

    def _show(self, presence: _Presence) -> None:
        presence.is_shown = True
        self._mark(presence.node)

    def _leave(self, viewer: Viewer, reason: RemovalReason) -> None:
        presence = self._presences.get(viewer.node.node_id)
        if presence is None or presence.viewer is not viewer:
            return
        is_news = presence.is_shown or presence.gone is not reason
        presence.viewer, presence.gone, presence.is_shown = None, reason, False
        if is_news:  # one that comes and goes without a word has changed nothing for its peers
            self._mark(viewer.node)

    def _mark(self, node: Node) -> None:
        """Owes a look at a node to every viewer that may see it."""
        for presence in self._near(node):
            if presence.viewer is not None and self._neighbours.may_meet(presence.viewer.node, node):
                presence.viewer.owe(node.node_id)

    def _mark_meeting(self, workspace: Node) -> None:
        """Owes the server's node and a workspace a look at each other, also where they must not meet now."""
        for server_id in self._neighbours.servers:
            for viewer_id, node_id in ((server_id, workspace.node_id), (workspace.node_id, server_id)):
                if (viewer := self.connection_of(viewer_id)) is not None:
                    viewer.owe(node_id)

    def _reconsider(self, viewer: Viewer, node: Node, own: Viewer | None) -> None:
        """Owes two nodes a look at each other where policy between them may have changed."""
        if viewer.node.kind is node.kind:
            return
        is_allowed, was_allowed = self._neighbours.may_meet(viewer.node, node), viewer.may_know(node.node_id)
        for one, other in ((viewer, node), (own, viewer.node)):
            if one is None:
                continue
            one.set_partner(other, is_allowed=is_allowed)
            if is_allowed or was_allowed or one.was_told_of(other.node_id):
                one.owe(other.node_id)

    def _reconsider_absent(self, workspace: Viewer) -> None:
        """Owes a workspace a look at partners that are away, too.

        A tunnel or a shell of such a partner may live on.
        """
        for partner in workspace.partners:
            if self.connection_of(partner.node_id) is None:
                workspace.set_partner(partner, is_allowed=self._neighbours.may_meet(workspace.node, partner))
                workspace.owe(partner.node_id)

    def _near(self, node: Node) -> list[_Presence]:
        """Presences that may have to do with a node: no others can meet it."""
        near = self._neighbours.around(node)
        return [self._presences[node_id] for node_id in near if node_id in self._presences]
