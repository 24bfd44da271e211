"""What relay links deliver, given to a node as it comes."""

import time
from collections.abc import Callable, Sequence

import trio

from coderd.engine.node import Node
from coderd.model import Buffer
from coderd.model.keys import NodePublic


class RelayFeed:
    """Receiver of one node's relay links: each call reaches the node and is drained before it returns.

    Args:
        node: takes it.
        drain: carries out what the node then wants.
    """

    def __init__(self, node: Node, drain: Callable[[], None]) -> None:
        self._node = node
        self._drain = drain

    def handle_relayed(self, region: int, sender: NodePublic, packets: Sequence[Buffer]) -> None:
        """Takes packets of one sender from a region's relay."""
        self._node.handle_relayed(region, sender, packets, trio.current_time(), time.time())
        self._drain()

    def handle_peer_gone(self, region: int, peer: NodePublic) -> None:
        """Notes that a region's relay does not have a peer."""
        self._node.handle_peer_gone(region, peer, trio.current_time())
        self._drain()

    def handle_relay_connected(self, region: int) -> None:
        """Notes that the link to a region's relay is up."""
        self._node.handle_relay_connected(region, trio.current_time())
        self._drain()

    def handle_relay_broken(self, region: int) -> None:
        """Notes that the link to a region's relay is down."""
        self._node.handle_relay_broken(region, trio.current_time())
        self._drain()
