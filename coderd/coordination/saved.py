"""The last NetMap as a node keeps it in its state file, so that its tunnels need no server to start again."""

from dataclasses import replace

import msgspec

from coderd.coordination.client import MAX_PEERS, parse_peer, parse_self
from coderd.coordination.message import PeerEntry, SelfEntry
from coderd.model.addresses import format_addr_port
from coderd.model.derpmap_json import derp_map_to_json, parse_derp_map
from coderd.model.errors import MalformedPacket
from coderd.model.netmap import NetMap, Peer


class SavedPeer(PeerEntry, frozen=True):
    """A peer and whether the server had it online."""

    online: bool = True


class SavedNetMap(msgspec.Struct, frozen=True):
    """A NetMap in the words of the protocol."""

    self: SelfEntry
    derp_map: dict[str, object]
    peers: list[SavedPeer]


def encode_netmap(netmap: NetMap) -> bytes:
    """A NetMap as JSON; it holds no secret."""
    node = netmap.self_node
    saved = SavedNetMap(
        SelfEntry(node.node_id, node.kind.value, node.name, str(node.address)),
        derp_map_to_json(netmap.derp_map),
        [_save_peer(peer) for peer in netmap.peers.values()],
    )
    return msgspec.json.encode(saved)


def decode_netmap(data: bytes) -> NetMap:
    """Reads what ``encode_netmap`` wrote. Raises MalformedPacket on anything else."""
    try:
        saved = msgspec.json.decode(data, type=SavedNetMap)
        if len(saved.peers) > MAX_PEERS:
            raise ValueError(f"more than {MAX_PEERS} peers")
        peers = {entry.id: _load_peer(entry) for entry in saved.peers}
        return NetMap(parse_self(saved.self), parse_derp_map(saved.derp_map), peers)
    except (ValueError, RecursionError) as error:
        raise MalformedPacket(f"not a saved NetMap: {error}") from None


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
        online=peer.online,
    )
