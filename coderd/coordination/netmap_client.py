"""The node's side, pure: what the server says becomes a NetMap; what a node keeps of it in its state file.

A NetMap outlives its connection: losing the server changes nothing in it, and a peer that the server has
*lost* stays, marked offline, since its tunnel may well be alive. Only the server's word removes a peer.
"""

from collections.abc import Set
from dataclasses import replace
from uuid import UUID

from coderd.config.url import ServerUrl
from coderd.coordination.dialled_map import map_as_dialled
from coderd.coordination.entries import parse_absence, parse_peer, parse_self
from coderd.coordination.message import (
    DerpMapChanged,
    Peers,
    Removal,
    RemovalReason,
    ServerMessage,
    Welcome,
)
from coderd.model.derpmap_json import parse_derp_map
from coderd.model.errors import MalformedPacket
from coderd.model.netmap import AbsentNode, NetMap, PeerAccess
from coderd.model.ports import parse_ports

MAX_PEERS = 65_536
"""Peers that a node believes its server to have; more is hostile."""


class NetMapClient:
    """Collects what the server says into one NetMap.

    Args:
        url: the server's URL as this node was given it: the embedded relay is dialled by that.
        netmap: the last NetMap of an earlier connection or process, None if there is none.
    """

    def __init__(self, url: ServerUrl, netmap: NetMap | None = None) -> None:
        self._url = url
        self._netmap = netmap
        self._full: NetMap | None = None

    @property
    def netmap(self) -> NetMap | None:
        """The current NetMap, None until the first welcome."""
        return self._netmap

    def handle_message(self, message: ServerMessage) -> NetMap | None:
        """Takes one message; returns the new NetMap if it changed.

        Raises MalformedPacket on a lying message.
        """
        before = self._netmap
        try:
            if isinstance(message, Welcome):
                self._handle_welcome(message)
            elif isinstance(message, DerpMapChanged):
                self._handle_derp_map(message)
            elif isinstance(message, Peers):
                self._handle_peers(message)
        except ValueError as error:
            raise MalformedPacket(f"the server's message is invalid: {error}") from None
        return self._netmap if self._netmap != before else None

    def forget(self, node_ids: Set[UUID]) -> NetMap | None:
        """Drops peers that the server lost and whose tunnels have died since.

        Returns the new NetMap if it changed.
        """
        if self._netmap is None or not node_ids & self._netmap.peers.keys():
            return None
        dead = Peers(remove=[Removal(node_id, RemovalReason.DISCONNECTED) for node_id in node_ids])
        self._netmap = _with_changes(self._netmap, dead, self._netmap)
        return self._netmap

    def handle_disconnected(self) -> None:
        """Drops a full list that was not complete when the connection ended; the NetMap stays."""
        self._full = None

    def _handle_welcome(self, message: Welcome) -> None:
        node = parse_self(message.self)
        embedded = message.embedded_region
        derp_map = map_as_dialled(parse_derp_map(message.derp_map), self._url, embedded)
        same = self._netmap is not None and self._netmap.self_node.node_id == node.node_id
        if self._netmap is not None and same:
            self._netmap = replace(self._netmap, self_node=node, derp_map=derp_map, embedded_region=embedded)
        else:
            self._netmap = NetMap(node, derp_map, embedded_region=embedded)

    def _handle_derp_map(self, message: DerpMapChanged) -> None:
        netmap = self._welcomed()
        derp_map = map_as_dialled(parse_derp_map(message.derp_map), self._url, netmap.embedded_region)
        self._netmap = replace(netmap, derp_map=derp_map)

    def _handle_peers(self, message: Peers) -> None:
        netmap = self._welcomed()
        if message.full and self._full is None:
            self._full = replace(netmap, peers={}, absent={})
        base = netmap if self._full is None else self._full
        changed = _with_changes(base, message, netmap)
        if len(changed.peers) + len(changed.absent) > MAX_PEERS:
            raise ValueError(f"more than {MAX_PEERS} peers")
        if self._full is not None and message.more:
            self._full = changed
            return
        self._full = None
        self._netmap = changed

    def _welcomed(self) -> NetMap:
        if self._netmap is None:
            raise ValueError("it came before the welcome")
        return self._netmap


def _with_changes(netmap: NetMap, message: Peers, known: NetMap) -> NetMap:
    """A map with one message applied; ``known`` is the map as it was before a full list began."""
    peers, absent = dict(netmap.peers), dict(netmap.absent)
    for entry in message.upsert:
        if entry.id == netmap.self_node.node_id:
            raise ValueError("this node is named among its own peers")
        peers[entry.id] = parse_peer(entry)
    for absence in message.absent:
        absent[absence.id] = parse_absence(absence)
    for removal in message.remove:
        peer, absentee = known.peers.get(removal.id), known.absent.get(removal.id)
        peers.pop(removal.id, None)
        if removal.reason == RemovalReason.LOST and peer is not None:
            peers[removal.id] = replace(peer, online=False, access=_access_of(removal, peer.access))
        elif removal.reason == RemovalReason.DISCONNECTED and peer is not None:
            may_stay = _access_of(removal, peer.access).terminal
            absent[removal.id] = AbsentNode(peer.node_id, peer.kind, peer.name, peer.address, may_stay)
        elif removal.reason in (RemovalReason.LOST, RemovalReason.DISCONNECTED) and absentee is not None:
            may_stay = absentee.terminal if removal.ports is None else removal.terminal
            absent[removal.id] = replace(absentee, terminal=may_stay)
        elif removal.reason not in (RemovalReason.LOST, RemovalReason.DISCONNECTED):
            absent.pop(removal.id, None)
    return replace(netmap, peers=peers, absent={id: node for id, node in absent.items() if id not in peers})


def _access_of(removal: Removal, before: PeerAccess) -> PeerAccess:
    """Returns what an absent peer may reach here: the removal's ports and terminal, or else those of before.

    Raises ValueError.
    """
    if removal.ports is None:
        return before
    return replace(before, ports=parse_ports(removal.ports), terminal=removal.terminal)
