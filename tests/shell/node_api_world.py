"""A workspace's node API for tests without a tunnel: peers come from loopback addresses, with what a test lets them reach."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import trio

from coderd.metrics import Counters
from coderd.model.netmap import AbsentNode, NodeKind, Peer, PeerAccess
from coderd.netcheck.facts import Facts
from coderd.peerapi.io.node_api import NodeApi, ServeTerminal
from tests.shell.daemon_world import make_peer

PHONE = make_peer("ann/phone", 7, kind=NodeKind.DEVICE)
SERVER = replace(PHONE, name="server", access=PeerAccess(is_server=True))


class Host:
    """``ann/dev``, which knows whom a test names; anybody else at a loopback address is one of Ann's devices.

    Attributes:
        known: by address; None for who is refused.
        away: those of them who are not connected, but may come back.
        secrets: what those must show who come from a peer, by its name; nothing where it has told none.
    """

    name = "ann/dev"

    def __init__(self, **known: Peer | None) -> None:
        self.known: dict[str, Peer | None] = known
        self.otherwise: Peer | None = PHONE
        self.away: set[UUID] = set()
        self.secrets: dict[str, str] = {}

    def peer_at(self, ip: str) -> Peer | None:
        return self.known.get(ip, self.otherwise)

    def standing(self, node_id: UUID) -> Peer | AbsentNode | None:
        peers = [*self.known.values(), self.otherwise]
        peer = next((peer for peer in peers if peer is not None and peer.node_id == node_id), None)
        if peer is not None and node_id in self.away:
            return AbsentNode(peer.node_id, peer.kind, peer.name, peer.address)
        return peer

    async def proves(self, peer: Peer, shown: str) -> bool:
        await trio.lowlevel.checkpoint()
        return peer.name not in self.secrets or self.secrets[peer.name] == shown

    async def facts(self, peer: Peer) -> Facts:
        return Facts(udp=True, home=peer.name)


async def serve_anybody(
    listeners: Sequence[trio.SocketListener],
    *,
    terminal: ServeTerminal | None = None,
    peer: Peer = PHONE,
    secret: str = "",
) -> None:
    """Serves whoever comes as one peer, and shows its secret where it has one, until cancelled."""
    host = Host()
    if secret:
        host.secrets[peer.name] = secret
    host.otherwise = peer
    await NodeApi(host, terminal=terminal, counters=Counters()).run(listeners)
