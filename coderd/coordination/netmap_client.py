"""The node's side, pure: what the server says becomes a NetMap; what a node keeps of it in its state file.

A NetMap outlives its connection: losing the server changes nothing in it, and a peer that the server has *lost* stays,
marked offline, since its tunnel may well be alive. Only the server's word removes a peer.
"""

from collections.abc import Set
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from uuid import UUID

import msgspec

from coderd.config.url import ServerUrl, parse_server_url
from coderd.coordination.message import (
    MAX_ENDPOINTS,
    Absence,
    DerpMapChanged,
    Endpoint,
    PeerEntry,
    Peers,
    Removal,
    SelfEntry,
    ServerMessage,
    Update,
    Welcome,
)
from coderd.coordination.reporter import NOTHING_NEW, Reports
from coderd.model.addresses import AddrPort, format_addr_port, parse_addr_port, tailnet_address
from coderd.model.derpmap import EMBEDDED_REGION, DerpMap, DerpNode, DerpRegion
from coderd.model.derpmap_json import derp_map_to_json, parse_derp_map
from coderd.model.errors import MalformedPacket
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import AbsentNode, NetMap, NodeKind, PathPolicy, Peer, PeerAccess, SelfNode
from coderd.model.ports import parse_ports

LOST = "lost"
"""The removal reason that keeps a peer, marked offline."""
WRONG_KIND = "wrong_kind"
"""Code of the refusal of whatever would make this machine another kind of node than its person did."""
DISCONNECTED = "disconnected"
"""The removal reason that ends a peer's tunnel and keeps its name."""

MAX_PEERS = 65_536
"""Peers that a node believes its server to have; more is hostile."""
MAX_SAVED = 32 << 20
"""Bytes of a NetMap that is saved."""


