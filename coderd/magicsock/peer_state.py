"""What belongs together for one peer: what the server says of it, its endpoint, and the log of its path."""

from coderd.magicsock.endpoint import Endpoint
from coderd.model.addresses import AddrPort
from coderd.model.netmap import Peer
from coderd.model.paths import PathInfo, PathKind

HEARD_FACTOR = 3
"""Bytes that an address where WireGuard heard a peer, but which answered no ping, may be sent per byte that
came.

QUIC has the same limit against amplification (RFC 9000 §8.1).
"""
_MOST_CREDIT = 65_536


class HeardFrom:
    """Address at which WireGuard last heard a peer without a relay. The peer itself may have forged it."""

    __slots__ = ("_credit", "addr", "at")

    def __init__(self, addr: AddrPort) -> None:
        self.addr = addr
        self.at = float("-inf")
        self._credit = 0

    def hear(self, n_bytes: int, now: float) -> None:
        """Adds bytes that came from there to what may be sent back."""
        self.at = now
        self._credit = min(self._credit + HEARD_FACTOR * n_bytes, _MOST_CREDIT)

    def spend(self, n_bytes: int) -> bool:
        """Returns whether this many bytes may be sent there, and subtracts them if so."""
        if n_bytes > self._credit:
            return False
        self._credit -= n_bytes
        return True


class PathLog:
    """Present path of one peer's traffic, and WireGuard bytes by kind of path and direction."""

    __slots__ = (
        "_not_direct_since", "kind", "n_changes", "rx_direct", "rx_relay", "since", "time_to_direct",
        "tx_direct", "tx_relay", "via",
    )  # fmt: skip

    def __init__(self, now: float) -> None:
        self.kind = PathKind.NONE
        self.via: AddrPort | int | None = None
        self.since = self._not_direct_since = now
        self.time_to_direct: float | None = None
        self.n_changes = 0
        self.tx_direct = self.rx_direct = self.tx_relay = self.rx_relay = 0

    def note(
        self, kind: PathKind, via: AddrPort | int | None, now: float, *, wanted_since: float | None
    ) -> bool:
        """Records the path that traffic takes from now on. Returns whether it is another one.

        ``wanted_since`` is when the peer became active, None while it is idle.
        """
        if (kind, via) == (self.kind, self.via):
            return False
        if wanted_since is not None and self.kind is not PathKind.NONE:
            self.n_changes += 1
        if kind is PathKind.DIRECT and self.kind is not kind:
            begun = max(wanted_since, self._not_direct_since) if wanted_since is not None else None
            self.time_to_direct = max(now - begun, 0.0) if begun is not None else None
        elif kind is not PathKind.DIRECT:
            if self.kind is PathKind.DIRECT:
                self._not_direct_since = now
            self.time_to_direct = None
        self.kind, self.via, self.since = kind, via, now
        return True

    def info(self, latency: float | None) -> PathInfo:
        """Returns a frozen snapshot with this round trip, in seconds."""
        return PathInfo(
            self.kind,
            self.via,
            latency,
            self.since,
            self.time_to_direct,
            self.n_changes,
            tx_direct=self.tx_direct,
            rx_direct=self.rx_direct,
            tx_relay=self.tx_relay,
            rx_relay=self.rx_relay,
        )


class PeerState:
    """One peer as ``Conn`` keeps it."""

    __slots__ = ("endpoint", "heard_from", "log", "peer", "relay", "unreadable_at")

    def __init__(self, peer: Peer, endpoint: Endpoint, now: float) -> None:
        self.peer = peer
        self.endpoint = endpoint
        self.relay = endpoint.relay
        self.log = PathLog(now)
        self.heard_from: HeardFrom | None = None
        self.unreadable_at = float("-inf")
        """When its unreadable disco was last reported."""

    def hear_from(self, addr: AddrPort, n_bytes: int, now: float) -> None:
        """Records an address from which WireGuard has authenticated bytes of the peer."""
        if self.heard_from is None or self.heard_from.addr != addr:
            self.heard_from = HeardFrom(addr)
        self.heard_from.hear(n_bytes, now)

    def path(self) -> PathInfo:
        """Returns a snapshot of the path that traffic takes."""
        if self.log.kind is PathKind.DIRECT:
            return self.log.info(self.endpoint.best.latency if self.endpoint.best is not None else None)
        return self.log.info(self.relay.latency if self.log.kind is PathKind.RELAY else None)
