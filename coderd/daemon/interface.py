"""What a session sets on the TUN interface: one address, and routes to all peers."""

from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Interface, IPv6Network

import structlog
import trio

from coderd.model.errors import UserError
from coderd.model.netmap import Peer
from coderd.tun.io.router import Router

CLEANUP_TIMEOUT = 2.0
"""Seconds that removing routes and address from the interface may take."""

log = structlog.get_logger(__name__)


class Interface:
    """Settings of the TUN interface, which outlives the session.

    Args:
        name: the interface.
        router: sets its addresses and routes.
        mtu: in bytes.
    """

    def __init__(self, name: str, router: Router, mtu: int) -> None:
        self.name = name
        self.mtu = mtu
        self._router = router
        self._address: IPv6Address | None = None

    async def set_address(self, address: IPv6Address) -> bool:
        """Makes this the interface's one address, and brings the interface up.

        Returns:
            Whether the address is new.

        Raises:
            OSError: the interface is gone.
            UserError: the right to change it is missing, or the host has no IPv6.
        """
        if address == self._address:
            return False
        self._address = address
        await self._router.configure([IPv6Interface(f"{address}/128")], self.mtu)
        return True

    async def set_routes(self, peers: Iterable[Peer]) -> None:
        """Routes the addresses of these peers, and no others, into the interface.

        Raises:
            OSError: the interface is gone.
            UserError: the right to change it is missing.
        """
        await self._router.set_routes([IPv6Network(peer.address) for peer in peers])

    async def clear(self) -> None:
        """Removes the address and the routes, also while cancelled; an error is logged."""
        if self._address is None:
            return
        with trio.move_on_after(CLEANUP_TIMEOUT, shield=True):
            try:
                await self._router.set_routes([])
                await self._router.configure([], self.mtu)
            except (OSError, UserError) as error:
                log.warning("the interface keeps its settings", interface=self.name, error=str(error))
