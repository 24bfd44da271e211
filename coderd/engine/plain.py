"""Paths without magicsock: one endpoint per peer, as a stock WireGuard has it. Pure.

A peer's endpoint is configured, or learned from the source of whatever WireGuard authenticated last (roaming). There is
no relay, no probing, no deadline: what has no endpoint is dropped and counted, and WireGuard's timers try again.
"""

from collections import deque
from collections.abc import Hashable, Sequence

from coderd.engine.dataplane import PathTransmit
from coderd.magicsock import DerpSource, UdpSource, UdpTransmit
from coderd.metrics import Counters
from coderd.model import Buffer
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePublic
from coderd.wireguard import Source


class PlainPaths:
    """Where each peer is, and what goes there."""

    def __init__(self, *, counters: Counters) -> None:
        self._counters = counters
        self._endpoints: dict[NodePublic, AddrPort] = {}
        self._transmits: deque[PathTransmit] = deque()

    def set_endpoint(self, peer: NodePublic, addr: AddrPort) -> None:
        """Configures where a peer is, until it roams."""
        self._endpoints[peer] = addr

    def remove_peer(self, peer: NodePublic) -> None:
        """Forgets a peer."""
        self._endpoints.pop(peer, None)

    def endpoint(self, peer: NodePublic) -> AddrPort | None:
        """Where a peer is; None if nobody knows."""
        return self._endpoints.get(peer)

    def handle_udp(
        self, addr: AddrPort, datagrams: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """All of it is WireGuard's."""
        return UdpSource(addr), list(datagrams)

    def handle_relayed(
        self, region: int, sender: NodePublic, packets: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """There is no relay here: dropped."""
        self._counters["plain.drop.relayed"] += len(packets)
        return DerpSource(region, sender), []

    def handle_authenticated(self, peer: NodePublic, source: Hashable, n_bytes: int, now: float) -> None:
        """The peer is where it was heard last."""
        if isinstance(source, UdpSource):
            self._endpoints[peer] = source.addr

    def send(self, to: NodePublic | Hashable, datagrams: list[bytes], segment_size: int, now: float) -> None:
        """Queues a batch to a peer's endpoint, or back to a source."""
        addr = to.addr if isinstance(to, UdpSource) else None
        if isinstance(to, NodePublic):
            addr = self._endpoints.get(to)
        if addr is None:
            self._counters["plain.drop.no_endpoint"] += len(datagrams)
            return
        self._transmits.append(UdpTransmit(addr, datagrams, segment_size))

    def handle_timeout(self, now: float) -> None:
        """Nothing is ever due."""

    def poll_transmit(self) -> PathTransmit | None:
        """The next batch for the socket."""
        return self._transmits.popleft() if self._transmits else None

    def poll_timeout(self) -> Deadline | None:
        """Never."""
        return None
