"""Whom a workspace serves inside the tunnel, and what they are told, by the newest map. Pure."""

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from uuid import UUID

from coderd.model.netmap import AbsentNode, NetMap, NodeKind, Peer
from coderd.netcheck import Facts


class Hosting:
    """The newest map, as the services of a workspace ask it.

    Args:
        facts: this node's network as far as it matters to a peer.
        proves: whether who shows a secret comes by way of a peer's daemon.
        is_cut_off: whether the server has been silent for so long that its word on users is good no more.

    Attributes:
        netmap: the newest map; set by whoever hears the server.
    """

    def __init__(
        self,
        facts: Callable[[Peer], Awaitable[Facts]],
        proves: Callable[[Peer, str], Awaitable[bool]],
        is_cut_off: Callable[[], bool],
    ) -> None:
        self.netmap: NetMap | None = None
        self._facts = facts
        self._proves = proves
        self._is_cut_off = is_cut_off

    @property
    def name(self) -> str:
        """The workspace's full name."""
        return self.netmap.self_node.name if self.netmap is not None else ""

    def is_owned_by(self, peer: Peer) -> bool:
        """Whether the workspace and this device have one owner; the server's node, which speaks for many, has not."""
        return not peer.access.is_server and peer.person == self.name.partition("/")[0]

    def peer_at(self, ip: str) -> Peer | None:
        """The user's device with a tailnet address, or the server's node; WireGuard has already proved the address."""
        if self.netmap is None:
            return None
        address = ip_address(ip.partition("%")[0])
        return next(
            (
                peer
                for peer in self.netmap.peers.values()
                if peer.address == address and peer.kind is NodeKind.DEVICE
            ),
            None,
        )

    def standing(self, node_id: UUID) -> Peer | AbsentNode | None:
        """Somebody as the server has them, be they connected or not; None where they may come no more."""
        if self.netmap is None or self._is_cut_off():
            return None
        return self.netmap.peers.get(node_id) or self.netmap.absent.get(node_id)

    def may_have_terminal(self, node_id: UUID) -> bool:
        """Whether shells that somebody has opened may go on."""
        match self.standing(node_id):
            case Peer(access=access):
                return access.terminal or access.is_server
            case AbsentNode(terminal=may_stay):
                return may_stay
        return False

    async def proves(self, peer: Peer, shown: str) -> bool:
        """Whether who shows a secret comes by way of a peer's daemon."""
        return await self._proves(peer, shown)

    async def facts(self, peer: Peer) -> Facts:
        """What a peer that asks is told of this node's network."""
        return await self._facts(peer)
