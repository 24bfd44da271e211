"""Inbound policies: the ports of this node on which a peer may open flows."""

from dataclasses import dataclass
from functools import lru_cache

from coderd.model.addresses import PORT_NODE_API, PORT_SPEEDTEST
from coderd.model.netmap import PeerAccess
from coderd.model.ports import ALL_PORTS, NO_PORTS, PortSet, port_set
from coderd.packet import PROTOCOL_TCP

NODE_API = port_set([(PORT_NODE_API, PORT_NODE_API)])
SERVICES = port_set([(PORT_SPEEDTEST, PORT_SPEEDTEST), (PORT_NODE_API, PORT_NODE_API)])
"""TCP ports on which a workspace's daemon itself serves; it authenticates the caller there."""


@dataclass(frozen=True, slots=True)
class InboundPolicy:
    """Ports on which one peer may open flows; answers in flows that this node opened pass in any case."""

    ports: PortSet = NO_PORTS
    """Ports on which the peer may open TCP and UDP flows."""
    services: PortSet = NO_PORTS
    """Ports of the daemon's own services, on which the peer may open TCP flows as well."""

    @property
    def is_open(self) -> bool:
        """Whether every packet passes: of any protocol, fragmented, with any extension header."""
        return self.ports == ALL_PORTS

    def accepts(self, protocol: int, port: int) -> bool:
        """Returns whether the peer may open a TCP or UDP flow to a port."""
        return port in self.ports or (protocol == PROTOCOL_TCP and port in self.services)


def device_policy(accepted: PortSet) -> InboundPolicy:
    """Returns the policy of a user's device for all its peers.

    The ports that its user accepts, by default none.
    """
    return InboundPolicy(accepted)


@lru_cache(maxsize=256)
def workspace_policy(access: PeerAccess) -> InboundPolicy:
    """Returns a workspace's policy for one peer.

    The server may reach the node's API alone; other peers reach the ports that the NetMap grants, and
    ``SERVICES``.
    """
    if access.is_server:
        return InboundPolicy(services=NODE_API)
    return InboundPolicy(access.ports, SERVICES)
