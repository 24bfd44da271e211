"""What each peer of the NetMap may begin with this node, for the packet filter. Pure."""

from coderd.model.keys import NodePublic
from coderd.model.netmap import NetMap, NodeKind
from coderd.model.ports import PortSet
from coderd.packetfilter import InboundPolicy, PacketFilter, device_policy, workspace_policy


def inbound_policies(
    netmap: NetMap, accepted: PortSet, *, is_workspace: bool
) -> dict[NodePublic, tuple[bytes, InboundPolicy]]:
    """Returns each peer's packed address and inbound policy, by its key.

    A node is judged as a workspace where the person at the machine made it one *and* the server says so; in
    every other case it decides for itself, as a device does. So a server that takes a device for a workspace
    opens nothing there.

    Args:
        netmap: what the server says, of each peer's access among other things.
        accepted: the ports that a device accepts connections to, from all of its peers.
        is_workspace: whether this machine was started with a workspace's token.
    """
    own = device_policy(accepted)
    obeys = is_workspace and netmap.self_node.kind is NodeKind.WORKSPACE
    return {
        peer.node_key: (
            peer.address.packed,
            workspace_policy(peer.access) if obeys else own,
        )
        for peer in netmap.peers.values()
    }


def admit(
    packet_filter: PacketFilter, netmap: NetMap, accepted: PortSet, *, is_workspace: bool, now: float
) -> None:
    """Sets the packet filter's peers and policies to those of a NetMap, by ``inbound_policies``."""
    policies = inbound_policies(netmap, accepted, is_workspace=is_workspace)
    packet_filter.set_peers(netmap.self_node.address.packed, policies, now)
