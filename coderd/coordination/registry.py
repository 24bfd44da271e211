"""The server's side, pure: who is connected, who sees whom, and what each connection is owed.

Nothing is queued. A connection remembers what it was told of each peer and which peers have changed since; ``poll``
turns that into the next message, so a slow node costs a set of ids however much happens meanwhile, and always learns the
newest state. The relay map is owed in the same way: a mark, and the newest map when it is taken. What a peer looks like is decided here from its identity; of what a node says of itself, only its proven
key, its disco key, its generation and where it can be reached are passed on.

A device is shown a workspace only once the workspace knows the device (``ready``, or ``HOLD`` seconds): devices initiate,
and a handshake that comes too early would be answered with silence, and repeated only after five seconds.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from uuid import UUID

from msgspec.structs import replace

from coderd.coordination.message import (
    Absence,
    DerpMapChanged,
    PeerEntry,
    Peers,
    Reconnect,
    Refusal,
    Removal,
    Update,
)
from coderd.coordination.nodes_by_user import NodesByUser
from coderd.coordination.parcel import Parcel
from coderd.coordination.paths import ConnectionPaths, PathTally, Reach
from coderd.identity.people import Node
from coderd.identity.policy import access_for, is_relayed_only, may_tunnel
from coderd.model.addresses import format_addr_port, parse_addr_port
from coderd.model.deadline import Deadline
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import NodeKind, PeerAccess
from coderd.model.paths import PathKind, PathPolicy

HOLD = 1.0
"""Seconds that a device waits for a workspace's ``ready`` before it is shown the workspace all the same."""

LOST = "lost"
DISCONNECTED = "disconnected"
DENIED = "denied"

_EVERYTHING = PeerAccess()

REPLACED = Refusal("replaced", "another machine has joined with this identity")
SUPERSEDED = Refusal("superseded", "this machine has connected anew")
EXPIRED = Refusal("expired", "this device's time has ended, and it has to sign in again")
DELETED = Refusal("unauthorized", "this identity has been deleted or its token revoked")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node has proven, or may decide, about itself."""

    node_key: NodePublic
    disco_key: DiscoPublic
    generation: int
    capabilities: tuple[str, ...] = ()
    """Members of ``model.netmap.Capability``, or words of a newer release."""


class Connection:
    """One node's connection, as the registry sees it. Only the registry touches its privates."""

    def __init__(
        self, node: Node, facts: NodeFacts, partners: Iterable[Node], wake: Callable[[], None]
    ) -> None:
        self.node = node
        self.facts = facts
        self.end: Refusal | Reconnect | None = None
        """Set when the server must end the connection: the last thing to say."""
        self.paths = ConnectionPaths()
        """What the node reports of its paths."""
        self._wake = wake
        self._partners = {partner.node_id: partner for partner in partners}
        self._is_published = False
        self._is_map_owed = False
        self._is_full_owed = False
        self._full_by: float | None = None
        self._full: list[Peers] = []
        self._changed: dict[UUID, None] = {}
        self._sent: dict[UUID, PeerEntry] = {}
        self._ready: dict[UUID, PeerEntry] = {}
        self._held_until: dict[UUID, float] = {}
        self._used: set[UUID] = set()

    @property
    def n_told(self) -> int:
        """Peers that the node has been told of."""
        return len(self._sent)

    def reported_paths(self) -> Iterator[PathKind]:
        """The kind of path that the node reports, for each peer that it has been told of."""
        return (path for peer, path in self.paths.kinds() if peer in self._sent)

    @property
    def n_owed(self) -> int:
        """Changes that it has not been told yet."""
        return len(self._changed) + sum(len(message.upsert) + len(message.remove) for message in self._full)


@dataclass(slots=True)
class _Presence:
    """What is known of a node that has been here."""

    node: Node
    connection: Connection | None
    entry: PeerEntry | None = None
    gone: str = LOST


