"""Path selection: classifies a socket's datagrams, sends batches by each peer's best path, speaks disco.

```
 WireGuard batches  --send-->  Outbound, by Endpoint.route  -->  UdpTransmit | DerpTransmit
 handle_udp | handle_relayed  -->  STUN: LocalNetwork   disco: DiscoHandler   the rest: back to the caller
 after either, where a part has news  -->  Dispatcher: its wishes become packets, its changes events
```

Peers are named by node key. ``Conn`` owns every other part of the package and has the ``Dispatcher`` drain
them after everything that happens. It never raises on bytes from outside: what is invalid is dropped and
counted under ``magicsock.drop.*``.
"""

import errno
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence

from coderd.magicsock.classify import WIREGUARD_SECOND_BYTE, Kind, classify
from coderd.magicsock.disco_handler import DiscoHandler
from coderd.magicsock.disco_transport import DiscoTransport
from coderd.magicsock.dispatcher import Dispatcher
from coderd.magicsock.events import ConnEvent, DiscoUnreadable, RelayFound, Slept
from coderd.magicsock.local_network import LocalNetwork
from coderd.magicsock.outbound import Outbound
from coderd.magicsock.peer_map import PeerMap
from coderd.magicsock.peers import Peers
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.port_sequence import PortOrder
from coderd.magicsock.punching import Punching
from coderd.magicsock.relay_set import RelaySet
from coderd.metrics import Counters
from coderd.model import Buffer, RandomBytes
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline, earliest
from coderd.model.derpmap import DerpMap
from coderd.model.keys import DiscoPrivate, NodePublic
from coderd.model.netmap import Peer
from coderd.model.paths import PathInfo, PathKind, Pin
from coderd.model.transport import (
    MAIN_SOCKET,
    DerpSource,
    DerpTransmit,
    SocketId,
    Source,
    UdpSource,
    UdpTransmit,
)
from coderd.wireguard.message import DATA_OVERHEAD

SLEPT_AFTER = 30.0
"""Seconds by which only a suspended machine misses a deadline.

Many NATs forget UDP mappings sooner than RFC 4787 REQ-5 asks.
"""

_TRANSIENT = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
"""Send errors that say nothing about the path."""


