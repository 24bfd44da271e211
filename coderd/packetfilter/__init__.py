"""What a peer's packets may reach of this host: a small stateful filter at the receiver, deny by default.

Pure.

policy   what one peer may begin: ports, everything, nothing
flow     one flow, and the bounded table of a peer's flows
peer     one peer: its policy, its flows, its limits
icmp     the flow that an ICMPv6 error quotes; the error that tells a peer that its packet was refused
reset    the end of a TCP connection, told to both its ends
filter   the filter of one node: which packets pass, and whose flows they are

It stands between WireGuard and the TUN (``engine/dataplane.py``). WireGuard has made sure by then that a
packet is from the peer's one address and for this node's own; so here a flow is a protocol and two ports of
one peer.
"""

from coderd.packetfilter.filter import PacketFilter
from coderd.packetfilter.policy import InboundPolicy, device_policy, workspace_policy

__all__ = ["InboundPolicy", "PacketFilter", "device_policy", "workspace_policy"]