@dataclass(frozen=True, slots=True)
class NodeUpdate:
    """What this node tells the server of its reachability."""

    home_region: int
    """0 while unknown: then nobody is shown this node."""
    endpoints: tuple[tuple[AddrPort, int], ...] = ()
    """Addresses and how they were found, best first."""
    latencies: dict[int, float] = field(default_factory=dict)
    """Seconds to each region's relay."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """How it stands between this node and its server."""

    connected: bool
    reason: str = ""
    """One clause for people; empty while connected."""
    attempts: int = 0
    """Failed attempts since the last connection."""
    resume_token: str = field(default="", repr=False)
    """What to present next time, also after a restart; set while connected."""


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
        """Takes one message; returns the new NetMap if it changed. Raises MalformedPacket on a lying message."""
        before = self._netmap
        try:
            if isinstance(message, Welcome):
                self._handle_welcome(message)
            elif isinstance(message, DerpMapChanged):
                self._handle_derp_map(message)
            elif isinstance(message, Peers):
                self._handle_peers(message)
        except ValueError as error:
            raise MalformedPacket(f"the server's message makes no sense: {error}") from None
        return self._netmap if self._netmap != before else None

    def forget(self, node_ids: Set[UUID]) -> NetMap | None:
        """Drops peers that the server lost and whose tunnels have died since; returns the new NetMap if it changed."""
        if self._netmap is None or not node_ids & self._netmap.peers.keys():
            return None
        dead = Peers(remove=[Removal(node_id, DISCONNECTED) for node_id in node_ids])
        self._netmap = _with_changes(self._netmap, dead, self._netmap)
        return self._netmap

    def introduce(self, peer: Peer) -> NetMap | None:
        """A peer's own word on its disco key and generation, the server's not having come; the new NetMap if it changed."""
        known = self._netmap.peers.get(peer.node_id) if self._netmap is not None else None
        if self._netmap is None or known is None or known.node_key != peer.node_key:
            return None
        introduced = replace(known, disco_key=peer.disco_key, generation=peer.generation)
        if introduced == known:
            return None
        self._netmap = replace(self._netmap, peers={**self._netmap.peers, peer.node_id: introduced})
        return self._netmap

    def handle_disconnected(self) -> None:
        """The connection is gone: what was half said is forgotten, the NetMap stays."""
        self._full = None

    def _handle_welcome(self, message: Welcome) -> None:
        node = parse_self(message.self)
        embedded = message.embedded_region
        derp_map = as_told(parse_derp_map(message.derp_map), self._url, embedded)
        same = self._netmap is not None and self._netmap.self_node.node_id == node.node_id
        if self._netmap is not None and same:
            self._netmap = replace(self._netmap, self_node=node, derp_map=derp_map, embedded_region=embedded)
        else:
            self._netmap = NetMap(node, derp_map, embedded_region=embedded)

    def _handle_derp_map(self, message: DerpMapChanged) -> None:
        netmap = self._welcomed()
        derp_map = as_told(parse_derp_map(message.derp_map), self._url, netmap.embedded_region)
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
        if removal.reason == LOST and peer is not None:
            peers[removal.id] = replace(peer, online=False, access=_access_of(removal, peer.access))
        elif removal.reason == DISCONNECTED and peer is not None:
            may_stay = _access_of(removal, peer.access).terminal
            absent[removal.id] = AbsentNode(peer.node_id, peer.kind, peer.name, peer.address, may_stay)
        elif removal.reason in (LOST, DISCONNECTED) and absentee is not None:
            may_stay = absentee.terminal if removal.ports is None else removal.terminal
            absent[removal.id] = replace(absentee, terminal=may_stay)
        elif removal.reason not in (LOST, DISCONNECTED):
            absent.pop(removal.id, None)
    return replace(netmap, peers=peers, absent={id: node for id, node in absent.items() if id not in peers})


def _access_of(removal: Removal, before: PeerAccess) -> PeerAccess:
    """What somebody who is away may reach here, of what was said before where nothing is said now. Raises ValueError."""
    if removal.ports is None:
        return before
    return replace(before, ports=parse_ports(removal.ports), terminal=removal.terminal)


def parse_absence(entry: Absence) -> AbsentNode:
    """Reads the name of somebody who is not there. Raises ValueError on an unknown kind."""
    return AbsentNode(entry.id, NodeKind(entry.kind), entry.name, tailnet_address(entry.id))


def parse_peer(entry: PeerEntry) -> Peer:
    """Reads one entry. Raises ValueError on a bad key or address, or an address that its id does not derive."""
    address = IPv6Address(entry.address)
    if address != tailnet_address(entry.id):
        raise ValueError(f"{entry.address} is not the address of node {entry.id}")
    return Peer(
        node_id=entry.id,
        kind=NodeKind(entry.kind),
        name=entry.name,
        node_key=NodePublic.parse(entry.node_key),
        disco_key=DiscoPublic.parse(entry.disco_key),
        address=address,
        home_region=entry.home_region,
        endpoints=tuple(parse_addr_port(endpoint) for endpoint in entry.endpoints),
        generation=entry.generation,
        path_policy=PathPolicy(entry.path_policy),
        access=PeerAccess(parse_ports(entry.ports), entry.terminal, entry.is_server),
        capabilities=frozenset(entry.capabilities),
    )


def parse_self(entry: SelfEntry) -> SelfNode:
    """Reads this node's own entry. Raises ValueError as ``parse_peer`` does."""
    address = IPv6Address(entry.address)
    if address != tailnet_address(entry.id):
        raise ValueError(f"{entry.address} is not the address of node {entry.id}")
    return SelfNode(entry.id, NodeKind(entry.kind), entry.name, address)


def update_message(update: NodeUpdate, generation: int, reports: Reports = NOTHING_NEW) -> Update:
    """The message that says a ``NodeUpdate``, with reports of paths; endpoints beyond the limit are left out."""
    endpoints = [Endpoint(format_addr_port(addr), kind) for addr, kind in update.endpoints[:MAX_ENDPOINTS]]
    return Update(
        update.home_region,
        endpoints,
        dict(sorted(update.latencies.items())),
        generation,
        path_reports=list(reports.paths),
        handshake_failures=dict(reports.failures),
    )


def as_told(derp_map: DerpMap, url: ServerUrl, region_id: int = EMBEDDED_REGION) -> DerpMap:
    """A server's map as a node takes it: the server's own region where the node knows it, no other on the node itself.

    Only a server that the person named on this machine itself may name relays there.
    """
    if not url.is_this_machine:
        derp_map = replace(
            derp_map, regions={number: _elsewhere(region) for number, region in derp_map.regions.items()}
        )
    return rewrite_embedded_region(derp_map, url, region_id)


