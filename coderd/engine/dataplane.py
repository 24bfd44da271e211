"""The way of a packet, pure: WireGuard above, paths below, meeting only here.

```
 TUN read  --split-->  segments  --Device.seal-->  batches  --Paths.send-->  UDP sendmsg | DERP frames
 TUN write <-coalesce- packets   <--Device.open--  batches  <-Paths.handle-  UDP recvmsg | DERP frames
```

The plane owns nothing but its two children and their queues' order: WireGuard never sees a path, the paths
never see a plaintext. What goes in: one TUN read, one UDP read, one relay's run of packets, the clock. After
any of them, call ``drain`` once per wake-up and take what is ready: ``poll_transmit``, ``poll_tun``,
``poll_event``; then ``poll_timeout``.
"""

from collections import deque
from collections.abc import Hashable, Sequence
from typing import Final, Protocol, TypeAlias

from coderd.engine.introduction import Said, is_introduction, parse_introduction
from coderd.metrics import Counters
from coderd.model import Buffer, limits
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline, earliest
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePublic
from coderd.model.token_bucket import BucketTable, Rate
from coderd.model.transport import DerpTransmit, UdpSource, UdpTransmit
from coderd.packetfilter import PacketFilter
from coderd.tun import coalesce, split
from coderd.wireguard import Authenticated, Device, HandshakeCompleted, SessionExpired, Source, Unanswered

PathTransmit: TypeAlias = UdpTransmit | DerpTransmit
PlaneEvent: TypeAlias = HandshakeCompleted | SessionExpired | Unanswered | Said

FEW_PACKETS = 4
"""Longest run of packets that is searched for introductions; of a longer one only the last packet is.

Introductions never come in bulk, and a packet smaller than the rest of a UDP read is its last.
"""
INTRODUCTION_RATE: Final = limits.INTRODUCTION_RATE
INTRODUCTION_BURST: Final = limits.INTRODUCTION_BURST


