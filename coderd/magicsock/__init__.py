"""Paths to peers: candidates, pings, the relay first and a direct path when one is proven.

Wire-compatible with Tailscale's.

conn             the whole: commands, demultiplexing, sending by the best path
dispatcher       what the parts want, carried out: packets, events, what one part asks of another
peers            the peers of the NetMap, and the earliest of their deadlines: a table of
peer_state       one peer: what the server says, its endpoint, the log of its path
endpoint         one peer's path: rounds, heartbeats, the choice of way; all timers in one table
prober           one peer's addresses and the pings to them
best_path        the direct path in use: its state, its trust, and doubt
path_state       the states of a path, and the table of what moves it from one to another
path             how good a path is: a total order
rounds           all addresses tried at once, and when that is done again
path_timers      everything that an endpoint does by the clock
peer_relay       the relays at which one peer may be
candidates       the addresses at which one peer may be: a bounded table of
candidate        one address: who named it, how it answered
pings            one peer's pings, sent and heard
ping_budget      how often addresses may be pinged that have not answered, and whose turn it is
peer_map         node key <-> disco key <-> address
classify         STUN, disco or WireGuard
outbound         what leaves: the queue of transmits, and the ways of WireGuard's batches
relay_set        which relays are up, and which reaches a peer
disco_transport  disco packets sealed and opened
disco_handler    what becomes of disco packets that arrive
punching         ways through hard NATs: spare sockets, predicted ports
port_sequence    whether a NAT's ports come in sequence
birthday         when ports are random: who does what, and the search
local_network    this node's own place: netcheck, own endpoints, home relay
own_endpoints    where this node may be reached, and which servers say so
interfaces       which of a host's addresses are worth publishing
home             the relay region at which this node listens, and when it is given up
events           what Conn emits
io/              UDP sockets, relay links, interface addresses
"""

from coderd.magicsock.conn import Conn
from coderd.magicsock.events import (
    ConnEvent,
    DiscoUnreadable,
    EndpointsChanged,
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
    "Conn",
    "ConnEvent",
    "DiscoUnreadable",
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
