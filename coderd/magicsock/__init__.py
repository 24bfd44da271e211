"""Paths to peers: candidates, pings, the relay first and a direct path when one is proven. Wire-compatible with Tailscale's.

conn           the whole: demultiplexing, sending by the best path, user pings
talk           disco: what is sealed and sent, opened and heeded
known          one peer as conn keeps it
endpoint       one peer: rounds of discovery, call-me-maybe, heartbeats; all timers in one table
rounds         when all addresses are tried again
best_path      the direct path in use, its trust, and doubt
candidates     the addresses at which one peer may be: a bounded table of
candidate      one address: who named it, how it answered
ping_budget    how often addresses may be pinged that have not answered, and whose turn it is
heard_pings    which pings of a peer have come before
path           how good a path is: a total order
pings          pings that wait for their pong
path_log       which way traffic goes, since when, how much
letterbox      disco packets sealed and opened, and who is behind them
peer_map       node key <-> disco key <-> address
punching       ways through hard NATs: spare sockets, foretold ports, searches
port_sequence  whether a NAT's ports come in sequence
birthday       when ports are random: who does what
surroundings   this node's own place: netcheck, own endpoints, home relay
own_endpoints  where this node may be reached, and by whose word
interfaces     which of a host's addresses are worth telling
classify       STUN, disco or WireGuard
timers         a table of timers
deadlines      many peers' deadlines, and the earliest
home           the relay region at which this node listens, and when it is given up
wish           what an endpoint says to Conn
events         what Conn tells: events, status
io/            UDP sockets, relay links, interface addresses
"""

from coderd.magicsock.conn import Conn
from coderd.magicsock.events import (
    CandidateStatus,
    ConnEvent,
    ConnStatus,
    DiscoUnreadable,
    EndpointsChanged,
    EndpointStatus,
    HomeChanged,
    HttpsProbeWanted,
    NetcheckDone,
    PathChanged,
    PathLost,
    PingReply,
    RelayFound,
    Slept,
    SocketsUnwanted,
    SocketsWanted,
)
from coderd.magicsock.port_sequence import PortOrder

__all__ = [
    "CandidateStatus",
    "Conn",
    "ConnEvent",
    "ConnStatus",
    "DiscoUnreadable",
    "EndpointStatus",
    "EndpointsChanged",
    "HomeChanged",
    "HttpsProbeWanted",
    "NetcheckDone",
    "PathChanged",
    "PathLost",
    "PingReply",
    "PortOrder",
    "RelayFound",
    "Slept",
    "SocketsUnwanted",
    "SocketsWanted",
]
