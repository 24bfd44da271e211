"""Peers that a workspace serves inside the tunnel, and what they may do, by the newest NetMap. Pure."""

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from uuid import UUID

from coderd.model.netmap import AbsentNode, NetMap, NodeKind, Peer
from coderd.netcheck import Facts


class Hosting:
    """View of the newest NetMap for a workspace's services.

    Args:
        facts: measures this node's network as far as it matters to a peer.
        proves: returns whether a secret shows that a connection comes by way of a peer's daemon.
        is_cut_off: returns whether the server has been silent for so long that its authorisations have
            expired.

    Attributes:
        netmap: the newest NetMap, set by the session; None before the first.
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
        """Full name of the workspace; empty before the first NetMap."""
        return self.netmap.self_node.name if self.netmap is not None else ""

    def is_owned_by(self, peer: Peer) -> bool:
        """Returns whether a peer belongs to the workspace's owner.

        False for the server's node, which acts for many users.
        """
        return not peer.access.is_server and peer.person == self.name.partition("/")[0]

    def peer_at(self, ip: str) -> Peer | None:
        """Returns the device, a user's or the server's node, with a tailnet address; None if no peer has it.

        The address authenticates the peer: WireGuard takes packets from it by that peer's key only (cryptokey
        routing, WireGuard paper §2). A zone (``%eth0``) is ignored.
        """
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
        """Returns a node of the NetMap, connected (Peer) or not (AbsentNode), or None if unauthorised.

        No node is authorised before the first NetMap, or once the server's authorisations have expired.
        """
        if self.netmap is None or self._is_cut_off():
            return None
        return self.netmap.peers.get(node_id) or self.netmap.absent.get(node_id)

    def may_have_terminal(self, node_id: UUID) -> bool:
        """Returns whether the shells that a node has opened may go on, be the node connected or not."""
        match self.standing(node_id):
            case Peer(access=access):
                return access.terminal or access.is_server
            case AbsentNode(terminal=may_stay):
                return may_stay
        return False

    async def proves(self, peer: Peer, shown: str) -> bool:
        """Returns whether a connection that shows this secret comes by way of a peer's daemon."""
        return await self._proves(peer, shown)

    async def facts(self, peer: Peer) -> Facts:
        """Returns this node's network, as far as it matters to a peer that asks."""
        return await self._facts(peer)
