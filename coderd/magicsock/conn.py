"""The whole of path choice.

One socket's datagrams told apart, batches sent by each peer's best path, disco spoken.

```
 WireGuard batches  --send-->  Outbound, by Endpoint.route  -->  UdpTransmit | DerpTransmit
 handle_udp | handle_relayed  -->  STUN: LocalNetwork   disco: Endpoint   the rest: back to the caller, with its source
```
Peers are named by node key. ``Conn`` owns one ``Endpoint`` per peer and every other part of the package,
drains them after everything that happens, and turns their wishes into packets. It never raises on bytes from
outside: what is invalid is dropped and counted under ``magicsock.drop.*``.
"""

import errno
from collections import deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence

from coderd.magicsock import punching
from coderd.magicsock.birthday import Scatter
from coderd.magicsock.classify import WIREGUARD_SECOND_BYTE, Kind, classify
from coderd.magicsock.disco_handler import DiscoHandler
from coderd.magicsock.disco_transport import DiscoTransport
from coderd.magicsock.endpoint import Endpoint
from coderd.magicsock.events import (
    ConnEvent,
    DiscoUnreadable,
    EndpointsChanged,
    PathChanged,
    PathLost,
    PingReply,
    RelayFound,
    Slept,
    SocketsUnwanted,
    SocketsWanted,
)
from coderd.magicsock.local_network import LocalNetwork
from coderd.magicsock.outbound import Outbound
from coderd.magicsock.own_endpoints import OwnEndpoint
from coderd.magicsock.peer_map import PeerMap
from coderd.magicsock.peer_state import PeerState
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.pings import PingAnswered, SendPing, Wish
from coderd.magicsock.port_sequence import PortOrder
from coderd.magicsock.punching import Punching
from coderd.magicsock.relay_set import RelaySet
from coderd.metrics import Counters
from coderd.model import Buffer, RandomBytes
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline, earliest
from coderd.model.derpmap import DerpMap
from coderd.model.keys import DiscoPrivate, NodePublic
from coderd.model.netmap import Capability, Peer
from coderd.model.paths import PathInfo, PathKind, PathPolicy, Pin
from coderd.model.schedule import Schedule
from coderd.model.transport import (
    MAIN_SOCKET,
    DerpSource,
    DerpTransmit,
    SocketId,
    Source,
    UdpSource,
    UdpTransmit,
)
from coderd.netcheck import Report
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
        self._rng = rng
        self._now = now
        self._probe_size = tunnel_mtu + DATA_OVERHEAD
        self._counters = counters if counters is not None else Counters()
        self._peers: dict[NodePublic, PeerState] = {}
        self._peer_map = PeerMap()
        self._relays = RelaySet()
        self._local_network = LocalNetwork(rng=rng)
        self._budget = PingBudget()
        self._punching = Punching(
            rng=rng, plays_birthday=plays_birthday, budget=self._budget, is_used=self._is_used
        )
        self._schedule: Schedule[Endpoint] = Schedule()
        self._outbound = Outbound(
            relays=self._relays,
            local_network=self._local_network,
            budget=self._budget,
            counters=self._counters,
        )
        self._disco = DiscoTransport(
            node_key=node_key,
            disco_key=disco_key,
            peer_map=self._peer_map,
            outbound=self._outbound,
            local_network=self._local_network,
            rng=rng,
        )
        self._disco_handler = DiscoHandler(
            transport=self._disco,
            peers=self._peers,
            peer_map=self._peer_map,
            local_network=self._local_network,
            punching=self._punching,
            counters=self._counters,
        )
        self._events: deque[ConnEvent] = deque()

    # Commands

    def set_netmap(self, peers: Iterable[Peer], now: float) -> None:
        """Takes the server's list of peers, whole: adds, changes, removes."""
        wanted = {peer.node_key: peer for peer in peers}
        for key in [key for key in self._peers if key not in wanted]:
            self._schedule.discard(self._peers.pop(key).endpoint)
            self._peer_map.remove_peer(key)
            self._punching.forget_peer(key)
            self._punching.set_willing(key, is_willing=False)
            self._budget.forget_peer(key)
        for peer in wanted.values():
            self._set_peer(peer, now)
        self._drain_common(now)

    def introduce(self, peer: Peer, now: float) -> None:
        """Takes the disco key that a restarted peer has announced inside the tunnel."""
        state = self._peers.get(peer.node_key)
        if state is None:
            return
        state.peer = peer
        self._peer_map.set_peer(peer.node_key, peer.disco_key)
        state.endpoint.handle_rebound(now)
        state.endpoint.discover(now)
        self._drain(state, now)
        self._drain_common(now)

    def set_derp_map(self, derp_map: DerpMap, resolved: Mapping[str, Sequence[str]], now: float) -> None:
        """Takes the relays, and their host names' addresses as the shell resolved them. Starts a netcheck."""
        self._local_network.set_derp_map(derp_map, resolved, now)
        self._drain_common(now)

    def set_local_endpoints(
        self,
        v4_port: int | None,
        v6_port: int | None,
        addresses: Sequence[str],
        now: float,
        tunnels: Collection[str] = (),
    ) -> None:
        """Takes the bound ports (None.

        No socket of that family) and interface addresses, already filtered by the shell.

        Addresses of ``tunnels`` are never published, even if a STUN server sees one.
        """
        self._local_network.set_local_endpoints(v4_port, v6_port, addresses, now, tunnels)
        self._drain_common(now)

    def handle_rebound(self, now: float) -> None:
        """Forgets what was measured, and pings and STUNs anew.

        Sockets were opened again, or the network changed.
        """
        self._local_network.handle_rebound(now)
        self._punching.handle_rebound()
        self._budget.handle_rebound()
        for state in self._peers.values():
            state.endpoint.handle_rebound(now)
            self._drain(state, now)
        self._drain_common(now)

    def set_can_tell(self, can_tell: bool) -> None:
        """Sets whether the server can tell peers of a new home.

        While it cannot, a home that is alive is kept.
        """
        self._local_network.set_can_tell(can_tell)

    def check(self, now: float) -> None:
        """Starts a full netcheck now, or one more after the one under way; ends in ``NetcheckDone``."""
        self._local_network.check(now, full=True)
        self._drain_common(now)

    def pin_path(self, peer: NodePublic, path: Pin) -> None:
        """Keeps a peer's traffic to one kind of path: what cannot go that way is dropped.

        Unknown peers are ignored.
        """
        if (state := self._peers.get(peer)) is not None:
            state.endpoint.pin = path
            self._note_path(state, self._now)

    def ping(self, peer: NodePublic, token: int, now: float) -> None:
        """Pings a peer by the path that its traffic takes now; an answer is a ``PingReply`` with this token.

        No answer within five seconds is none at all: the caller keeps the time. While relayed, this also
        looks for a direct path, at most twice a second.
        """
        if (state := self._peers.get(peer)) is not None:
            self._local_network.note_use(now)
            state.endpoint.ping(token, now)
            self._drain(state, now)
            self._drain_common(now)

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
        state = self._peers.get(to)
        if state is None:
            self._drop("unknown_peer", len(datagrams))
            return
        self._local_network.note_use(now)
        self._outbound.send_batch(state, datagrams, segment_size, now, tos, is_handshake=is_handshake)
        if state.endpoint.has_news:
            self._drain(state, now)
            self._drain_common(now)

    # What happened

    def handle_udp(
        self, origin: AddrPort | UdpSource, datagrams: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """Takes one UDP read: keeps STUN and disco, returns the rest and where it came from.

        Each segment is examined.

        A bare address is the origin of what came to the usual sockets.
        """
        source = origin if isinstance(origin, UdpSource) else UdpSource(origin)
        if source.socket and not self._punching.is_open(source.socket):
            # Read just before its spare socket was closed: answers have to leave by a usual one.
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
        self._drain_common(now)

    def handle_relayed(
        self, region: int, sender: NodePublic, packets: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """Takes packets of one sender from a region's relay: keeps disco, returns the rest.

        An unknown sender's are dropped.
        """
        source = DerpSource(region, sender)
        state = self._peers.get(sender)
        if state is None:
            self._drop("unknown_relay_sender", len(packets))
            return source, []
        self._local_network.handle_relay_heard(region, now)
        if state.endpoint.heard_region != region:
            state.endpoint.heard_region = region
            self._note_path(state, now)
            self._events.append(RelayFound(sender))
        rest = []
        for packet in packets:
            if classify(packet) is Kind.DISCO:
                self._handle_disco(packet, source, now)
            else:
                rest.append(packet)
        return source, rest

    def handle_authenticated(self, peer: NodePublic, source: Hashable, n_bytes: int, now: float) -> None:
        """Counts ``n_bytes`` from a source, which WireGuard has authenticated as the peer's, and learns where it is."""
        state = self._peers.get(peer)
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
            self._drain(state, now)
            self._drain_common(now)

    def handle_relay_connected(self, region: int, now: float) -> None:
        """Notes that the link to a region's relay is up."""
        self._relays.handle_connected(region)
        self._local_network.handle_relay_connected(region)
        self._note_paths(now)
        for state in self._peers.values():
            if state.endpoint.kind is PathKind.RELAY and self._relays.region_for(state.endpoint) == region:
                self._events.append(RelayFound(state.peer.node_key))

    def handle_relay_broken(self, region: int, now: float) -> None:
        """Notes that the link to a region's relay is down: no peer is known to be there any more."""
        self._relays.handle_broken(region)
        for state in self._peers.values():
            if state.endpoint.heard_region == region:
                state.endpoint.heard_region = 0
        self._local_network.handle_relay_broken(region, now)
        self._local_network.check(now)
        self._drain_common(now)
        self._note_paths(now)

    def handle_peer_gone(self, region: int, key: NodePublic, now: float) -> None:
        """Notes that a relay says that a peer is not there."""
        state = self._peers.get(key)
        if state is not None and state.endpoint.heard_region == region:
            state.endpoint.heard_region = 0
            self._note_path(state, now)

    def handle_https_latency(self, region: int, seconds: float | None, now: float) -> None:
        """Takes the answer to an ``HttpsProbeWanted``, in seconds; None if the relay could not be reached."""
        self._local_network.handle_https_latency(region, seconds, now)
        self._drain_common(now)

    def handle_send_error(self, addr: AddrPort, error: int, now: float) -> None:
        """Notes that the kernel refused to send to an address, with this errno."""
        if error in _TRANSIENT:
            return
        self._local_network.handle_send_failed(addr, error, now)
        for state in self._peers.values():
            if state.endpoint.is_at(addr):
                state.endpoint.handle_send_failed(addr, now)
                self._drain(state, now)
        self._drain_common(now)

    def handle_timeout(self, now: float) -> None:
        """Does what is due by ``now``.

        A deadline missed by ``SLEPT_AFTER`` means that the machine was suspended: a change of network.
        """
        deadline = self.poll_timeout()
        if deadline is not None and now - deadline.when > SLEPT_AFTER:
            self._events.append(Slept(now - deadline.when))
            self.handle_rebound(now)
        self._local_network.handle_timeout(now)
        self._punching.handle_timeout(now)
        for peer, addr in self._budget.pop_turns(now):
            self._peers[peer].endpoint.take_turn(addr, now)
            self._drain(self._peers[peer], now)
        while (endpoint := self._schedule.first_due(now)) is not None:
            endpoint.handle_timeout(now)
            self._drain(self._peers[endpoint.key], now)
        self._drain_common(now)

    # What to do next

    def poll_transmit(self) -> UdpTransmit | DerpTransmit | None:
        """Returns the next batch for a socket or a relay, or None."""
        return self._outbound.poll_transmit()

    def poll_event(self) -> ConnEvent | None:
        """Returns the next thing that the daemon should know or do, or None."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Deadline | None:
        """Returns when to call ``handle_timeout``, and why."""
        return earliest(
            self._local_network.poll_timeout(),
            self._punching.poll_timeout(),
            self._budget.poll_timeout(),
            self._schedule.poll_timeout(),
        )

    # Looking

    def path(self, peer: NodePublic) -> PathInfo:
        """Returns a peer's path now; kind ``none`` for an unknown peer."""
        state = self._peers.get(peer)
        return state.path() if state is not None else PathInfo(PathKind.NONE, None, None, self._now)

    def paths(self, now: float) -> Iterator[tuple[NodePublic, PathInfo, bool]]:
        """Yields ``(node_key, path, is_active)`` for each peer.

        ``is_active``: data or a user's ping was sent to it within ``ACTIVE_TIMEOUT`` seconds.
        """
        return ((key, state.path(), state.endpoint.is_active(now)) for key, state in self._peers.items())

    def has_mtu_black_hole(self, peer: NodePublic, now: float) -> bool:
        """Returns whether a peer answers small pings directly, and none of the tunnel's size."""
        state = self._peers.get(peer)
        return state is not None and state.endpoint.has_mtu_black_hole(now)

    def port_order(self, now: float) -> PortOrder:
        """Returns how our NAT chooses ports.

        Unknown unless it gives each flow one of its own and a peer needed to know.
        """
        return self._punching.sequence.order(now)

    def is_relay_connected(self, region: int) -> bool:
        """Returns whether the link to a region's relay is up."""
        return region in self._relays

    @property
    def home_region(self) -> int:
        """Returns the region at whose relay this node listens; 0 for none."""
        return self._local_network.home

    @property
    def endpoints(self) -> tuple[OwnEndpoint, ...]:
        """Returns the addresses at which this node may be reached, with their types, as last emitted."""
        return self._local_network.endpoints

    @property
    def report(self) -> Report | None:
        """Returns the last finished netcheck's report; None before the first."""
        return self._local_network.report

    def candidates(self, peer: NodePublic) -> dict[AddrPort, tuple[str, ...]]:
        """Returns the addresses at which a peer may be, and who named each.

        ``netmap``, ``call-me-maybe``, ``ping``.
        """
        state = self._peers.get(peer)
        return (
            {each.addr: each.origins for each in state.endpoint.prober.candidates}
            if state is not None
            else {}
        )

    # Peers

    def _set_peer(self, peer: Peer, now: float) -> None:
        state = self._peers.get(peer.node_key)
        if state is not None and state.peer == peer:
            return
        if state is None:
            endpoint = Endpoint(
                peer.node_key, rng=self._rng, probe_size=self._probe_size, budget=self._budget
            )
            state = self._peers[peer.node_key] = PeerState(peer, endpoint, now)
        elif (state.peer.generation, state.peer.disco_key) != (peer.generation, peer.disco_key):
            state.endpoint.restart()
            self._punching.forget_peer(peer.node_key)
        state.peer = peer
        self._peer_map.set_peer(peer.node_key, peer.disco_key)
        self._punching.set_willing(peer.node_key, is_willing=Capability.BIRTHDAY in peer.capabilities)
        allows_direct = peer.path_policy is PathPolicy.ANY
        state.endpoint.update(peer.endpoints, peer.home_region, allows_direct=allows_direct, now=now)
        self._drain(state, now)

    def _is_used(self, peer: NodePublic, socket: SocketId, now: float) -> bool:
        """Returns whether a peer's trusted path goes by a spare socket."""
        return (state := self._peers.get(peer)) is not None and state.endpoint.uses(socket, now)

    # Receiving

    def _is_wireguard(self, datagram: Buffer, source: UdpSource, now: float) -> bool:
        """Returns whether a datagram is for WireGuard; handles what is not."""
        kind = classify(datagram)
        if kind is Kind.DISCO:
            self._handle_disco(datagram, source, now)
        elif kind is Kind.STUN:
            if not self._handle_stun(datagram, source.socket, now):
                self._drop("stun")
            self._drain_common(now)
        return kind is Kind.WIREGUARD

    def _handle_stun(self, datagram: Buffer, socket: SocketId, now: float) -> bool:
        if socket:
            return self._punching.handle_stun(datagram, socket, now)
        return self._local_network.handle_stun(datagram, now)

    def _handle_disco(self, packet: Buffer, source: Source, now: float) -> None:
        heard = self._disco_handler.handle(packet, source, now)
        if heard.unreadable is not None:
            self._events.append(DiscoUnreadable(heard.unreadable))
        for node in heard.nodes:
            self._drain(self._peers[node], now)
        self._drain_common(now)

    # Draining

    def _drain(self, state: PeerState, now: float) -> None:
        """Takes what an endpoint wants sent, its answers, its deadline and its path."""
        endpoint = state.endpoint
        while (wish := endpoint.poll_wish()) is not None:
            self._grant(wish, state, now)
        while (answer := endpoint.poll_answer()) is not None:
            self._reply(state, answer)
        endpoint.clear_news()
        self._schedule.update(endpoint)
        self._note_path(state, now)

    def _grant(self, wish: Wish, state: PeerState, now: float) -> None:
        if isinstance(wish, SendPing):
            self._disco.send_ping(wish, state)
            return
        self._call(state)
        if not self._local_network.is_fresh(now):
            self._local_network.check(now)
        if state.endpoint.kind is not PathKind.DIRECT and self._local_network.has_hard_nat:
            servers = self._local_network.stun_servers
            self._punching.punch(state.peer.node_key, state.endpoint.prober.targets(), servers, now)

    def _call(self, state: PeerState) -> None:
        self._disco.send_call_me_maybe(state, self._punching.predicted(state.peer.node_key))

    def _reply(self, state: PeerState, answer: PingAnswered) -> None:
        kind = PathKind.RELAY if isinstance(answer.by, int) else PathKind.DIRECT
        path = PathInfo(kind, answer.by, answer.latency, state.log.since)
        self._events.append(PingReply(answer.token, state.peer.node_key, path, answer.latency))

    def _drain_common(self, now: float) -> None:
        """Takes what belongs to no one peer."""
        self._drain_local_network(now)
        while (wish := self._punching.poll_wish()) is not None:
            self._punch(wish, now)
        self._drain_local_network(now)

    def _punch(self, wish: punching.Wish, now: float) -> None:
        match wish:
            case punching.OpenSockets(sockets):
                self._events.append(SocketsWanted(sockets))
            case punching.CloseSocket(peer, socket):
                self._events.append(SocketsUnwanted((socket,)))
                if peer is not None and (state := self._peers.get(peer)) is not None:
                    state.endpoint.forget_socket(socket, now)
                    self._drain(state, now)
            case punching.SendFrom(socket, to, datagram):
                self._outbound.send_udp(to, datagram, socket)
            case punching.ProbeFrom(peer, socket, to):
                self._peers[peer].endpoint.probe(to, socket, now)
                self._drain(self._peers[peer], now)
            case Scatter(peer, ways):
                self._disco.scatter(peer, ways)
            case punching.Call(peer):
                self._call(self._peers[peer])

    def _drain_local_network(self, now: float) -> None:
        """Takes events and STUN probes.

        New own endpoints go to every peer that is in use and not direct yet.
        """
        is_news = False
        while (event := self._local_network.poll_event()) is not None:
            is_news |= isinstance(event, EndpointsChanged)
            self._events.append(event)
        if is_news:
            self._discover_all(now)
        while (probe := self._local_network.poll_probe()) is not None:
            self._outbound.send_udp(probe.addr, probe.datagram)

    def _discover_all(self, now: float) -> None:
        for state in self._peers.values():
            if state.endpoint.is_active(now) and state.endpoint.kind is not PathKind.DIRECT:
                state.endpoint.discover(now)
                self._drain(state, now)

    def _note_paths(self, now: float) -> None:
        for state in self._peers.values():
            self._note_path(state, now)

    def _note_path(self, state: PeerState, now: float) -> None:
        self._now = max(self._now, now)
        endpoint, kind = state.endpoint, state.endpoint.kind
        via: AddrPort | int | None = None
        if kind is PathKind.DIRECT and endpoint.best is not None:
            via = endpoint.best.addr
        elif kind is PathKind.RELAY:
            via = self._relays.region_for(endpoint)
        if kind is PathKind.DIRECT and state.log.kind is not kind:
            self._punching.handle_direct(endpoint.key)
        if state.log.kind is PathKind.DIRECT and kind is not PathKind.DIRECT:
            self._handle_path_lost(state, now)
        if state.log.note(kind, via, now, wanted_since=endpoint.active_since(now)):
            self._events.append(PathChanged(endpoint.key, state.path()))

    def _handle_path_lost(self, state: PeerState, now: float) -> None:
        """Perhaps a NAT has forgotten us, or the peer has restarted where no server can tell."""
        if state.endpoint.is_active(now):
            self._local_network.check(now)
            if not self._relays.reaches(state.endpoint):
                self._events.append(PathLost(state.peer.node_key))

    def _drop(self, reason: str, n_dropped: int = 1) -> None:
        self._counters[f"magicsock.drop.{reason}"] += n_dropped
