"""What a workspace serves to its peers inside the tunnel, at whatever address it has now."""

from collections.abc import Callable
from ipaddress import IPv6Address

import trio

from coderd.daemon.hosting import Hosting
from coderd.daemon.services import Services
from coderd.model.netmap import NetMap


class Serving:
    """Services at the node's current address; none on a device.

    Args:
        hosting: which peers are served, by the newest NetMap.
        make: makes the services for an address; None on a device.
    """

    def __init__(self, hosting: Hosting, make: Callable[[IPv6Address], Services] | None) -> None:
        self._hosting = hosting
        self._make = make
        self._services: Services | None = None

    def set_netmap(self, netmap: NetMap) -> None:
        """Ends connections and shells that a new NetMap no longer allows."""
        self._hosting.netmap = netmap
        if self._services is not None:
            self._services.review()

    async def move(self, address: IPv6Address, nursery: trio.Nursery) -> None:
        """Ends the services at the earlier address, and on a workspace starts them at this one.

        Args:
            address: the node's tailnet address, already on the interface.
            nursery: runs the services.

        Raises:
            UserError: a port cannot be listened on.
        """
        if self._services is not None:
            self._services.end()
            self._services = None
        if self._make is not None:
            services = self._make(address)
            await nursery.start(services.run)
            self._services = services
