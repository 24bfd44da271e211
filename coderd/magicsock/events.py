"""What ``Conn`` emits: changes of paths, answers, and wishes to its shell."""

from dataclasses import dataclass
from typing import TypeAlias

from coderd.model.addresses import AddrPort
from coderd.model.keys import NodePublic
from coderd.model.paths import PathInfo
from coderd.model.transport import SocketId
from coderd.netcheck.report import Report


@dataclass(frozen=True, slots=True)
class EndpointsChanged:
    """Change of the addresses at which this node may be reached, for the server.

    Types: 1 local, 2 STUN, 4 STUN + local port.
    """

    endpoints: tuple[tuple[AddrPort, int], ...]


@dataclass(frozen=True, slots=True)
class HomeChanged:
    """Change of the relay at which this node listens: connect there and tell the server."""

    region: int


@dataclass(frozen=True, slots=True)
class PathChanged:
    """Change of the path that traffic to a peer takes."""

    peer: NodePublic
    path: PathInfo


@dataclass(frozen=True, slots=True)
class PingReply:
    """Answer to a user's ping.

    ``path`` is the path that the pong came by, ``latency`` the round trip in seconds.
    """

    token: int
    peer: NodePublic
    path: PathInfo
    latency: float


@dataclass(frozen=True, slots=True)
class HttpsProbeWanted:
    """Wish to measure a region's relay over HTTPS, as UDP is silent, for ``handle_https_latency``."""

    region: int


@dataclass(frozen=True, slots=True)
class Slept:
    """End of a suspension of the machine of about so many seconds: older streams may be dead."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SocketsWanted:
    """Wish to bind IPv4 sockets to any port, under these numbers; ``handle_sockets_opened`` follows."""

    sockets: tuple[SocketId, ...]


@dataclass(frozen=True, slots=True)
class SocketsUnwanted:
    """Wish to close spare sockets, which no path uses."""

    sockets: tuple[SocketId, ...]


@dataclass(frozen=True, slots=True)
class DiscoUnreadable:
    """Disco from where a peer is that no known key opens: one of both has restarted, or it is forged.

    Once a second at most for each peer.
    """

    peer: NodePublic


@dataclass(frozen=True, slots=True)
class RelayFound:
    """A relay that reaches a peer from now on: our link to it is up, or the peer was heard there."""

    peer: NodePublic


@dataclass(frozen=True, slots=True)
class PathLost:
    """Loss of a direct path in use, while no relay reaches the peer.

    Only a handshake can tell what became of it.
    """

    peer: NodePublic


@dataclass(frozen=True, slots=True)
class NetcheckDone:
    """End of a netcheck, with its report."""

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