def _elsewhere(region: DerpRegion) -> DerpRegion:
    return replace(region, nodes=tuple(replace(node, is_elsewhere=True) for node in region.nodes))


def rewrite_embedded_region(derp_map: DerpMap, url: ServerUrl, region_id: int = EMBEDDED_REGION) -> DerpMap:
    """The map with the server's own region at the host, port and scheme by which this node knows the server.

    A node may reach its server by an internal name that the access URL does not tell; it then relays by it, too.
    """
    region = derp_map.regions.get(region_id)
    if region is None:
        return derp_map
    nodes = tuple(_rewrite_node(node, url) for node in region.nodes)
    return replace(derp_map, regions={**derp_map.regions, region_id: replace(region, nodes=nodes)})


def _rewrite_node(node: DerpNode, url: ServerUrl) -> DerpNode:
    return replace(
        node,
        host_name=url.host,
        ipv4="",
        ipv6="",
        derp_port=url.port,
        force_http=not url.is_tls,
        server_trust=url.trust if url.is_tls else "",
        is_elsewhere=False,
    )


class SavedPeer(PeerEntry, frozen=True):
    """A peer and whether the server had it online."""

    online: bool = True


class SavedNetMap(msgspec.Struct, frozen=True):
    """A NetMap in the words of the protocol."""

    self: SelfEntry
    derp_map: dict[str, object]
    peers: list[SavedPeer]
    absent: list[Absence] = []
    embedded_region: int = EMBEDDED_REGION


def encode_netmap(netmap: NetMap) -> bytes:
    """A NetMap as JSON; it holds no secret.

    Of one that is longer than ``MAX_SAVED`` bytes, names of absent nodes and then peers are left out, those offline first: what is
    saved spares a start the wait for the server, which names everybody.
    """
    node = netmap.self_node
    peers = sorted(map(_save_peer, netmap.peers.values()), key=lambda peer: not peer.online)
    saved = SavedNetMap(
        SelfEntry(node.node_id, node.kind.value, node.name, str(node.address)),
        derp_map_to_json(netmap.derp_map),
        peers,
        [Absence(absent.node_id, absent.kind.value, absent.name) for absent in netmap.absent.values()],
        netmap.embedded_region,
    )
    data = msgspec.json.encode(saved)
    while len(data) > MAX_SAVED:
        n_kept = min(len(saved.peers) - 1, len(saved.peers) * MAX_SAVED // len(data))
        saved = msgspec.structs.replace(saved, peers=saved.peers[: max(0, n_kept)], absent=[])
        data = msgspec.json.encode(saved)
    return data


def decode_netmap(data: bytes, url: str) -> NetMap | None:
    """Reads what ``encode_netmap`` wrote, for a node that now knows its server as ``url``.

    None for anything else: a damaged or foreign file costs a round to the server, never the start.
    """
    try:
        saved = msgspec.json.decode(data, type=SavedNetMap)
        derp_map = as_told(parse_derp_map(saved.derp_map), parse_server_url(url), saved.embedded_region)
        peers = {entry.id: _load_peer(entry) for entry in saved.peers[:MAX_PEERS]}
        absent = {entry.id: parse_absence(entry) for entry in saved.absent[:MAX_PEERS]}
        return NetMap(parse_self(saved.self), derp_map, peers, absent, saved.embedded_region)
    except (ValueError, RecursionError):
        return None


def _load_peer(entry: SavedPeer) -> Peer:
    return replace(parse_peer(entry), online=entry.online)


def _save_peer(peer: Peer) -> SavedPeer:
    return SavedPeer(
        id=peer.node_id,
        kind=peer.kind.value,
        name=peer.name,
        node_key=peer.node_key.text,
        disco_key=peer.disco_key.text,
        address=str(peer.address),
        home_region=peer.home_region,
        generation=peer.generation,
        endpoints=[format_addr_port(endpoint) for endpoint in peer.endpoints],
        path_policy=peer.path_policy.value,
        ports=str(peer.access.ports),
        terminal=peer.access.terminal,
        is_server=peer.access.is_server,
        capabilities=sorted(peer.capabilities),
        online=peer.online,
    )
