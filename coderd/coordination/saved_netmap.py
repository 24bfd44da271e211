"""A NetMap as a node keeps it in its state file."""

from dataclasses import replace

import msgspec

from coderd.config.url import parse_server_url
from coderd.coordination.dialled_map import map_as_dialled
from coderd.coordination.entries import parse_absence, parse_peer, parse_self
from coderd.coordination.message import Absence, PeerEntry, SelfEntry
from coderd.coordination.netmap_client import MAX_PEERS
from coderd.model.addresses import format_addr_port
from coderd.model.derpmap import EMBEDDED_REGION
from coderd.model.derpmap_json import derp_map_to_json, parse_derp_map
from coderd.model.netmap import NetMap, Peer

MAX_SAVED = 32 << 20
"""Bytes of a NetMap that is saved."""


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
    """Encodes a NetMap as JSON; it holds no secret.

    Of one that is longer than ``MAX_SAVED`` bytes, names of absent nodes and then peers are left out, those
    offline first: the server sends the whole map again once the node has connected.
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
        derp_map = map_as_dialled(
            parse_derp_map(saved.derp_map), parse_server_url(url), saved.embedded_region
        )
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
