"""Paths to peers: candidates, pings, the relay first and a direct path when one is proven. Wire-compatible with Tailscale's.

conn          the whole: demultiplexing, sending by the best path, user pings
endpoint      one peer: its candidates, best path and trust, discovery rounds; all timers in one table
candidate     one address at which a peer may be
path          how good a path is: a total order
pings         pings that wait for their pong
peer_map      node key <-> disco key <-> address
surroundings  this node's own place: netcheck, own endpoints, home relay
own_endpoints where this node may be reached, and by whose word
classify      STUN, disco or WireGuard
wire          what crosses Conn's walls: sources, transmits, path facts, events
io/           UDP sockets, relay links, interface addresses
"""

from coderd.magicsock.conn import Conn
from coderd.magicsock.wire import (
    CandidateStatus,
    ConnEvent,
    ConnStatus,
    DerpSource,
    DerpTransmit,
    EndpointsChanged,
    EndpointStatus,
    HomeChanged,
    HttpsProbeWanted,
    NetcheckDone,
    PathChanged,
    PathInfo,
    PathKind,
    Pin,
    PingReply,
    Source,
    UdpSource,
    UdpTransmit,
)

__all__ = [
    "CandidateStatus",
    "Conn",
    "ConnEvent",
    "ConnStatus",
    "DerpSource",
    "DerpTransmit",
    "EndpointStatus",
    "EndpointsChanged",
    "HomeChanged",
    "HttpsProbeWanted",
    "NetcheckDone",
    "PathChanged",
    "PathInfo",
    "PathKind",
    "Pin",
    "PingReply",
    "Source",
    "UdpSource",
    "UdpTransmit",
]
