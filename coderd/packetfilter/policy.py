"""What one peer may begin: which ports of this node it reaches unasked."""

from dataclasses import dataclass
from functools import lru_cache

from coderd.model.addresses import PORT_NODE_API, PORT_SPEEDTEST
from coderd.model.netmap import PeerAccess
from coderd.model.ports import ALL_PORTS, NO_PORTS, PortSet, port_set
from coderd.packet import PROTOCOL_TCP

NODE_API = port_set([(PORT_NODE_API, PORT_NODE_API)])
SERVICES = port_set([(PORT_SPEEDTEST, PORT_SPEEDTEST), (PORT_NODE_API, PORT_NODE_API)])
"""TCP ports on which a workspace's daemon itself answers; it asks there who calls."""


@dataclass(frozen=True, slots=True)
class InboundPolicy:
    """What one peer may begin. What this node began is answered whatever the policy says."""

    ports: PortSet = NO_PORTS
    """TCP and UDP ports."""
    services: PortSet = NO_PORTS
    """TCP ports beside these."""

    @property
    def is_open(self) -> bool:
        """Whether every packet passes: of any protocol, in fragments, behind any extension header."""
        return self.ports == ALL_PORTS

    def accepts(self, protocol: int, port: int) -> bool:
        """Returns whether the peer may begin a flow of TCP or UDP to a port."""
        return port in self.ports or (protocol == PROTOCOL_TCP and port in self.services)


def device_policy(accepted: PortSet) -> InboundPolicy:
    """Returns a user's device's policy.

    It decides for itself, alike for all peers: ``accepted``, which is nothing unless its user said so.
    """
    return InboundPolicy(accepted)


@lru_cache(maxsize=256)
def workspace_policy(access: PeerAccess) -> InboundPolicy:
    """Returns a workspace's policy.

    It accepts what the server says of each peer, and calls to its own services.
    """
    if access.is_server:
        return InboundPolicy(services=NODE_API)
    return InboundPolicy(access.ports, SERVICES)
