"""Paths without magicsock: one endpoint per peer, as a stock WireGuard has it. Pure.

A peer's endpoint is configured, or learned from the source of whatever WireGuard authenticated last (roaming). With it goes
the address of ours that the peer spoke to: answers leave from there (the *sticky source*), so that a host with several
addresses is one host to each of its peers. That half is forgotten whenever it may have become wrong, and learned again
from the next packet. There is no relay, no probing, no deadline: what has no endpoint is dropped and counted, and
WireGuard's timers try again.
"""

from collections import deque
from collections.abc import Hashable, Sequence

from coderd.engine.dataplane import PathTransmit
from coderd.metrics import Counters
from coderd.model import Buffer
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline
from coderd.model.keys import NodePublic
from coderd.model.transport import DerpSource, LocalAddress, UdpSource, UdpTransmit
from coderd.wireguard import Source


class PlainPaths:
    """Where each peer is, and what goes there."""

    def __init__(self, *, counters: Counters) -> None:
        self._counters = counters
        self._endpoints: dict[NodePublic, UdpSource] = {}
        self._transmits: deque[PathTransmit] = deque()

    # Commands

    def set_endpoint(self, peer: NodePublic, addr: AddrPort) -> None:
        """Configures where a peer is, until it roams."""
        self._endpoints[peer] = UdpSource(addr)

    def remove_peer(self, peer: NodePublic) -> None:
        """Forgets a peer."""
        self._endpoints.pop(peer, None)

    def forget_source(self, peer: NodePublic) -> None:
        """The peer does not answer: perhaps since what we send from is wrong."""
        if (endpoint := self._endpoints.get(peer)) is not None:
            self._endpoints[peer] = UdpSource(endpoint.addr)

    def forget_sources(self) -> None:
        """What we send from may be wrong for everybody: sockets, mark or routes have changed."""
        for peer in self._endpoints:
            self.forget_source(peer)

    def forget_local(self, local: LocalAddress) -> None:
        """The kernel does not let us send from there."""
        for peer, endpoint in self._endpoints.items():
            if endpoint.local == local:
                self.forget_source(peer)

    # Looking

    def endpoint(self, peer: NodePublic) -> AddrPort | None:
        """Where a peer is; None if nobody knows."""
        endpoint = self._endpoints.get(peer)
        return endpoint.addr if endpoint is not None else None

    # What happened

    def handle_udp(
        self, source: UdpSource, datagrams: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """All of it is WireGuard's."""
        return source, list(datagrams)

    def handle_relayed(
        self, region: int, sender: NodePublic, packets: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """There is no relay here: dropped."""
        self._counters["plain.drop.relayed"] += len(packets)
        return DerpSource(region, sender), []

    def handle_authenticated(self, peer: NodePublic, source: Hashable, n_bytes: int, now: float) -> None:
        """The peer is where it was heard last, and knows us by the address that it spoke to."""
        if isinstance(source, UdpSource):
            self._endpoints[peer] = source

    def send(
        self,
        to: NodePublic | Hashable,
        datagrams: list[bytes],
        segment_size: int,
        now: float,
        tos: int = 0,
        *,
        is_handshake: bool = False,
    ) -> None:
        """Queues a batch to a peer's endpoint, or back to a source."""
        endpoint = self._endpoints.get(to) if isinstance(to, NodePublic) else to
        if not isinstance(endpoint, UdpSource):
            self._counters["plain.drop.no_endpoint"] += len(datagrams)
            return
        self._transmits.append(UdpTransmit(endpoint.addr, datagrams, segment_size, endpoint.local, tos))

    def handle_timeout(self, now: float) -> None:
        """Nothing is ever due."""

    # What to do next

    def poll_transmit(self) -> PathTransmit | None:
        """The next batch for the socket."""
        return self._transmits.popleft() if self._transmits else None

    def poll_timeout(self) -> Deadline | None:
        """Never."""
        return None
