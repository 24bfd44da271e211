"""Whether what a server saw may be this node at all. Pure.

Whoever stands before a server (a router that hides its senders, a load balancer) is what the server sees in place of the
node. A STUN server then tells of an address at which nobody of ours is, and to publish it would send peers astray. It shows
by what no NAT on the node's own side does: the server's own address, or one from within its private network.
"""

from enum import Enum
from ipaddress import IPv4Network, ip_address
from typing import NamedTuple

from coderd.model.addresses import Scope, address_scope

_SHARED = IPv4Network("100.64.0.0/10")
"""Between a carrier and its customers (RFC 6598): nobody's public address."""


class Oddity(Enum):
    """Why a sighting is not this node, or none to publish."""

    SERVERS_OWN = "the server's own address"
    INNER = "a private address, though the server has a public one"
    TUNNEL = "the address of a tunnel on this machine"


class Here(NamedTuple):
    """This host's addresses.

    Attributes:
        addresses: of its interfaces, tunnels not among them.
        tunnels: of its tunnels, whosever they are.
    """

    addresses: frozenset[str] = frozenset()
    tunnels: frozenset[str] = frozenset()

    def oddity(self, seen: str, server: str) -> Oddity | None:
        """Why ``seen`` is not to be believed; None where it may be.

        Args:
            seen: the address that a server saw.
            server: the address at which it was asked.
        """
        if seen in self.addresses:
            return None
        if seen in self.tunnels:
            return Oddity.TUNNEL
        if seen == server:
            return Oddity.SERVERS_OWN
        if not is_public(seen) and is_public(server):
            return Oddity.INNER
        return None


ANYWHERE = Here()
"""While this host's addresses are not known."""


def is_public(ip: str) -> bool:
    """Whether an address is of use anywhere. Raises ValueError if it is none."""
    address = ip_address(ip)
    return address_scope(ip) is Scope.PUBLIC and not (address.version == 4 and address in _SHARED)