class Conn:
    """All peers' paths. Pure: sockets, relays and clocks belong to the caller.

    Commands and ``handle_*`` may be called in any order; afterwards take ``poll_transmit`` and ``poll_event``
    until None, then ``poll_timeout``.

    Args:
        node_key: this node's public key.
        disco_key: this start's disco key.
        rng: for nonces, transaction ids and jitter.
        now: seconds on the clock of every later ``now``.
        tunnel_mtu: a path that cannot carry packets of this size is never chosen.
        counters: drops by reason, and what was sent.
        plays_birthday: whether random ports may cost hundreds of sockets and pings.
    """

    def __init__(
        self,
        *,
        node_key: NodePublic,
        disco_key: DiscoPrivate,
        rng: RandomBytes,
        now: float,
        tunnel_mtu: int = 1280,
        counters: Counters | None = None,
        plays_birthday: bool = False,
    ) -> None:
        self._began_at = now
        self._counters = counters if counters is not None else Counters()
        self._relays = RelaySet()
        self._local_network = LocalNetwork(rng=rng)
        self._budget = PingBudget()
        self._punching = Punching(
            rng=rng,
            plays_birthday=plays_birthday,
            budget=self._budget,
            is_used=lambda peer, socket, now: self._peers.uses(peer, socket, now),
        )
        self._peer_map = PeerMap()
        self._peers = Peers(
            peer_map=self._peer_map,
            punching=self._punching,
            budget=self._budget,
            rng=rng,
            probe_size=tunnel_mtu + DATA_OVERHEAD,
        )
        self._state_of = self._peers.get  # looked up once, as every batch asks it
        self._outbound = Outbound(
            relays=self._relays,
            local_network=self._local_network,
            budget=self._budget,
            counters=self._counters,
        )
        disco = DiscoTransport(
            node_key=node_key,
            disco_key=disco_key,
            peer_map=self._peer_map,
            outbound=self._outbound,
            local_network=self._local_network,
            rng=rng,
        )
        self._disco_handler = DiscoHandler(
            transport=disco,
            peers=self._peers,
            peer_map=self._peer_map,
            local_network=self._local_network,
            punching=self._punching,
            counters=self._counters,
        )
        self._dispatcher = Dispatcher(
            peers=self._peers,
            relays=self._relays,
            local_network=self._local_network,
            punching=self._punching,
            disco=disco,
            outbound=self._outbound,
        )

    # Commands

    def set_netmap(self, peers: Iterable[Peer], now: float) -> None:
        """Takes the server's list of peers, whole: adds, changes, removes."""
        wanted = {peer.node_key: peer for peer in peers}
        self._peers.keep_only(wanted)
        for peer in wanted.values():
            if (state := self._peers.set(peer, now)) is not None:
                self._dispatcher.drain_peer(state, now)
        self._dispatcher.drain_common(now)

    def introduce(self, peer: Peer, now: float) -> None:
        """Takes the disco key that a restarted peer has announced inside the tunnel."""
        if (state := self._peers.introduce(peer, now)) is not None:
            self._dispatcher.drain(state, now)

    def set_derp_map(self, derp_map: DerpMap, resolved: Mapping[str, Sequence[str]], now: float) -> None:
        """Takes the relays, and their host names' addresses as the shell resolved them. Starts a netcheck."""
        self._local_network.set_derp_map(derp_map, resolved, now)
        self._dispatcher.drain_common(now)

    def set_local_endpoints(
        self,
        v4_port: int | None,
        v6_port: int | None,
        addresses: Sequence[str],
        now: float,
        tunnels: Collection[str] = (),
    ) -> None:
        """Takes the bound ports and the interface addresses that the shell has found worth publishing.

        Args:
            v4_port: the IPv4 socket's port; None without one.
            v6_port: the IPv6 socket's port; None without one.
            addresses: this host's addresses.
            now: the instant.
            tunnels: addresses that are never published, even if a STUN server sees one.
        """
        self._local_network.set_local_endpoints(v4_port, v6_port, addresses, now, tunnels)
        self._dispatcher.drain_common(now)

    def handle_rebound(self, now: float) -> None:
        """Forgets what was measured, and pings and STUNs anew: the sockets or the network are others."""
        self._local_network.handle_rebound(now)
        self._punching.handle_rebound()
        self._budget.handle_rebound()
        for state in self._peers:
            state.endpoint.handle_rebound(now)
            self._dispatcher.drain_peer(state, now)
        self._dispatcher.drain_common(now)

    def set_can_tell(self, can_tell: bool) -> None:
        """Sets whether the server can tell peers of a new home.

        While it cannot, a home that is alive is kept.
        """
        self._local_network.set_can_tell(can_tell)

    def check(self, now: float) -> None:
        """Starts a full netcheck now, or one more after the one under way; ends in ``NetcheckDone``."""
        self._local_network.check(now, full=True)
        self._dispatcher.drain_common(now)

    def pin_path(self, peer: NodePublic, path: Pin, now: float) -> None:
        """Keeps a peer's traffic to one kind of path: what cannot go that way is dropped.

        Ignores unknown peers.
        """
        if (state := self._peers.get(peer)) is not None:
            state.endpoint.pin = path
            self._dispatcher.note_path(state, now)

    def ping(self, peer: NodePublic, token: int, now: float) -> None:
        """Pings a peer by the path of its traffic; an answer becomes a ``PingReply`` with this token.

        An answer after more than five seconds is ignored. While relayed, this also looks for a direct path,
        at most twice a second.
        """
        if (state := self._peers.get(peer)) is not None:
            self._local_network.note_use(now)
            state.endpoint.ping(token, now)
            self._dispatcher.drain(state, now)

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
        """Queues one WireGuard batch to a peer by its best path, or back to a source that it answers.

        A batch of handshake messages to a peer may leave by several paths, since losing one costs five
        seconds.
        """
        if not isinstance(to, NodePublic):
            self._outbound.answer_batch(to, datagrams, segment_size, tos)
            return
        state = self._state_of(to)
        if state is None:
            self._drop("unknown_peer", len(datagrams))
            return
        self._local_network.note_use(now)
        self._outbound.send_batch(state, datagrams, segment_size, now, tos, is_handshake=is_handshake)
        if state.endpoint.has_news:
            self._dispatcher.drain(state, now)

    # What happened

    def handle_udp(
        self, origin: AddrPort | UdpSource, datagrams: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """Takes one UDP read: handles its STUN and disco datagrams, returns the others and their source.

        A bare address is the origin of what came to the main sockets.
        """
        source = origin if isinstance(origin, UdpSource) else UdpSource(origin)
        if source.socket and not self._punching.is_open(source.socket):
            # Read just before its spare socket was closed: answers have to leave by a main one.
            source = source._replace(socket=MAIN_SOCKET)
        rest = [
            datagram
            for datagram in datagrams
            if (len(datagram) > 1 and datagram[1] == WIREGUARD_SECOND_BYTE)  # nearly all: spares a call
            or self._is_wireguard(datagram, source, now)
        ]
        return source, rest

    def handle_sockets_opened(self, sockets: Iterable[SocketId], now: float) -> None:
        """Takes the sockets of a ``SocketsWanted`` that could be bound."""
        self._punching.handle_opened(sockets, now)
        self._dispatcher.drain_common(now)

    def handle_relayed(
        self, region: int, sender: NodePublic, packets: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """Takes packets of one sender from a region's relay: keeps disco, returns the rest.

        Drops an unknown sender's.
        """
        source = DerpSource(region, sender)
        state = self._state_of(sender)
        if state is None:
            self._drop("unknown_relay_sender", len(packets))
            return source, []
        self._local_network.handle_relay_heard(region, now)
        if state.relay.heard != region:
            state.relay.hear(region)
            self._dispatcher.note_path(state, now)
            self._dispatcher.emit(RelayFound(sender))
        rest = []
        for packet in packets:
            if classify(packet) is Kind.DISCO:
                self._handle_disco(packet, source, now)
            else:
                rest.append(packet)
        return source, rest

    def handle_authenticated(self, peer: NodePublic, source: Hashable, n_bytes: int, now: float) -> None:
        """Counts ``n_bytes`` that WireGuard has authenticated as a peer's; learns its ``source``."""
        state = self._state_of(peer)
        if state is None:
            return
        if isinstance(source, DerpSource):
            state.log.rx_relay += n_bytes
            state.endpoint.handle_heard_elsewhere(now)
        elif isinstance(source, UdpSource):
            state.log.rx_direct += n_bytes
            state.hear_from(source.addr, n_bytes, now)
            self._peer_map.learn_address(source.addr, peer)
            state.endpoint.handle_heard(source.addr, now)
        if state.endpoint.has_news:
            self._dispatcher.drain(state, now)

    def handle_relay_connected(self, region: int, now: float) -> None:
        """Notes that the link to a region's relay is up."""
        self._relays.handle_connected(region)
        self._local_network.handle_relay_connected(region)
        self._dispatcher.note_paths(now)
        for state in self._peers:
            if state.endpoint.kind is PathKind.RELAY and self._relays.region_for(state.relay) == region:
                self._dispatcher.emit(RelayFound(state.peer.node_key))

    def handle_relay_broken(self, region: int, now: float) -> None:
        """Notes that the link to a region's relay is down: no peer is known to be there any more."""
        self._relays.handle_broken(region)
        for state in self._peers:
            state.relay.lose(region)
        self._local_network.handle_relay_broken(region, now)
        self._local_network.check(now)
        self._dispatcher.drain_common(now)
        self._dispatcher.note_paths(now)

    def handle_peer_gone(self, region: int, key: NodePublic, now: float) -> None:
        """Notes that a region's relay does not have a peer."""
        if (state := self._peers.get(key)) is not None and state.relay.lose(region):
            self._dispatcher.note_path(state, now)

    def handle_https_latency(self, region: int, seconds: float | None, now: float) -> None:
        """Takes the answer to an ``HttpsProbeWanted``, in seconds; None if the relay could not be reached."""
        self._local_network.handle_https_latency(region, seconds, now)
        self._dispatcher.drain_common(now)

    def handle_send_error(self, addr: AddrPort, error: int, now: float) -> None:
        """Notes that the kernel refused to send to an address, with this errno."""
        if error in _TRANSIENT:
            return
        self._local_network.handle_send_failed(addr, error, now)
        for state in self._peers:
            if state.endpoint.is_at(addr):
                state.endpoint.handle_send_failed(addr, now)
                self._dispatcher.drain_peer(state, now)
        self._dispatcher.drain_common(now)

    def handle_timeout(self, now: float) -> None:
        """Does what is due by ``now``.

        A deadline missed by ``SLEPT_AFTER`` means that the machine was suspended.
        """
        deadline = self.poll_timeout()
        if deadline is not None and now - deadline.when > SLEPT_AFTER:
            self._dispatcher.emit(Slept(now - deadline.when))
            self.handle_rebound(now)
        self._local_network.handle_timeout(now)
        self._punching.handle_timeout(now)
        for peer, addr in self._budget.pop_turns(now):
            self._peers[peer].endpoint.take_turn(addr, now)
            self._dispatcher.drain_peer(self._peers[peer], now)
        while (state := self._peers.first_due(now)) is not None:
            state.endpoint.handle_timeout(now)
            self._dispatcher.drain_peer(state, now)
        self._dispatcher.drain_common(now)

    # What to do next

    def poll_transmit(self) -> UdpTransmit | DerpTransmit | None:
        """Returns the next batch for a socket or a relay, or None."""
        return self._outbound.poll_transmit()

    def poll_event(self) -> ConnEvent | None:
        """Returns the next thing that the caller should know or do, or None."""
        return self._dispatcher.poll_event()

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``, and why."""
        return earliest(
            self._local_network.poll_timeout(),
            self._punching.poll_timeout(),
            self._budget.poll_timeout(),
            self._peers.poll_timeout(),
        )

    # Looking

    def path(self, peer: NodePublic) -> PathInfo:
        """Returns a peer's path now; kind ``none`` for an unknown peer."""
        state = self._peers.get(peer)
        return state.path() if state is not None else PathInfo(PathKind.NONE, None, None, self._began_at)

    def paths(self, now: float) -> Iterator[tuple[NodePublic, PathInfo, bool]]:
        """Yields ``(node_key, path, is_active)`` for each peer.

        ``is_active``: data or a user's ping was sent to it within ``ACTIVE_TIMEOUT`` seconds.
        """
        return ((each.endpoint.key, each.path(), each.endpoint.is_active(now)) for each in self._peers)

    def has_mtu_black_hole(self, peer: NodePublic, now: float) -> bool:
        """Returns whether a peer answers small pings directly, and none of the tunnel's size."""
        state = self._peers.get(peer)
        return state is not None and state.endpoint.has_mtu_black_hole(now)

    def port_order(self, now: float) -> PortOrder:
        """Returns how this node's NAT chooses ports; unknown unless a path to a peer has depended on it."""
        return self._punching.sequence.order(now)

    def is_relay_connected(self, region: int) -> bool:
        """Returns whether the link to a region's relay is up."""
        return region in self._relays

    # Receiving

    def _is_wireguard(self, datagram: Buffer, source: UdpSource, now: float) -> bool:
        """Returns whether a datagram is for WireGuard; handles what is not."""
        kind = classify(datagram)
        if kind is Kind.DISCO:
            self._handle_disco(datagram, source, now)
        elif kind is Kind.STUN:
            if not self._handle_stun(datagram, source.socket, now):
                self._drop("stun")
            self._dispatcher.drain_common(now)
        return kind is Kind.WIREGUARD

    def _handle_stun(self, datagram: Buffer, socket: SocketId, now: float) -> bool:
        if socket:
            return self._punching.handle_stun(datagram, socket, now)
        return self._local_network.handle_stun(datagram, now)

    def _handle_disco(self, packet: Buffer, source: Source, now: float) -> None:
        heard = self._disco_handler.handle(packet, source, now)
        if heard.unreadable is not None:
            self._dispatcher.emit(DiscoUnreadable(heard.unreadable))
        for node in heard.nodes:
            self._dispatcher.drain_peer(self._peers[node], now)
        self._dispatcher.drain_common(now)

    def _drop(self, reason: str, n_dropped: int = 1) -> None:
        self._counters[f"magicsock.drop.{reason}"] += n_dropped
