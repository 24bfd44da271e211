"""The mapped-address check: whether the address that a STUN server saw may be this node's. Pure.

A router or load balancer before a server that hides its senders is what the server sees in place of the node.
To publish that address would send peers astray. It shows by what no NAT on the node's own side does: the
server's own address, or a private one though the server has a public one.
"""

from enum import Enum
from ipaddress import IPv4Network, ip_address
from typing import NamedTuple

from coderd.model.addresses import AddressScope, address_scope

_SHARED = IPv4Network("100.64.0.0/10")
"""Shared between a carrier and its customers (RFC 6598): no public address."""


class ForeignAddress(Enum):
    """Why a mapped address is not this node's, or not one to publish."""

    SERVERS_OWN = "the server's own address"
    INNER = "a private address, though the server has a public one"
    TUNNEL = "the address of a tunnel on this machine"


class HostAddresses(NamedTuple):
    """This host's addresses.

    Attributes:
        addresses: of its interfaces, tunnels not among them.
        tunnels: of all its tunnels, ours and others.
    """

    addresses: frozenset[str] = frozenset()
    tunnels: frozenset[str] = frozenset()

    def why_foreign(self, mapped: str, server: str) -> ForeignAddress | None:
        """Returns why a mapped address is not to be believed; None if it may be this node's.

        Args:
            mapped: the address that a server saw.
            server: the address at which it was asked.
        """
        if mapped in self.addresses:
            return None
        if mapped in self.tunnels:
            return ForeignAddress.TUNNEL
        if mapped == server:
            return ForeignAddress.SERVERS_OWN
        if not is_public(mapped) and is_public(server):
            return ForeignAddress.INNER
        return None


NO_ADDRESSES = HostAddresses()
"""Stands for this host's addresses until they are known."""


def is_public(ip: str) -> bool:
    """Returns whether an address is reachable from the internet.

    Raises ValueError if the text is no address.
    """
    address = ip_address(ip)
    return address_scope(ip) is AddressScope.PUBLIC and not (address.version == 4 and address in _SHARED)
