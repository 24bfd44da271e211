"""The way that one peer's traffic takes, since when, and how much went which way."""

from coderd.magicsock.wire import PathInfo, PathKind
from coderd.model.addresses import AddrPort


class PathLog:
    """Bytes of WireGuard per kind of path and direction, and the present path. Its owner is ``Conn``."""

    __slots__ = ("kind", "rx_direct", "rx_relay", "since", "tx_direct", "tx_relay", "via")

    def __init__(self, now: float) -> None:
        self.kind = PathKind.NONE
        self.via: AddrPort | int | None = None
        self.since = now
        self.tx_direct = self.rx_direct = self.tx_relay = self.rx_relay = 0

    def note(self, kind: PathKind, via: AddrPort | int | None, now: float) -> bool:
        """Traffic takes this path now. Returns whether it took another before."""
        if (kind, via) == (self.kind, self.via):
            return False
        self.kind, self.via, self.since = kind, via, now
        return True

    def info(self, latency: float | None) -> PathInfo:
        """A frozen picture."""
        return PathInfo(
            self.kind,
            self.via,
            latency,
            self.since,
            tx_direct=self.tx_direct,
            rx_direct=self.rx_direct,
            tx_relay=self.tx_relay,
            rx_relay=self.rx_relay,
        )
