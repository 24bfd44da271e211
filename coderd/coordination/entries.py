"""The protocol's entries to the model's records, and a node's reachability to its message."""

from ipaddress import IPv6Address

from coderd.coordination.message import MAX_ENDPOINTS, Absence, Endpoint, PeerEntry, SelfEntry, Update
from coderd.coordination.reporter import NOTHING_NEW, Reports
from coderd.model.addresses import format_addr_port, parse_addr_port, tailnet_address
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.model.netmap import AbsentNode, NodeKind, Peer, PeerAccess, SelfNode
from coderd.model.paths import PathPolicy
from coderd.model.ports import parse_ports
from coderd.model.reachability import NodeUpdate


def parse_absence(entry: Absence) -> AbsentNode:
    """Parses the entry of a node that is not connected. Raises ValueError on an unknown kind."""
    return AbsentNode(entry.id, NodeKind(entry.kind), entry.name, tailnet_address(entry.id))


def parse_peer(entry: PeerEntry) -> Peer:
    """Parses a peer's entry. Raises ValueError on a bad key, or an address that its id does not derive."""
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
    """Parses this node's own entry. Raises ValueError on an address that its id does not derive."""
    address = IPv6Address(entry.address)
    if address != tailnet_address(entry.id):
        raise ValueError(f"{entry.address} is not the address of node {entry.id}")
    return SelfNode(entry.id, NodeKind(entry.kind), entry.name, address)


def update_message(update: NodeUpdate, generation: int, reports: Reports = NOTHING_NEW) -> Update:
    """Returns the message for a ``NodeUpdate``, with reports of paths.

    Endpoints beyond ``MAX_ENDPOINTS`` are left out.
    """
    endpoints = [Endpoint(format_addr_port(addr), kind) for addr, kind in update.endpoints[:MAX_ENDPOINTS]]
    return Update(
        update.home_region,
        endpoints,
        dict(sorted(update.latencies.items())),
        generation,
        path_reports=list(reports.paths),
        handshake_failures=dict(reports.failures),
    )