class Paths(Protocol):
    """Layer below the plane that knows where peers are: ``magicsock.Conn``, or one endpoint per peer."""

    def handle_udp(
        self, source: UdpSource, datagrams: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """Takes what is its own (disco, STUN) from one UDP read; returns the rest and its source."""

    def handle_relayed(
        self, region: int, sender: NodePublic, packets: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """Takes what is its own from packets that a relay delivered; returns the rest and its source."""

    def handle_authenticated(self, peer: NodePublic, source: Hashable, n_bytes: int, now: float) -> None:
        """Notes that WireGuard has authenticated ``n_bytes`` from ``source`` as the peer's."""

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
        """Queues one batch to a peer by the best path now, or back to a source.

        ``tos`` is for paths that have such a byte; ``is_handshake`` says that the batch may go more than one
        way.
        """

    def handle_send_error(self, addr: AddrPort, error: int, now: float) -> None:
        """Notes that the kernel refused to send to an address, with this errno."""

    def handle_timeout(self, now: float) -> None:
        """Fires every timer that is due."""

    def poll_transmit(self) -> PathTransmit | None:
        """Returns the next batch to send, or None."""

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``, or None."""


class DataPlane:
    """WireGuard device over a set of paths, with the packet filter between them and the TUN.

    Args:
        device: the WireGuard engine; configured by the owner of the NetMap.
        paths: knows where peers are.
        uso: whether the kernel takes UDP super-packets on TUN writes.
        counters: count TUN reads and writes, and packets dropped between the layers.
        takes_introductions: whether peers are daemons of ours, whose introductions are kept from the TUN.
        packet_filter: which of the peers' packets reach this host; None: all, as with ``wg``.
    """

    def __init__(
        self,
        device: Device,
        paths: Paths,
        *,
        uso: bool,
        counters: Counters,
        takes_introductions: bool = False,
        packet_filter: PacketFilter | None = None,
    ) -> None:
        self.device = device
        self.paths = paths
        self._uso = uso
        self._counters = counters
        self._takes_introductions = takes_introductions
        self._filter = packet_filter
        self._introductions = BucketTable[NodePublic](
            Rate(INTRODUCTION_BURST, INTRODUCTION_RATE), limits.MAX_INTRODUCERS
        )
        self._to_tun: deque[list[Buffer]] = deque()
        self._events: deque[PlaneEvent] = deque()

    # What happened

    def handle_tun(self, header: Buffer, packet: Buffer, now: float, unix_now: float) -> None:
        """Takes one TUN read: a 10-byte virtio header, and a packet or super-packet. Borrows buffers.

        Packets that only daemons send to each other are dropped: a local user could forge them.
        """
        if self._takes_introductions and is_introduction(packet):
            self._counters["tun.drop.introduction"] += 1
            return
        if self._filter is not None and not self._filter.note_outbound(packet, now):
            return
        try:
            segments = split(header, packet)
        except MalformedPacket:
            self._counters["tun.drop.malformed"] += 1
            return
        self._counters["tun.reads"] += 1
        self._counters["tun.read_segments"] += len(segments)
        self.device.handle_packets(segments, now, unix_now)

    def handle_udp(
        self,
        source: UdpSource,
        datagrams: Sequence[Buffer],
        now: float,
        unix_now: float,
        *,
        is_congested: bool = False,
    ) -> None:
        """Takes one UDP read: datagrams of one sender, and whether they were marked CE. Borrows buffers."""
        answered, ours = self.paths.handle_udp(source, datagrams, now)
        self._open(answered, ours, now, unix_now, is_congested=is_congested)

    def handle_relayed(
        self, region: int, sender: NodePublic, packets: Sequence[Buffer], now: float, unix_now: float
    ) -> None:
        """Takes a run of one sender's packets from a relay. Buffers are borrowed."""
        source, ours = self.paths.handle_relayed(region, sender, packets, now)
        self._open(source, ours, now, unix_now)

    def handle_send_error(self, addr: AddrPort, error: int, now: float) -> None:
        """Notes that the kernel refused to send to an address, with this errno."""
        self.paths.handle_send_error(addr, error, now)

    def handle_timeout(self, now: float, unix_now: float) -> None:
        """Fires what is due in both layers."""
        self.device.handle_timeout(now, unix_now)
        self.paths.handle_timeout(now)

    # What to do next

    def drain(self, now: float, unix_now: float) -> None:
        """Moves what is ready between WireGuard and the paths; call it before polling, once per wake-up."""
        self._drain_events(0, now)
        while (received := self.device.poll_packets()) is not None:
            packets = received.packets
            if self._takes_introductions and (len(packets) <= FEW_PACKETS or is_introduction(packets[-1])):
                packets = self._without_introductions(received.peer, packets, now)
            if self._filter is not None:
                packets = self._filter.admit(received.peer, packets, now)
            self._to_tun.extend(coalesce(packets, uso=self._uso))
            self._counters["tun.write_segments"] += len(packets)
        if self._filter is not None:
            while (answer := self._filter.poll_answer()) is not None:
                self.device.handle_packets([answer], now, unix_now)
            while (told := self._filter.poll_for_host()) is not None:
                self._to_tun.extend(coalesce([told], uso=self._uso))
        while (transmit := self.device.poll_transmit()) is not None:
            to, datagrams, segment_size, tos, is_handshake = transmit
            self.paths.send(to, datagrams, segment_size, now, tos, is_handshake=is_handshake)

    def poll_transmit(self) -> PathTransmit | None:
        """Returns the next batch for a socket or a relay."""
        return self.paths.poll_transmit()

    def poll_tun(self) -> list[Buffer] | None:
        """Returns the next TUN write: an iovec of virtio header, headers, payloads."""
        return self._to_tun.popleft() if self._to_tun else None

    def poll_event(self) -> PlaneEvent | None:
        """Returns the next event of WireGuard or a peer's daemon; authentications go to the paths."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Deadline | None:
        """Returns the earliest deadline of both layers."""
        return earliest(self.device.poll_timeout(), self.paths.poll_timeout())

    def _without_introductions(self, peer: NodePublic, packets: list[Buffer], now: float) -> list[Buffer]:
        """What is for the TUN; what the peer's daemon says to ours becomes an event."""
        meant_for_us = [packet for packet in packets if is_introduction(packet)]
        if not meant_for_us:
            return packets
        for packet in meant_for_us:
            if not self._introductions.use(peer).take(1, now):
                self._counters["engine.drop.introduction_rate"] += 1
            elif (said := parse_introduction(peer, packet)) is not None:
                self._events.append(said)
            else:
                self._counters["engine.drop.introduction"] += 1
        return [packet for packet in packets if not is_introduction(packet)]

    def _open(
        self,
        source: Source,
        datagrams: list[Buffer],
        now: float,
        unix_now: float,
        *,
        is_congested: bool = False,
    ) -> None:
        if not datagrams:
            return
        self.device.handle_datagrams(source, datagrams, now, unix_now, is_congested=is_congested)
        self._drain_events(sum(map(len, datagrams)), now)

    def _drain_events(self, n_bytes: int, now: float) -> None:
        """Authentication is news for the paths; the rest is for above. A batch's bytes count once."""
        while (event := self.device.poll_event()) is not None:
            if isinstance(event, Authenticated):
                self.paths.handle_authenticated(event.peer, event.source, n_bytes, now)
                n_bytes = 0
            else:
                self._events.append(event)
