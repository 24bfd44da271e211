"""One peer as ``Conn`` keeps it: the server's word, its endpoint, its log."""

from coderd.magicsock.endpoint import Endpoint
from coderd.magicsock.path_log import PathLog
from coderd.magicsock.wire import EndpointStatus, PathInfo, PathKind
from coderd.model.addresses import AddrPort
from coderd.model.netmap import Peer


class Known:
    """What belongs together for one peer. Its owner is ``Conn``."""

    __slots__ = ("endpoint", "heard_from", "log", "peer", "unreadable_at")

    def __init__(self, peer: Peer, endpoint: Endpoint, now: float) -> None:
        self.peer = peer
        self.endpoint = endpoint
        self.log = PathLog(now)
        self.heard_from: tuple[AddrPort, float] | None = None
        """Where WireGuard last heard it without a relay, and when."""
        self.unreadable_at = float("-inf")
        """When we last said that its disco cannot be read."""

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