class Registry:
    """Everybody who is connected. Commands mark what changed and wake the connections that care.

    Args:
        blocks_direct: every peer is told to be reached by relay only, and nobody learns another's addresses.
    """

    def __init__(self, *, blocks_direct: bool = False) -> None:
        self.derp_map: dict[str, object] = {}
        """The relay map in JSON, as ``set_derp_map`` left it."""
        self._blocks_direct = blocks_direct
        self.tally = PathTally()
        """What nodes have reported of their paths, counted."""
        self.on_tunnel: Callable[[Node, Node, str], None] = lambda _device, _workspace, _path: None
        """Called when a device first reports a path to a workspace on a connection: the two, and the kind of path."""
        self._presences: dict[UUID, _Presence] = {}
        self._nodes_by_user = NodesByUser()
        self.n_changes = 0
        """How often an identity has changed: what was read of the store before is believed while this is the same."""
        self._met: set[UUID] = set()
        """Workspaces that the server itself meets, as long as somebody needs it to."""

    # Commands

    def connect(
        self,
        node: Node,
        facts: NodeFacts,
        *,
        partners: Iterable[Node] = (),
        resumed: bool = False,
        wake: Callable[[], None],
    ) -> Connection:
        """A node has proven itself; the newest connection of an identity wins.

        Args:
            node: the identity.
            facts: what its hello proved and said.
            partners: every node that it may meet, connected or not: those absent count as lost, not as removed, and
                a device is told their names.
            resumed: the hello showed a resume token, so an older connection is a stale one of the same machine.
            wake: called, at any time, when ``poll`` may have something new.
        """
        connection = Connection(node, facts, partners, wake)
        for known in (node, *connection._partners.values()):
            self._nodes_by_user.place(known)
        presence = self._presences.get(node.node_id)
        if presence is None:
            self._presences[node.node_id] = _Presence(node, connection)
            return connection
        if presence.connection is not None:
            _end(presence.connection, SUPERSEDED if resumed else REPLACED)
        presence.node, presence.connection = node, connection
        return connection

    def update(self, connection: Connection, update: Update) -> Refusal | None:
        """A node says where it can be reached. Returns the reason to end its connection if it claims what it must not."""
        if connection.end is not None:
            return None
        if update.generation not in (None, connection.facts.generation):
            return Refusal("bad_claim", "the update's generation is not the hello's")
        if (refusal := refuse_claim(connection.node, update.allowed_ips)) is not None:
            return refusal
        try:
            entry = _entry(connection, update)
        except ValueError as error:
            return Refusal("malformed", str(error))
        self._publish(connection, entry)
        return None

    def report(self, connection: Connection, update: Update, now: float) -> None:
        """Keeps what an accepted update says of paths. Wakes nobody, and nobody is told of it."""
        if connection.end is None:
            connection.paths.take(update, lambda peer: self._reaches(connection, peer), self.tally, now)
            self._note_used(connection, update)

    def _note_used(self, connection: Connection, update: Update) -> None:
        if connection.node.kind is not NodeKind.DEVICE:
            return
        for report in update.path_reports:
            peer = self._presences.get(report.peer)
            is_told = report.peer in connection._sent and report.peer not in connection._used
            if is_told and report.path in (PathKind.DIRECT, PathKind.RELAY) and peer is not None:
                connection._used.add(report.peer)
                self.on_tunnel(connection.node, peer.node, report.path)

    def note_rekeyed(self) -> None:
        """A node has another key than before: who joins just now must not go by what was read of it earlier."""
        self.n_changes += 1

    def ready(self, connection: Connection, ids: Iterable[UUID]) -> None:
        """A node's tunnel knows these peers, as they were last sent to it."""
        for node_id in ids:
            entry = connection._sent.get(node_id)
            if entry is None or connection._ready.get(node_id) == entry:
                continue
            connection._ready[node_id] = entry
            other = self.connection_of(node_id)
            if other is not None:
                other._wake()

    def goodbye(self, connection: Connection) -> None:
        """A node left on purpose: peers remove it."""
        self._leave(connection, DISCONNECTED)

    def lost(self, connection: Connection) -> None:
        """A connection broke: peers keep the node while their tunnel lives. Harmless after ``goodbye``."""
        self._leave(connection, LOST)

    def introduce(self, node: Node) -> None:
        """A new identity: whoever may meet it is told that it exists, before it connects."""
        self.n_changes += 1
        self._nodes_by_user.place(node)
        for presence in self._near(node):
            viewer = presence.connection
            if viewer is not None and self._may_meet(viewer.node, node):
                viewer._partners[node.node_id] = node
        self._mark(node)

    def forget(self, node: Node) -> None:
        """An identity is gone: its connection ends, peers remove it, also those that knew it before this server did."""
        self.n_changes += 1
        presence = self._presences.pop(node.node_id, None)
        if presence is not None and presence.connection is not None:
            _end(presence.connection, DELETED)
        for other in self._near(node):
            if other.connection is not None:
                other.connection._partners.pop(node.node_id, None)
        self._mark(node)
        self._nodes_by_user.remove(node.node_id)
        self._met.discard(node.node_id)

    def meet(self, workspace: Node) -> None:
        """The server itself wants to reach a workspace: both are told of each other, as far as policy lets them."""
        if workspace.node_id not in self._met:
            self._met.add(workspace.node_id)
            self._mark_meeting(workspace)

    def part(self, workspace: Node) -> None:
        """The server itself has done with a workspace."""
        if workspace.node_id in self._met:
            self._met.remove(workspace.node_id)
            self._mark_meeting(workspace)

    def expel(self, node: Node, why: Refusal = DELETED) -> None:
        """A node's right to be here has ended, though it exists: its connection ends, and peers remove it at once."""
        self.n_changes += 1
        presence = self._presences.get(node.node_id)
        if presence is None:
            return
        if presence.connection is not None:
            _end(presence.connection, why)
        presence.connection, presence.gone = None, DENIED
        self._mark(node)

    def amend(self, node: Node) -> None:
        """A node's name, owner's name, sharing or path rule has changed: whoever it concerns, before or now, is told."""
        self.n_changes += 1
        presence = self._presences.get(node.node_id)
        if presence is not None:
            presence.node = node
            if presence.entry is not None:
                presence.entry = replace(presence.entry, name=node.full_name)
        own = presence.connection if presence is not None else None
        if own is not None:
            is_renamed = own.node.full_name != node.full_name
            own.node = node
            if is_renamed and own._is_published:
                _end(own, Reconnect(0))  # its own name is in the welcome
        for other in self._near(node):
            if other.connection is not None and other.connection is not own:
                self._reconsider(other.connection, node, own)
        if own is not None and node.kind is NodeKind.WORKSPACE:
            self._reconsider_absent(own)
        self._nodes_by_user.place(node)

    def _reconsider_absent(self, workspace: Connection) -> None:
        """A workspace is owed a look at those who are away, too: a tunnel or a shell of theirs may live on."""
        for partner in list(workspace._partners.values()):
            if self.connection_of(partner.node_id) is None:
                if not self._may_meet(workspace.node, partner):
                    del workspace._partners[partner.node_id]
                workspace._changed[partner.node_id] = None
                workspace._wake()

    def set_derp_map(self, derp_map: dict[str, object]) -> None:
        """A new relay map, in JSON: who joins gets it with the welcome, who is connected is owed it."""
        if derp_map == self.derp_map:
            return
        self.derp_map = derp_map
        for presence in self._presences.values():
            if presence.connection is not None:
                presence.connection._is_map_owed = True
                presence.connection._wake()

    def close(self, farewells: Iterator[Reconnect]) -> None:
        """The server goes: everybody is told when to come back, each by a farewell of its own, nobody is lost."""
        for presence in self._presences.values():
            if presence.connection is not None:
                _end(presence.connection, next(farewells))
                presence.connection = None
        self._presences.clear()

    # Polls

    def poll(self, connection: Connection, now: float) -> Peers | DerpMapChanged | None:
        """The next message that a connection is owed, None if nothing now."""
        if connection.end is not None:
            return None
        if connection._is_map_owed:
            connection._is_map_owed = False
            return DerpMapChanged(self.derp_map)
        if not connection._is_published:
            return None
        if connection._is_full_owed and self._is_full_due(connection, now):
            self._build_full(connection, now)
        if connection._is_full_owed:
            return None
        if connection._full:
            return connection._full.pop(0)
        return self._delta(connection, now)

    def poll_timeout(self, connection: Connection) -> Deadline | None:
        """When ``poll`` may have something although nothing happens: ask after ``poll`` has returned None.

        A full list waits for the last hold to end, but no longer than one; a change waits for its own.
        """
        held = connection._held_until
        if connection._is_full_owed:
            waits = [when for node_id, when in held.items() if not self._knows(node_id, connection)]
            latest = min(max(waits, default=math.inf), connection._full_by or math.inf)
            return Deadline(latest, "hold") if waits else None
        waits = [held[node_id] for node_id in connection._changed if node_id in held]
        return Deadline(min(waits), "hold") if waits else None

    # Looking

    def is_online(self, node_id: UUID) -> bool:
        """Whether a node is connected."""
        return self.connection_of(node_id) is not None

    def connection_of(self, node_id: UUID) -> Connection | None:
        """A node's connection."""
        presence = self._presences.get(node_id)
        return presence.connection if presence is not None else None

    def n_connections(self) -> int:
        """How many nodes are connected."""
        return sum(
            presence.connection is not None and presence.node.kind is not NodeKind.SERVER
            for presence in self._presences.values()
        )

    def connections(self) -> Iterator[Connection]:
        """Everybody who is connected."""
        found = (presence.connection for presence in self._presences.values())
        return (connection for connection in found if connection is not None)

    def reaches(self, now: float) -> Iterator[Reach]:
        """Who reaches whom and how, as the nodes that are connected say of peers that they were told of."""
        for connection in self.connections():
            yield from self.reaches_of(connection, now)

    def reaches_of(self, connection: Connection, now: float) -> Iterator[Reach]:
        """Yields whom one connected node reaches and how, as it reports."""
        for peer, path, region, rtt, since in connection.paths.items(now):
            if peer in connection._sent and (presence := self._presences.get(peer)) is not None:
                yield Reach(connection.node, presence.node, path, region, rtt, since)

    def tunnels(self, workspace: Node, now: float) -> Iterator[tuple[Node, str, float]]:
        """Devices that have a tunnel to a workspace: by which kind of path, and for how many seconds, as an end says."""
        own = self.connection_of(workspace.node_id)
        for presence in self._near(workspace):
            other = presence.connection
            if other is None or other.node.kind is not NodeKind.DEVICE:
                continue
            if not self._may_meet(presence.node, workspace):
                continue
            told = own.paths.tunnel(other.node.node_id, now) if own is not None else None
            found = told or other.paths.tunnel(workspace.node_id, now)
            if found is not None:
                yield presence.node, *found

    # Who changed

    def _publish(self, connection: Connection, entry: PeerEntry) -> None:
        presence = self._presences[connection.node.node_id]
        if not connection._is_published:
            if entry.home_region == 0:
                return
            connection._is_published = connection._is_full_owed = True
            connection._wake()
        elif presence.entry == entry:
            return
        presence.entry = entry
        self._mark(connection.node)

    def _leave(self, connection: Connection, reason: str) -> None:
        presence = self._presences.get(connection.node.node_id)
        if presence is None or presence.connection is not connection:
            return
        presence.connection, presence.gone = None, reason
        self._mark(connection.node)

    def _reconsider(self, viewer: Connection, node: Node, own: Connection | None) -> None:
        """Policy between two nodes may have changed: each is owed a look at the other."""
        if viewer.node.kind is node.kind:
            return
        allowed, known = self._may_meet(viewer.node, node), node.node_id in viewer._partners
        for one, other in ((viewer, node), (own, viewer.node)):
            if one is None:
                continue
            if allowed:
                one._partners[other.node_id] = other
            else:
                one._partners.pop(other.node_id, None)
            if allowed or known or other.node_id in one._sent:
                one._changed[other.node_id] = None
                one._wake()

    def _mark(self, node: Node) -> None:
        """Everybody who may see ``node`` is owed a look at it."""
        for presence in self._near(node):
            viewer = presence.connection
            if viewer is not None and self._may_meet(viewer.node, node):
                viewer._changed[node.node_id] = None
                viewer._wake()

    def _near(self, node: Node) -> list[_Presence]:
        """Everybody who has been here and may have to do with ``node``: no others can meet it."""
        near = self._nodes_by_user.around(node)
        if node.kind is NodeKind.SERVER:
            near |= dict.fromkeys(self._met)
        elif node.node_id in self._met:
            near |= dict.fromkeys(self._servers())
        return [self._presences[node_id] for node_id in near if node_id in self._presences]

    def _servers(self) -> list[UUID]:
        """The server itself, if it is one of its nodes."""
        return [node_id for node_id, known in self._presences.items() if known.node.kind is NodeKind.SERVER]

    def _mark_meeting(self, workspace: Node) -> None:
        """The server and a workspace are owed a look at each other, most of all where they must not meet any more."""
        for server_id in self._servers():
            for viewer_id, node_id in ((server_id, workspace.node_id), (workspace.node_id, server_id)):
                if (viewer := self.connection_of(viewer_id)) is not None:
                    viewer._changed[node_id] = None
                    viewer._wake()

    def _may_meet(self, one: Node, other: Node) -> bool:
        """Whether policy lets two nodes meet, and if one is the server itself, whether it wants to."""
        if NodeKind.SERVER in (one.kind, other.kind) and not self._met & {one.node_id, other.node_id}:
            return False
        return may_tunnel(one, other)

    def _reaches(self, connection: Connection, peer: UUID) -> bool:
        """Whether a node may say by which path it reaches another."""
        presence = self._presences.get(peer)
        return presence is not None and self._may_meet(connection.node, presence.node)

    # What a viewer is owed

    def _view(self, viewer: Connection, node_id: UUID) -> PeerEntry | str | None:
        """A peer as the viewer should see it: its entry, why it is gone, or None while it has not yet said where it is."""
        presence = self._presences.get(node_id)
        if presence is None:
            return LOST if node_id in viewer._partners and node_id not in viewer._sent else DENIED
        if not self._may_meet(viewer.node, presence.node):
            return DENIED
        if presence.connection is None:
            return presence.gone
        if presence.entry is None or not presence.connection._is_published:
            return None
        entry = _with_access(presence.entry, access_for(viewer.node, presence.node))
        relayed = self._blocks_direct or is_relayed_only(viewer.node, presence.node)
        return _relayed_only(entry) if relayed else entry

    def _is_full_due(self, viewer: Connection, now: float) -> bool:
        """Whether nobody is held any more, or somebody always would be: where many come, another is at any time."""
        if viewer._full_by is None:
            viewer._full_by = now + HOLD
        return now >= viewer._full_by or not self._hold_any(viewer, now)

    def _build_full(self, viewer: Connection, now: float) -> None:
        upsert: list[PeerEntry] = []
        remove: list[Removal] = []
        absent: list[Absence] = []
        later: dict[UUID, None] = {}
        near = [presence.node.node_id for presence in self._near(viewer.node)]
        for node_id in dict.fromkeys([*near, *sorted(viewer._partners)]):
            view = self._view(viewer, node_id)
            if isinstance(view, PeerEntry) and self._is_held(viewer, node_id, now):
                view, later[node_id] = None, None
            if isinstance(view, PeerEntry):
                upsert.append(view)
                continue
            if view in (LOST, DISCONNECTED, None):  # it may come back, which is not so of whom no list names
                remove.append(self._removal(viewer, node_id, DISCONNECTED if view == DISCONNECTED else LOST))
            absent += self._absence(viewer, node_id, view)
        viewer._sent = {entry.id: entry for entry in upsert}
        viewer._full = _full_messages(upsert, remove, absent)
        viewer._is_full_owed = False
        viewer._changed = later

    def _delta(self, viewer: Connection, now: float) -> Peers | None:
        parcel = Parcel()
        for node_id in list(viewer._changed):
            if self._is_held(viewer, node_id, now):
                continue
            view = self._view(viewer, node_id)
            if not parcel.add(*self._news(viewer, node_id, view)):
                break
            del viewer._changed[node_id]
            if isinstance(view, PeerEntry):
                viewer._sent[node_id] = view
            elif isinstance(view, str):
                viewer._sent.pop(node_id, None)
        return parcel.message() if parcel else None

    def _news(
        self, viewer: Connection, node_id: UUID, view: PeerEntry | str | None
    ) -> list[PeerEntry | Removal | Absence]:
        """What a viewer has not been told yet of a peer, as it sees it now."""
        if isinstance(view, PeerEntry):
            return [view] if viewer._sent.get(node_id) != view else []
        if view is None:
            return []
        if node_id in viewer._sent or view == DENIED:
            # Somebody denied is removed in any case: the viewer may know it from before this connection.
            return [self._removal(viewer, node_id, view)]
        if viewer.node.kind is NodeKind.WORKSPACE and node_id in viewer._partners:
            return [self._removal(viewer, node_id, view)]  # what it may reach may be another now
        return [*self._absence(viewer, node_id, view)]

    def _removal(self, viewer: Connection, node_id: UUID, reason: str) -> Removal:
        """That somebody is away; to a workspace with what they may reach, since a tunnel or a shell of theirs may live on."""
        partner = viewer._partners.get(node_id)
        if reason == DENIED or partner is None or viewer.node.kind is not NodeKind.WORKSPACE:
            return Removal(node_id, reason)
        access = access_for(viewer.node, partner)
        return Removal(node_id, reason, str(access.ports), access.terminal)

    def _absence(self, viewer: Connection, node_id: UUID, view: PeerEntry | str | None) -> list[Absence]:
        """The name of somebody who is not there, for a device that may meet them."""
        node = viewer._partners.get(node_id)
        if node is None or viewer.node.kind is not NodeKind.DEVICE:
            return []
        return [Absence(node_id, node.kind.value, node.full_name)]

    # Holding a device back until the workspace is ready for it

    def _hold_any(self, viewer: Connection, now: float) -> bool:
        held = [self._is_held(viewer, near.node.node_id, now) for near in self._near(viewer.node)]
        return any(held)

    def _is_held(self, viewer: Connection, node_id: UUID, now: float) -> bool:
        if viewer.node.kind is NodeKind.WORKSPACE or not isinstance(self._view(viewer, node_id), PeerEntry):
            viewer._held_until.pop(node_id, None)
            return False
        if self._knows(node_id, viewer):
            viewer._held_until.pop(node_id, None)
            return False
        return now < viewer._held_until.setdefault(node_id, now + HOLD)

    def _knows(self, node_id: UUID, device: Connection) -> bool:
        """Whether a workspace has confirmed the device as it is in this process of it."""
        workspace = self.connection_of(node_id)
        known = workspace._ready.get(device.node.node_id) if workspace is not None else None
        return (
            known is not None
            and known.generation == device.facts.generation
            and known.node_key == device.facts.node_key.text
        )


