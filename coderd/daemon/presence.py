"""Peers that come, go and are lost, by the NetMaps before and after. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from coderd.model.keys import NodePublic
from coderd.model.netmap import NetMap, Peer

LOST_PEER_TIMEOUT = 900.0
"""Seconds after its last handshake for which a peer that the server has lost is kept."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Peer that has come online, or come back as a new process (another generation)."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Departure:
    """Peer that was online and is not any more.

    Attributes:
        peer: the peer as the NetMap before shows it.
        is_lost: the newer NetMap still lists it, offline, since its tunnel may live.
    """

    peer: Peer
    is_lost: bool


def changes(before: NetMap | None, after: NetMap) -> Iterator[Arrival | Departure]:
    """Yields the peers that came online or went offline between two NetMaps."""
    known = before.peers if before is not None else {}
    for node_id in known.keys() | after.peers.keys():
        old, new = known.get(node_id), after.peers.get(node_id)
        if new is not None and new.online:
            if old is None or not old.online or old.generation != new.generation:
                yield Arrival(new)
        elif old is not None and old.online:
            yield Departure(old, is_lost=new is not None)


def lost_peers(netmap: NetMap, handshake_at: Callable[[NodePublic], float | None], now: float) -> set[UUID]:
    """Returns the ids of offline peers without a handshake in the last ``LOST_PEER_TIMEOUT`` seconds.

    Args:
        netmap: the newest NetMap.
        handshake_at: returns when the last handshake with a peer was; None without one.
        now: seconds on the same clock.
    """
    offline = [peer for peer in netmap.peers.values() if not peer.online]
    return {peer.node_id for peer in offline if not _is_recent(handshake_at(peer.node_key), now)}


def _is_recent(at: float | None, now: float) -> bool:
    return at is not None and now - at < LOST_PEER_TIMEOUT
