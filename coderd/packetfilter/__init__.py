"""Stateful packet filter of a node: admits or drops what its peers send, deny by default. Pure.

policy   the ports on which one peer may open flows
flow     one flow, and the bounded flow table of a peer
peer     one peer: policy, flow table, rate limits
icmp     ICMPv6: the flow that an error quotes, and the error that refuses a packet
reset    TCP resets for both ends of a connection, and the keepalive probe
filter   the filter itself: the decision on each packet

The filter stands between WireGuard and the TUN (``engine/dataplane.py``). WireGuard has verified by then that
a packet's source is the peer's only address and its destination this node's, so a flow is identified by peer,
protocol and two ports.
"""

from coderd.packetfilter.filter import PacketFilter
from coderd.packetfilter.policy import InboundPolicy, device_policy, workspace_policy

__all__ = ["InboundPolicy", "PacketFilter", "device_policy", "workspace_policy"]
