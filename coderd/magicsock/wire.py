"""What crosses the walls of ``Conn``: where batches come from and go to, what a path is, and events."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from coderd.model.addresses import AddrPort, encode_addr_port
from coderd.model.keys import NodePublic
from coderd.netcheck.report import Report


class UdpSource(NamedTuple):
    """A batch came straight from this address, to a socket of ours: 0 for the usual pair, else a spare one's number."""

    addr: AddrPort
    socket: int = 0

    @property
    def cookie_bytes(self) -> bytes:
        """What WireGuard's cookie binds to: address and port, 18 bytes."""
        return encode_addr_port(self.addr)


class DerpSource(NamedTuple):
    """A batch came through a region's relay, sent by the holder of a node key."""

    region: int
    key: NodePublic

    @property
    def cookie_bytes(self) -> bytes:
        """What WireGuard's cookie binds to: the sender's key, since a relay has no addresses."""
        return bytes(self.key)


Source: TypeAlias = UdpSource | DerpSource


class LocalAddress(NamedTuple):
    """One of this host's addresses, to send from: packed, and an interface's number where it needs one, else 0."""

    ip: bytes
    interface: int = 0


class UdpTransmit(NamedTuple):
    """One batch for one ``sendmsg``: equal sizes, the last may be shorter."""

    addr: AddrPort
    datagrams: list[bytes]
    segment_size: int
    local: LocalAddress | None = None
    """What to send from; None leaves it to the kernel."""
    tos: int = 0
    """The service byte of the IP header."""
    socket: int = 0
    """Which socket sends it: 0 for the usual pair, else a spare one's number."""


class DerpTransmit(NamedTuple):
    """One batch for a region's relay, to be handed to the holder of a node key."""

    region: int
    to: NodePublic
    datagrams: list[bytes]


class PathKind(StrEnum):
    """How traffic to a peer travels."""

    DIRECT = "direct"
    RELAY = "relay"
    NONE = "none"


class Pin(StrEnum):
    """Which paths a peer's traffic may take, by its user's wish."""

    ANY = "any"
    DIRECT = "direct"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class PathInfo:
    """One peer's path as it was when asked.

    Attributes:
        kind: direct, relay or none; ``PathKind`` is a ``str``, so it compares with the plain words.
        via: the address of a direct path, the region of a relayed one.
        latency: seconds there and back by this path; None while unmeasured.
        since: the instant at which traffic took this path.
        time_to_direct: seconds from the wish for a path, or the loss of the last direct one, to this direct one.
        n_changes: how often the path has changed while somebody cared.
        tx_direct: bytes of WireGuard sent straight, with all headers but UDP's; the other three likewise.
    """

    kind: PathKind
    via: AddrPort | int | None
    latency: float | None
    since: float
    time_to_direct: float | None = None
    n_changes: int = 0
    tx_direct: int = 0
    rx_direct: int = 0
    tx_relay: int = 0
    rx_relay: int = 0


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

    sockets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SocketsUnwanted:
    """Close these: no path uses them."""

    sockets: tuple[int, ...]


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
