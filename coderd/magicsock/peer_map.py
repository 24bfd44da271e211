"""Who is who: node key <-> disco key <-> address."""

from coderd.model.addresses import AddrPort
from coderd.model.keys import DiscoPublic, NodePublic

_MOST_ADDRESSES = 256
"""Addresses remembered per peer; the one learned longest ago makes room."""


class PeerMap:
    """Index between a peer's three names.

    An address has one peer, the last that proved it; a peer has many.
    """

    def __init__(self) -> None:
        self._disco_of: dict[NodePublic, DiscoPublic] = {}
        self._nodes_of: dict[DiscoPublic, list[NodePublic]] = {}
        self._node_at: dict[AddrPort, NodePublic] = {}
        self._addrs_of: dict[NodePublic, dict[AddrPort, None]] = {}

    def set_peer(self, node: NodePublic, disco: DiscoPublic) -> None:
        """Names a peer, or gives it a new disco key."""
        if self._disco_of.get(node) == disco:
            return
        self._forget_disco(node)
        self._disco_of[node] = disco
        self._nodes_of.setdefault(disco, []).append(node)

    def remove_peer(self, node: NodePublic) -> None:
        """Forgets all of a peer's names."""
        self._forget_disco(node)
        for addr in self._addrs_of.pop(node, {}):
            del self._node_at[addr]

    def learn_address(self, addr: AddrPort, node: NodePublic) -> None:
        """Notes that a peer has proved to be at an address."""
        if self._node_at.get(addr) == node or node not in self._disco_of:
            return
        self._forget_address(addr)
        self._node_at[addr] = node
        addrs = self._addrs_of.setdefault(node, {})
        addrs[addr] = None
        if len(addrs) > _MOST_ADDRESSES:
            self._forget_address(next(iter(addrs)))

    def disco_of(self, node: NodePublic) -> DiscoPublic | None:
        """Returns a peer's disco key; None for an unknown peer."""
        return self._disco_of.get(node)

    def nodes_of(self, disco: DiscoPublic) -> tuple[NodePublic, ...]:
        """Returns every peer that has this disco key: two on one machine may share one."""
        return tuple(self._nodes_of.get(disco, ()))

    def node_at(self, addr: AddrPort) -> NodePublic | None:
        """Returns the peer that last proved to be at an address, or None."""
        return self._node_at.get(addr)

    def _forget_disco(self, node: NodePublic) -> None:
        disco = self._disco_of.pop(node, None)
        if disco is None:
            return
        self._nodes_of[disco].remove(node)
        if not self._nodes_of[disco]:
            del self._nodes_of[disco]

    def _forget_address(self, addr: AddrPort) -> None:
        if (owner := self._node_at.pop(addr, None)) is not None:
            del self._addrs_of[owner][addr]
