"""One node's connection, as the server serves it.

A viewer keeps what the node was sent of its peers, what it is owed, and what is held back.

Nothing is queued. A viewer remembers what was sent of each peer and which peers have changed since; ``take``
turns that into the next message. A slow node therefore costs a set of ids however much happens meanwhile, and
always learns the newest state. The relay map is owed in the same way: a mark, and the newest map when it is
taken.

A device is shown a workspace only once the workspace has confirmed the device (``ready``), or after ``HOLD``
seconds: devices initiate, and a handshake that comes too early gets no answer and is repeated only after five
seconds.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain, zip_longest
from typing import Final, Protocol, TypeAlias
from uuid import UUID

from coderd.coordination.message import (
    Absence,
    DerpMapChanged,
    PeerEntry,
    Peers,
    Reconnect,
    Refusal,
    Removal,
    RemovalReason,
)
from coderd.coordination.parcel import Parcel
from coderd.coordination.paths import ConnectionPaths
from coderd.identity.people import Node
from coderd.identity.policy import access_for
from coderd.model.deadline import Deadline
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathKind

HOLD: Final = 1.0
"""Seconds that a device waits for a workspace's ``ready`` before it is shown the workspace without one."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node's hello has proven and said of the node."""

    node_key: NodePublic
    disco_key: DiscoPublic
    generation: int
    capabilities: tuple[str, ...] = ()
    """Members of ``model.netmap.Capability``, or words of a newer release."""


class Unseen(Enum):
    """Why a node is not shown to a peer that may meet it, although nothing has removed it."""

    NOT_YET = "not_yet"
    """The node is connected and has not said where it can be reached."""
    NEVER = "never"
    """The node has not been connected since this server started."""


View: TypeAlias = PeerEntry | RemovalReason | Unseen
"""A peer as one viewer may see it: its entry, or why it has none."""


class Outlook(Protocol):
    """What a viewer asks of the registry: who is near, and what may be seen of each."""

    @property
    def derp_map(self) -> dict[str, object]:
        """The relay map in JSON."""

    def near(self, node: Node) -> list[UUID]:
        """Returns the ids of all nodes that may have to do with this one and have been connected."""

    def view(self, viewer: Node, node_id: UUID) -> View:
        """Returns a peer as policy lets the viewer see it now."""

    def has_confirmed(self, workspace_id: UUID, device: "Viewer") -> bool:
        """Returns whether a workspace has confirmed the device with its present key and generation."""


class Viewer:
    """Record of what one connection was sent, is owed, and holds back.

    Args:
        node: the identity that is connected.
        facts: what its hello has proven and said.
        partners: every node that it may meet, connected or not.
        wake: called whenever ``take`` may have something new.
    """

    def __init__(
        self, node: Node, facts: NodeFacts, partners: Iterable[Node], wake: Callable[[], None]
    ) -> None:
        self.node = node
        self.facts = facts
        self.end: Refusal | Reconnect | None = None
        """The last message to send; set when the server must end the connection."""
        self.paths = ConnectionPaths()
        """What the node reports of its paths."""
        self.has_said_where = False
        """Whether the node has reported where it can be reached: from then on it is sent its peers."""
        self._wake = wake
        self._partners = {partner.node_id: partner for partner in partners}
        self._is_map_owed = False
        self._is_full_owed = False
        self._full_by: float | None = None
        self._full: list[Peers] = []
        self._changed: dict[UUID, None] = {}
        self._sent: dict[UUID, PeerEntry] = {}
        self._ready: dict[UUID, PeerEntry] = {}
        self._held_until: dict[UUID, float] = {}
        self._used: set[UUID] = set()

    # Commands

    def close(self, message: Refusal | Reconnect) -> None:
        """Makes a message the connection's last one."""
        self.end = message
        self._wake()

    def owe(self, node_id: UUID) -> None:
        """Marks a peer to be sent to the node again."""
        self._changed[node_id] = None
        self._wake()

    def owe_everything(self) -> None:
        """Marks the full list as owed, since the node has said where it can be reached."""
        self.has_said_where = self._is_full_owed = True
        self._wake()

    def owe_derp_map(self) -> None:
        """Marks the newest relay map as owed."""
        self._is_map_owed = True
        self._wake()

    def wake(self) -> None:
        """Lets the owner of the connection ask again: a held peer may be due, or a deadline be another."""
        self._wake()

    def set_partner(self, node: Node, *, is_allowed: bool) -> None:
        """Adds a node to those that this one may meet, as it is now, or takes it out."""
        if is_allowed:
            self._partners[node.node_id] = node
        else:
            self._partners.pop(node.node_id, None)

    def confirm(self, ids: Iterable[UUID]) -> list[UUID]:
        """Takes a ``ready`` for peers as they were last sent; returns those of them for which it is news."""
        news = [node_id for node_id in ids if self._ready.get(node_id) != self._sent.get(node_id)]
        known = [node_id for node_id in news if node_id in self._sent]
        self._ready.update((node_id, self._sent[node_id]) for node_id in known)
        return known

    def note_used(self, node_id: UUID) -> bool:
        """Notes that the node reports a path to a peer.

        Returns whether it is the first of a peer that it was sent.
        """
        if node_id in self._used or node_id not in self._sent:
            return False
        self._used.add(node_id)
        return True

    # Looking

    @property
    def n_told(self) -> int:
        """Peers that have been sent to the node."""
        return len(self._sent)

    @property
    def n_owed(self) -> int:
        """Changes that have not been sent to the node yet."""
        return len(self._changed) + sum(len(message.upsert) + len(message.remove) for message in self._full)

    @property
    def partners(self) -> list[Node]:
        """Every node that this one may meet, connected or not."""
        return list(self._partners.values())

    def may_know(self, node_id: UUID) -> bool:
        """Returns whether a node is among the partners."""
        return node_id in self._partners

    def was_told_of(self, node_id: UUID) -> bool:
        """Returns whether the node has a peer's entry, as the server last sent it."""
        return node_id in self._sent

    def is_ready_for(self, device: "Viewer") -> bool:
        """Returns whether this workspace has confirmed a device with its present key and generation."""
        known = self._ready.get(device.node.node_id)
        return known is not None and (known.generation, known.node_key) == (
            device.facts.generation,
            device.facts.node_key.text,
        )

    def reported_paths(self) -> Iterator[PathKind]:
        """Yields the kind of path that the node reports, for each peer that it has been sent."""
        return (path for peer, path in self.paths.kinds() if peer in self._sent)

    # Polls

    def take(self, outlook: Outlook, now: float) -> Peers | DerpMapChanged | None:
        """Returns the next message that the node is owed, None if there is none now."""
        if self.end is not None:
            return None
        if self._is_map_owed:
            self._is_map_owed = False
            return DerpMapChanged(outlook.derp_map)
        if not self.has_said_where:
            return None
        if self._is_full_owed and self._is_full_due(outlook, now):
            self._build_full(outlook, now)
        if self._is_full_owed:
            return None
        return self._full.pop(0) if self._full else self._delta(outlook, now)

    def poll_timeout(self, outlook: Outlook) -> Deadline | None:
        """Returns when ``take`` may have something although nothing happens.

        Call it after ``take`` has returned None.

        A full list waits for the last hold to end, but for ``HOLD`` seconds at most; a change waits for its
        own hold.
        """
        if self._is_full_owed:
            held = self._held_until.items()
            waits = [when for node_id, when in held if not outlook.has_confirmed(node_id, self)]
            latest = min(max(waits, default=math.inf), self._full_by or math.inf)
            return Deadline(latest, "hold") if waits else None
        waits = [self._held_until[node_id] for node_id in self._changed if node_id in self._held_until]
        return Deadline(min(waits), "hold") if waits else None

    # The full list, and changes

    def _is_full_due(self, outlook: Outlook, now: float) -> bool:
        """Whether no peer is held, or ``HOLD`` is over: where many come, some peer is held at any time."""
        if self._full_by is None:
            self._full_by = now + HOLD
        if now >= self._full_by:
            return True
        held = [self._is_held(outlook, node_id, now) for node_id in outlook.near(self.node)]
        return not any(held)

    def _build_full(self, outlook: Outlook, now: float) -> None:
        upsert: list[PeerEntry] = []
        remove: list[Removal] = []
        absent: list[Absence] = []
        later: dict[UUID, None] = {}
        for node_id in dict.fromkeys([*outlook.near(self.node), *sorted(self._partners)]):
            view = self._view(outlook, node_id)
            if isinstance(view, PeerEntry) and self._is_held(outlook, node_id, now):
                view, later[node_id] = Unseen.NOT_YET, None
            if isinstance(view, PeerEntry):
                upsert.append(view)
                continue
            if view is not RemovalReason.DENIED:  # a peer in no list is removed, and these may come back
                has_left = view is RemovalReason.DISCONNECTED
                reason = RemovalReason.DISCONNECTED if has_left else RemovalReason.LOST
                remove.append(self._removal(node_id, reason))
            absent += self._absence(node_id)
        self._sent = {entry.id: entry for entry in upsert}
        self._full = _full_messages(upsert, remove, absent)
        self._is_full_owed = False
        self._changed = later

    def _delta(self, outlook: Outlook, now: float) -> Peers | None:
        parcel = Parcel()
        for node_id in list(self._changed):
            if self._is_held(outlook, node_id, now):
                continue
            view = self._view(outlook, node_id)
            if not parcel.add(*self._news(node_id, view)):
                break
            del self._changed[node_id]
            if isinstance(view, PeerEntry):
                self._sent[node_id] = view
            elif isinstance(view, RemovalReason):
                self._sent.pop(node_id, None)
        return parcel.message() if parcel else None

    def _news(self, node_id: UUID, view: View) -> list[PeerEntry | Removal | Absence]:
        """Returns what has not been sent to the node yet of a peer, as it sees it now."""
        if isinstance(view, PeerEntry):
            return [view] if self._sent.get(node_id) != view else []
        if isinstance(view, Unseen):
            return []
        if node_id in self._sent or view is RemovalReason.DENIED:
            # A peer that is denied is removed in any case: the node may know it from before this connection.
            return [self._removal(node_id, view)]
        if self.node.kind is NodeKind.WORKSPACE and node_id in self._partners:
            return [self._removal(node_id, view)]  # what it may reach may be another now
        return [*self._absence(node_id)]

    def _removal(self, node_id: UUID, reason: RemovalReason) -> Removal:
        """A removal; to a workspace with what the peer may reach, since its tunnel or shell may live on."""
        partner = self._partners.get(node_id)
        if reason is RemovalReason.DENIED or partner is None or self.node.kind is not NodeKind.WORKSPACE:
            return Removal(node_id, reason)
        access = access_for(self.node, partner)
        return Removal(node_id, reason, str(access.ports), access.terminal)

    def _absence(self, node_id: UUID) -> list[Absence]:
        """The name of a node that is not there, for a device that may meet it."""
        node = self._partners.get(node_id)
        if node is None or self.node.kind is not NodeKind.DEVICE:
            return []
        return [Absence(node_id, node.kind.value, node.full_name)]

    def _view(self, outlook: Outlook, node_id: UUID) -> View:
        view = outlook.view(self.node, node_id)
        if view is not Unseen.NEVER:
            return view
        is_expected = node_id in self._partners and node_id not in self._sent
        return RemovalReason.LOST if is_expected else RemovalReason.DENIED

    # Holding a device back until the workspace is ready for it

    def _is_held(self, outlook: Outlook, node_id: UUID, now: float) -> bool:
        is_workspace = self.node.kind is NodeKind.WORKSPACE
        if is_workspace or not isinstance(self._view(outlook, node_id), PeerEntry):
            self._held_until.pop(node_id, None)
            return False
        if outlook.has_confirmed(node_id, self):
            self._held_until.pop(node_id, None)
            return False
        return now < self._held_until.setdefault(node_id, now + HOLD)


def _full_messages(upsert: list[PeerEntry], remove: list[Removal], absent: list[Absence]) -> list[Peers]:
    """A full list in messages that a node can read.

    There is always one, if only to say that there are no peers.
    """
    parcels = [Parcel()]
    for entry in chain.from_iterable(zip_longest(upsert, remove, absent)):
        if entry is not None and not parcels[-1].add(entry):
            parcels.append(Parcel())
            parcels[-1].add(entry)
    return [parcel.message(full=True, more=parcel is not parcels[-1]) for parcel in parcels]
