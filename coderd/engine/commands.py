"""Commands of a ``Node``, returned by ``poll_command``: immutable, one action each. Pure.

The shell around the node executes a ``ShellCommand`` itself and hands an ``OwnerCommand`` to the tunnel's
owner: the daemon's session, the server's node, or a simulation.
"""

from dataclasses import dataclass
from typing import TypeAlias

from coderd.magicsock import NetcheckDone, PathChanged, PingReply
from coderd.model.derpmap import DerpMap, DerpRegion
from coderd.model.netmap import NetMap
from coderd.model.reachability import NodeUpdate
from coderd.model.transport import SocketId


@dataclass(frozen=True, slots=True)
class ResolveRelays:
    """Resolve the relay map's host names for ``Node.set_relays``, again when addresses may have changed."""

    derp_map: DerpMap


@dataclass(frozen=True, slots=True)
class ListenAt:
    """Keep a link to this region's relay: it is the node's home. 0: to none."""

    region: int


@dataclass(frozen=True, slots=True)
class OpenSockets:
    """Bind IPv4 sockets to any free port, and name those that are bound by ``Node.handle_sockets_opened``."""

    sockets: tuple[SocketId, ...]


@dataclass(frozen=True, slots=True)
class CloseSockets:
    """Close these sockets: no path uses them."""

    sockets: tuple[SocketId, ...]


@dataclass(frozen=True, slots=True)
class ProbeHttps:
    """Measure the round trip to a relay over HTTPS, and report it by ``Node.handle_https_latency``."""

    region: DerpRegion


@dataclass(frozen=True, slots=True)
class SecretReceived:
    """A peer's daemon has sent its tunnel secret: check again what waits for one."""


@dataclass(frozen=True, slots=True)
class TunnelEvent:
    """An event of WireGuard or of a peer's daemon, for the debug log.

    Attributes:
        name: the event's, such as ``HandshakeCompleted``.
        peer: the peer's name, or the first digits of a key that is no peer's.
    """

    name: str
    peer: str


@dataclass(frozen=True, slots=True)
class Redial:
    """This host's way out has changed: streams opened before are likely dead. Dial relays and server anew."""

    slept: float = 0.0
    """Seconds for which the machine was suspended; 0: the network has changed."""


@dataclass(frozen=True, slots=True)
class TellServer:
    """Report to the server where this node can be reached."""

    update: NodeUpdate


@dataclass(frozen=True, slots=True)
class SaveMark:
    """Store a TAI64N mark for the next start: no handshake had a later one; see ``wireguard.tai64n``."""

    mark: bytes


@dataclass(frozen=True, slots=True)
class NetMapChanged:
    """Save the NetMap in force: a restarted peer has introduced itself, so it is not the one that was set."""

    netmap: NetMap


ShellCommand: TypeAlias = (
    ResolveRelays
    | ListenAt
    | OpenSockets
    | CloseSockets
    | ProbeHttps
    | SecretReceived
    | TunnelEvent
    | PingReply
    | NetcheckDone
)
OwnerCommand: TypeAlias = Redial | TellServer | SaveMark | NetMapChanged | PathChanged
Command: TypeAlias = ShellCommand | OwnerCommand
