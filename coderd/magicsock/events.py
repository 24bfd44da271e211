"""What ``Conn`` tells about paths: events, and its status as frozen snapshots."""

from dataclasses import dataclass
from typing import TypeAlias

from coderd.model.addresses import AddrPort
from coderd.model.keys import NodePublic
from coderd.model.paths import PathInfo, Pin
from coderd.model.transport import SocketId
from coderd.netcheck.report import Report


@dataclass(frozen=True, slots=True)
class CandidateStatus:
    """One address at which a peer may be."""

    addr: AddrPort
    latency: float | None
    pinged_at: float | None
    origins: tuple[str, ...]
    """Who named it: ``netmap``, ``call-me-maybe``, ``ping``."""


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """One peer: its path, where it may be, and when it was last spoken to."""

    peer: NodePublic
    path: PathInfo
    pin: Pin
    home_region: int
    relay_latency: float | None
    candidates: tuple[CandidateStatus, ...]
    is_active: bool


@dataclass(frozen=True, slots=True)
class ConnStatus:
    """Everything about paths, at one instant."""

    home_region: int
    endpoints: tuple[tuple[AddrPort, int], ...]
    """Own endpoints with their type number, as told to peers."""
    report: Report | None
    connected_regions: tuple[int, ...]
    peers: tuple[EndpointStatus, ...]


@dataclass(frozen=True, slots=True)
class EndpointsChanged:
    """Where this node may be reached has changed: tell the server. Types: 1 local, 2 STUN, 4 STUN + local port."""

    endpoints: tuple[tuple[AddrPort, int], ...]


@dataclass(frozen=True, slots=True)
class HomeChanged:
    """The relay at which this node listens has changed: connect there and tell the server."""

    region: int


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Traffic to a peer takes another path from now on."""

    peer: NodePublic
    path: PathInfo


@dataclass(frozen=True, slots=True)
class PingReply:
    """A user's ping was answered. ``path`` is the path that the pong came by."""

    token: int
    peer: NodePublic
    path: PathInfo
    latency: float


@dataclass(frozen=True, slots=True)
class HttpsProbeWanted:
    """UDP is silent: measure this region's relay over HTTPS and give it to ``handle_https_latency``."""

    region: int


@dataclass(frozen=True, slots=True)
class Slept:
    """The machine was suspended for about so many seconds: streams of before may be dead."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SocketsWanted:
    """Bind IPv4 sockets to any port, under these numbers, and say so by ``handle_sockets_opened``."""

    sockets: tuple[SocketId, ...]


@dataclass(frozen=True, slots=True)
class SocketsUnwanted:
    """Close these: no path uses them."""

    sockets: tuple[SocketId, ...]


@dataclass(frozen=True, slots=True)
class DiscoUnreadable:
    """Disco came from where a peer is, and no key that we know opens it: one of us has restarted. Anybody can forge it.

    Once a second at most for each peer.
    """

    peer: NodePublic


@dataclass(frozen=True, slots=True)
class RelayFound:
    """A peer can be reached by a relay from now on: our link to it is up, or the peer was heard there."""

    peer: NodePublic


@dataclass(frozen=True, slots=True)
class PathLost:
    """A direct path in use has died, and no relay is at hand: only a handshake can tell what became of the peer."""

    peer: NodePublic


@dataclass(frozen=True, slots=True)
class NetcheckDone:
    """A look at the network has ended."""

    report: Report


ConnEvent: TypeAlias = (
    EndpointsChanged
    | HomeChanged
    | PathChanged
    | PingReply
    | HttpsProbeWanted
    | NetcheckDone
    | DiscoUnreadable
    | PathLost
    | RelayFound
    | Slept
    | SocketsWanted
    | SocketsUnwanted
)
