"""This host's addresses and way out, as the kernel announces them, given to a node."""

from collections.abc import Callable

import trio

from coderd.engine.node import Node
from coderd.http.dialer import mark_connections
from coderd.magicsock.io.interfaces import NetworkView, watch_interfaces
from coderd.magicsock.io.sockets import UdpSockets
from coderd.netcheck import HostAddresses


class NetworkFeed:
    """Watcher of the network under one node.

    Args:
        node: takes the addresses, and that the network has changed.
        sockets: have the ports at which the node may be reached there; are marked to stay out of tunnels.
        drain: carries out what the node then wants.
        interface: the node's own, which is not looked at.

    Attributes:
        here: this host's addresses.
    """

    def __init__(self, node: Node, sockets: UdpSockets, drain: Callable[[], None], *, interface: str) -> None:
        self.here = HostAddresses()
        self._node = node
        self._sockets = sockets
        self._drain = drain
        self._interface = interface

    async def run(self) -> None:
        """Watches the network until cancelled."""
        seen: NetworkView | None = None
        async for view in watch_interfaces(ignore=self._interface):
            self._handle(view, seen)
            seen = view

    def _handle(self, view: NetworkView, seen: NetworkView | None) -> None:
        now, sockets = trio.current_time(), self._sockets
        self.here = HostAddresses(frozenset(view.addresses), frozenset(view.tunnels))
        sockets.mark(view.marks)
        mark_connections(*view.marks)
        self._node.set_local_endpoints(sockets.v4_port, sockets.v6_port, view.addresses, now, view.tunnels)
        # At the first look, connections dialled without the marks already go through the tunnel to bypass.
        if any(view.marks) if seen is None else not view.is_same_way_out(seen):
            self._node.handle_network_changed(now)
        self._drain()
