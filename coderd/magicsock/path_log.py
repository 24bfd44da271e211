"""The way that one peer's traffic takes, since when, and how much went which way."""

from coderd.model.addresses import AddrPort
from coderd.model.paths import PathInfo, PathKind


class PathLog:
    """Bytes of WireGuard per kind of path and direction, and the present path. Its owner is ``Conn``."""

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
        """Traffic takes this path now. Returns whether it took another before.

        ``wanted_since`` is when somebody began to care about the peer, None while nobody does.
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
        """A frozen picture."""
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
