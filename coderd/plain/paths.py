"""Paths without magicsock: one endpoint per peer, as a stock WireGuard has it. Pure.

A peer's endpoint is configured, or learned from the source of whatever WireGuard authenticated last
(roaming). With it goes the address of ours that the peer spoke to: answers leave from there (the *sticky
source*), so that a host with several addresses is one host to each of its peers. That half is forgotten
whenever it may have become wrong, and learned again from the next packet. There is no relay, no probing, no
deadline: what has no endpoint is dropped and counted, and WireGuard's timers try again.
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
    """Endpoint of each peer, and the batches to be sent there."""

    def __init__(self, *, counters: Counters) -> None:
        self._counters = counters
        self._endpoints: dict[NodePublic, UdpSource] = {}
        self._transmits: deque[PathTransmit] = deque()

    # Commands

    def set_endpoint(self, peer: NodePublic, addr: AddrPort) -> None:
        """Sets a peer's endpoint, which is kept until the peer roams."""
        self._endpoints[peer] = UdpSource(addr)

    def remove_peer(self, peer: NodePublic) -> None:
        """Forgets a peer and its endpoint."""
        self._endpoints.pop(peer, None)

    def forget_source(self, peer: NodePublic) -> None:
        """Forgets the sticky source of a peer that does not answer, as it may be why."""
        if (endpoint := self._endpoints.get(peer)) is not None:
            self._endpoints[peer] = UdpSource(endpoint.addr)

    def forget_sources(self) -> None:
        """Forgets all sticky sources: sockets, mark or routes have changed."""
        for peer in self._endpoints:
            self.forget_source(peer)

    def forget_local(self, local: LocalAddress) -> None:
        """Forgets a sticky source that the kernel refuses to send from."""
        for peer, endpoint in self._endpoints.items():
            if endpoint.local == local:
                self.forget_source(peer)

    # Looking

    def endpoint(self, peer: NodePublic) -> AddrPort | None:
        """Returns a peer's endpoint, or None if it is unknown."""
        endpoint = self._endpoints.get(peer)
        return endpoint.addr if endpoint is not None else None

    # What happened

    def handle_udp(
        self, source: UdpSource, datagrams: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """Passes every datagram on to WireGuard."""
        return source, list(datagrams)

    def handle_relayed(
        self, region: int, sender: NodePublic, packets: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """Drops and counts the packets: plain paths have no relay."""
        self._counters["plain.drop.relayed"] += len(packets)
        return DerpSource(region, sender), []

    def handle_authenticated(self, peer: NodePublic, source: Hashable, n_bytes: int, now: float) -> None:
        """Takes the source of an authenticated packet as the peer's endpoint (roaming)."""
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

    def handle_send_error(self, addr: AddrPort, error: int, now: float) -> None:
        """Does nothing: WireGuard's timers try again."""

    def handle_timeout(self, now: float) -> None:
        """Does nothing, as plain paths have no timers."""

    # What to do next

    def poll_transmit(self) -> PathTransmit | None:
        """Returns the next batch to send, or None."""
        return self._transmits.popleft() if self._transmits else None

    def poll_timeout(self) -> Deadline | None:
        """Returns None, as plain paths have no timers."""
        return None