def refuse_claim(node: Node, allowed_ips: list[str] | None) -> Refusal | None:
    """The refusal of a node that claims any address but the one that its id derives."""
    own = str(node.address)
    if allowed_ips is None or all(claim in (own, f"{own}/128") for claim in allowed_ips):
        return None
    return Refusal("bad_claim", "a node's addresses are the server's to give")


def shown_kind(node: Node) -> str:
    """What a node is told to be. The server is to a workspace what a device is, and older nodes know no other kind."""
    return NodeKind.DEVICE.value if node.kind is NodeKind.SERVER else node.kind.value


def _end(connection: Connection, message: Refusal | Reconnect) -> None:
    connection.end = message
    connection._wake()


def _entry(connection: Connection, update: Update) -> PeerEntry:
    node, facts = connection.node, connection.facts
    addrs = (parse_addr_port(endpoint.addr) for endpoint in update.endpoints)
    endpoints = [
        format_addr_port(addr) for addr in addrs if "%" not in addr[0]
    ]  # a scope is of one machine alone
    return PeerEntry(
        id=node.node_id,
        kind=shown_kind(node),
        name=node.full_name,
        node_key=facts.node_key.text,
        disco_key=facts.disco_key.text,
        address=str(node.address),
        home_region=update.home_region,
        generation=facts.generation,
        endpoints=endpoints,
        capabilities=list(facts.capabilities),
    )


def _with_access(entry: PeerEntry, access: PeerAccess) -> PeerEntry:
    """A peer as one viewer is told of it: with what it may reach there."""
    if access == _EVERYTHING:
        return entry
    return replace(entry, ports=str(access.ports), terminal=access.terminal, is_server=access.is_server)


def _relayed_only(entry: PeerEntry) -> PeerEntry:
    """A peer as others may see it where direct connections are blocked."""
    return replace(entry, endpoints=[], path_policy=PathPolicy.RELAY_ONLY.value)


def _full_messages(upsert: list[PeerEntry], remove: list[Removal], absent: list[Absence]) -> list[Peers]:
    """A full list in messages that a node can read; there is always one, if only to say that nobody is there."""
    parcels = [Parcel()]
    for entry in chain.from_iterable(zip_longest(upsert, remove, absent)):
        if entry is not None and not parcels[-1].add(entry):
            parcels.append(Parcel())
            parcels[-1].add(entry)
    return [parcel.message(full=True, more=parcel is not parcels[-1]) for parcel in parcels]
