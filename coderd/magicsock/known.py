"""One peer as ``Conn`` keeps it: the server's word, its endpoint, its log."""

from coderd.magicsock.endpoint import Endpoint
from coderd.magicsock.events import EndpointStatus
from coderd.magicsock.path_log import PathLog
from coderd.model.addresses import AddrPort
from coderd.model.netmap import Peer
from coderd.model.paths import PathInfo, PathKind

HEARD_FACTOR = 3
"""An address at which WireGuard heard a peer, but which has answered nothing, gets so many times the bytes that came."""
_MOST_CREDIT = 65_536


class HeardFrom:
    """Where WireGuard last heard a peer without a relay. Its source may be forged by whoever sealed it: the peer."""

    __slots__ = ("_credit", "addr", "at")

    def __init__(self, addr: AddrPort) -> None:
        self.addr = addr
        self.at = float("-inf")
        self._credit = 0

    def hear(self, n_bytes: int, now: float) -> None:
        """So many bytes came from there."""
        self.at = now
        self._credit = min(self._credit + HEARD_FACTOR * n_bytes, _MOST_CREDIT)

    def spend(self, n_bytes: int) -> bool:
        """Whether so many may be sent there, which counts."""
        if n_bytes > self._credit:
            return False
        self._credit -= n_bytes
        return True


class Known:
    """What belongs together for one peer. Its owner is ``Conn``."""

    __slots__ = ("endpoint", "heard_from", "log", "peer", "unreadable_at")

    def __init__(self, peer: Peer, endpoint: Endpoint, now: float) -> None:
        self.peer = peer
        self.endpoint = endpoint
        self.log = PathLog(now)
        self.heard_from: HeardFrom | None = None
        self.unreadable_at = float("-inf")
        """When we last said that its disco cannot be read."""

    def hear_from(self, addr: AddrPort, n_bytes: int, now: float) -> None:
        """WireGuard vouches that the peer sent from an address."""
        if self.heard_from is None or self.heard_from.addr != addr:
            self.heard_from = HeardFrom(addr)
        self.heard_from.hear(n_bytes, now)

    def path(self) -> PathInfo:
        """Its path, frozen."""
        if self.log.kind is PathKind.DIRECT:
            return self.log.info(self.endpoint.best.latency if self.endpoint.best is not None else None)
        return self.log.info(self.endpoint.relay_latency if self.log.kind is PathKind.RELAY else None)

    def status(self, now: float) -> EndpointStatus:
        """Everything about it, frozen."""
        endpoint = self.endpoint
        return EndpointStatus(
            endpoint.key,
            self.path(),
            endpoint.pin,
            endpoint.home_region,
            endpoint.relay_latency,
            endpoint.candidates(),
            endpoint.is_active(now),
        )
