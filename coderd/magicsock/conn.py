"""The whole of path choice: one socket's datagrams told apart, batches sent by each peer's best path, disco spoken.

```
 WireGuard batches  --send-->  Endpoint.route  -->  UdpTransmit | DerpTransmit
 handle_udp | handle_relayed  -->  STUN: Surroundings   disco: Endpoint   the rest: back to the caller, with its source
```
Peers are named by node key. Conn owns one ``Endpoint`` per peer, the ``PeerMap`` and the ``Surroundings``, drains them
after everything that happens, and turns their wishes into sealed packets. It never raises on bytes from outside: what is
not right is dropped and counted under ``magicsock.drop.*``.
"""

import errno
from collections import deque
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from coderd.magicsock import punching
from coderd.magicsock.classify import WIREGUARD_SECOND_BYTE, Kind, classify
from coderd.magicsock.endpoint import FEW_DATAGRAMS, Endpoint
from coderd.magicsock.events import (
    ConnEvent,
    ConnStatus,
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
from coderd.magicsock.known import Known
from coderd.magicsock.letterbox import Letterbox
from coderd.magicsock.peer_map import PeerMap
from coderd.magicsock.ping_budget import PingBudget
from coderd.magicsock.port_sequence import PortOrder
from coderd.magicsock.punching import Punching
from coderd.magicsock.surroundings import Surroundings
from coderd.magicsock.talk import Talk
from coderd.magicsock.wish import PingAnswered, Route, SendPing, Wish
from coderd.metrics import Counters
from coderd.model import Buffer, RandomBytes
from coderd.model.addresses import AddrPort
from coderd.model.deadline import Deadline, earliest
from coderd.model.derpmap import DerpMap
from coderd.model.keys import DiscoPrivate, NodePublic
from coderd.model.netmap import Capability, PathPolicy, Peer
from coderd.model.paths import PathInfo, PathKind, Pin
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

DATA_OVERHEAD = 32
"""WireGuard adds this to a packet: a path must carry UDP payloads of the tunnel's MTU and this."""
MOST_PLACES = 16
"""Addresses that a lone handshake is sent to when nothing is known of the way to a peer but where it may be."""
HEARD_LATELY = 3.0
"""Seconds for which WireGuard's word on where a peer sent from is all that lone datagrams need."""
SLEPT_AFTER = 30.0
"""Seconds by which a deadline is missed only by a machine that was suspended: NATs forget mappings after 30."""
SETTLED_AFTER = 10.0
"""Seconds after which a direct path is old enough to carry handshakes alone."""

_TRANSIENT = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})
"""Send errors that say nothing about the path."""


class Conn:
    """All peers' paths. Pure: sockets, relays and clocks belong to the caller.

    Commands and ``handle_*`` may be called in any order; afterwards take ``poll_transmit`` and ``poll_event`` until None,
    then ``poll_timeout``.

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
        self._known: dict[NodePublic, Known] = {}
        self._peer_map = PeerMap()
        self._surroundings = Surroundings(rng=rng)
        self._budget = PingBudget()
        self._punching = Punching(
            rng=rng, plays_birthday=plays_birthday, budget=self._budget, is_used=self._is_used
        )
        self._schedule: Schedule[Endpoint] = Schedule()
        self._talk = Talk(
            node_key=node_key,
            letterbox=Letterbox(disco_key, self._peer_map, rng),
            known=self._known,
            peer_map=self._peer_map,
            surroundings=self._surroundings,
            punching=self._punching,
            counters=self._counters,
            rng=rng,
        )
        self._transmits = self._talk.transmits
        self._events: deque[ConnEvent] = deque()

    # Commands

    def set_netmap(self, peers: Iterable[Peer], now: float) -> None:
        """Takes the server's list of peers, whole: adds, changes, removes."""
        wanted = {peer.node_key: peer for peer in peers}
        for key in [key for key in self._known if key not in wanted]:
            self._schedule.discard(self._known.pop(key).endpoint)
            self._peer_map.remove_peer(key)
            self._punching.forget_peer(key)
            self._punching.set_willing(key, is_willing=False)
            self._budget.forget_peer(key)
        for peer in wanted.values():
            self._set_peer(peer, now)
        self._drain_common(now)

    def introduce(self, peer: Peer, now: float) -> None:
        """Takes a peer's own word, given inside the tunnel, on the disco key that it has since it restarted."""
        known = self._known.get(peer.node_key)
        if known is None:
            return
        known.peer = peer
        self._peer_map.set_peer(peer.node_key, peer.disco_key)
        known.endpoint.handle_rebound(now)
        known.endpoint.discover(now)
        self._drain(known, now)
        self._drain_common(now)

    def set_derp_map(self, derp_map: DerpMap, resolved: Mapping[str, Sequence[str]], now: float) -> None:
        """Takes the relays, and their host names' addresses as the shell resolved them. Starts a netcheck."""
        self._surroundings.set_derp_map(derp_map, resolved, now)
        self._drain_common(now)

    def set_local_endpoints(
        self,
        v4_port: int | None,
        v6_port: int | None,
        addresses: Sequence[str],
        now: float,
        tunnels: Collection[str] = (),
    ) -> None:
        """Bound ports (None: no socket of that family) and interface addresses, already filtered by the shell.

        Those of tunnels come apart: they are never told to anybody, even where a STUN server sees one.
        """
        self._surroundings.set_local_endpoints(v4_port, v6_port, addresses, now, tunnels)
        self._drain_common(now)

    def handle_rebound(self, now: float) -> None:
        """Sockets were opened again, or the network changed: trust nothing of before, ping and STUN anew."""
        self._surroundings.handle_rebound(now)
        self._punching.handle_rebound()
        self._budget.handle_rebound()
        for known in self._known.values():
            known.endpoint.handle_rebound(now)
            self._drain(known, now)
        self._drain_common(now)

    def set_can_tell(self, can_tell: bool) -> None:
        """Whether the server is there to tell peers of a new home. Without it, a home that is alive is kept."""
        self._surroundings.set_can_tell(can_tell)

    def check(self, now: float) -> None:
        """Starts a full netcheck now, or one more after the one under way; ends in ``NetcheckDone``."""
        self._surroundings.check(now, full=True)
        self._drain_common(now)

    def pin_path(self, peer: NodePublic, path: Literal["any", "direct", "relay"]) -> None:
        """Keeps a peer's traffic to one kind of path: what cannot go that way is dropped. Unknown peers are ignored."""
        if (known := self._known.get(peer)) is not None:
            known.endpoint.pin = Pin(path)
            self._note_path(known, self._now)

    def ping(self, peer: NodePublic, token: int, now: float) -> None:
        """Pings a peer by the path that its traffic takes now; an answer is a ``PingReply`` with this token.

        No answer within five seconds is none at all: the caller keeps the time. While relayed, this also looks for a
        direct path, at most twice a second.
        """
        if (known := self._known.get(peer)) is not None:
            self._surroundings.note_use(now)
            known.endpoint.ping(token, now)
            self._drain(known, now)
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

        A batch of handshake messages to a peer may leave by several paths, since losing one costs five seconds.
        """
        if isinstance(to, NodePublic):
            self._send_to_peer(to, datagrams, segment_size, now, tos, is_handshake=is_handshake)
        elif isinstance(to, UdpSource):
            self._transmits.append(UdpTransmit(to.addr, datagrams, segment_size, tos=tos, socket=to.socket))
        elif isinstance(to, DerpSource):
            self._transmits.append(DerpTransmit(to.region, to.key, datagrams))
        else:
            raise TypeError(f"nothing can be sent to a {type(to).__name__}")

    # What happened

    def handle_udp(
        self, origin: AddrPort | UdpSource, datagrams: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """One UDP read: keeps STUN and disco, returns the rest and where it came from. Each segment is looked at.

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
        """Sockets of a ``SocketsWanted`` are bound; those that could not be are left out."""
        self._punching.handle_opened(sockets, now)
        self._drain_common(now)

    def handle_relayed(
        self, region: int, sender: NodePublic, packets: Sequence[Buffer], now: float
    ) -> tuple[Source, list[Buffer]]:
        """Packets of one sender from a region's relay: the same. A stranger's are dropped."""
        source = DerpSource(region, sender)
        known = self._known.get(sender)
        if known is None:
            self._drop("unknown_relay_sender", len(packets))
            return source, []
        self._surroundings.handle_relay_heard(region, now)
        if known.endpoint.heard_region != region:
            known.endpoint.heard_region = region
            self._note_path(known, now)
            self._events.append(RelayFound(sender))
        rest = []
        for packet in packets:
            if classify(packet) is Kind.DISCO:
                self._handle_disco(packet, source, now)
            else:
                rest.append(packet)
        return source, rest

    def handle_authenticated(self, peer: NodePublic, source: Hashable, n_bytes: int, now: float) -> None:
        """WireGuard vouches that ``n_bytes`` from a source are the peer's: counts them, learns where it is."""
        known = self._known.get(peer)
        if known is None:
            return
        if isinstance(source, DerpSource):
            known.log.rx_relay += n_bytes
            known.endpoint.handle_heard_relayed(now)
        elif isinstance(source, UdpSource):
            known.log.rx_direct += n_bytes
            known.hear_from(source.addr, n_bytes, now)
            self._peer_map.learn_address(source.addr, peer)
            known.endpoint.handle_heard(source.addr, now)
        if known.endpoint.has_news:
            self._drain(known, now)
            self._drain_common(now)

    def handle_relay_connected(self, region: int, now: float) -> None:
        """The link to a region's relay is up."""
        self._talk.connected.add(region)
        self._surroundings.handle_relay_connected(region)
        self._note_paths(now)
        for known in self._known.values():
            if known.endpoint.kind is PathKind.RELAY and self._talk.region_for(known.endpoint) == region:
                self._events.append(RelayFound(known.peer.node_key))

    def handle_relay_broken(self, region: int, now: float) -> None:
        """The link to a region's relay is down: nobody is known to be there any more."""
        self._talk.connected.discard(region)
        for known in self._known.values():
            if known.endpoint.heard_region == region:
                known.endpoint.heard_region = 0
        self._surroundings.handle_relay_broken(region, now)
        self._surroundings.check(now)
        self._drain_common(now)
        self._note_paths(now)

    def handle_peer_gone(self, region: int, key: NodePublic, now: float) -> None:
        """A relay says that a peer is not there."""
        known = self._known.get(key)
        if known is not None and known.endpoint.heard_region == region:
            known.endpoint.heard_region = 0
            self._note_path(known, now)

    def handle_https_latency(self, region: int, seconds: float | None, now: float) -> None:
        """The answer to an ``HttpsProbeWanted``; None where the relay could not be reached."""
        self._surroundings.handle_https_latency(region, seconds, now)
        self._drain_common(now)

    def handle_send_error(self, addr: AddrPort, error: int, now: float) -> None:
        """The kernel refused to send to an address, with this errno."""
        if error in _TRANSIENT:
            return
        self._surroundings.handle_send_failed(addr, error, now)
        for known in self._known.values():
            if known.endpoint.is_at(addr):
                known.endpoint.handle_send_failed(addr, now)
                self._drain(known, now)
        self._drain_common(now)

    def handle_timeout(self, now: float) -> None:
        """Does what is due. What is due for very long was slept through, with the machine: that is a change of network."""
        deadline = self.poll_timeout()
        if deadline is not None and now - deadline.when > SLEPT_AFTER:
            self._events.append(Slept(now - deadline.when))
            self.handle_rebound(now)
        self._surroundings.handle_timeout(now)
        self._punching.handle_timeout(now)
        for peer, addr in self._budget.pop_turns(now):
            self._known[peer].endpoint.take_turn(addr, now)
            self._drain(self._known[peer], now)
        while (endpoint := self._schedule.first_due(now)) is not None:
            endpoint.handle_timeout(now)
            self._drain(self._known[endpoint.key], now)
        self._drain_common(now)

    # What to do next

    def poll_transmit(self) -> UdpTransmit | DerpTransmit | None:
        """The next batch for a socket or a relay."""
        return self._transmits.popleft() if self._transmits else None

    def poll_event(self) -> ConnEvent | None:
        """What the daemon should know, or do."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> Deadline | None:
        """When to call ``handle_timeout``, and why."""
        return earliest(
            self._surroundings.poll_timeout(),
            self._punching.poll_timeout(),
            self._budget.poll_timeout(),
            self._schedule.poll_timeout(),
        )

    # Looking

    def path(self, peer: NodePublic) -> PathInfo:
        """A peer's path now; kind ``none`` for one that is not known."""
        known = self._known.get(peer)
        return known.path() if known is not None else PathInfo(PathKind.NONE, None, None, self._now)

    def paths(self, now: float) -> Iterator[tuple[NodePublic, PathInfo, bool]]:
        """Every peer's path, and whether somebody cares."""
        return ((key, known.path(), known.endpoint.is_active(now)) for key, known in self._known.items())

    def is_narrow(self, peer: NodePublic, now: float) -> bool:
        """Whether a peer answers small pings directly, and none of the tunnel's size."""
        known = self._known.get(peer)
        return known is not None and known.endpoint.is_narrow(now)

    def port_order(self, now: float) -> PortOrder:
        """How our NAT chooses ports, where it gives each flow one of its own and that mattered to somebody."""
        return self._punching.sequence.order(now)

    def status(self, now: float) -> ConnStatus:
        """Everything, frozen."""
        return ConnStatus(
            self._surroundings.home,
            self._surroundings.endpoints,
            self._surroundings.report,
            tuple(sorted(self._talk.connected)),
            tuple(known.status(now) for known in self._known.values()),
        )

    # Peers

    def _set_peer(self, peer: Peer, now: float) -> None:
        known = self._known.get(peer.node_key)
        if known is not None and known.peer == peer:
            return
        if known is None:
            endpoint = Endpoint(
                peer.node_key, rng=self._rng, probe_size=self._probe_size, budget=self._budget
            )
            known = self._known[peer.node_key] = Known(peer, endpoint, now)
        elif (known.peer.generation, known.peer.disco_key) != (peer.generation, peer.disco_key):
            known.endpoint.restart()
            self._punching.forget_peer(peer.node_key)
        known.peer = peer
        self._peer_map.set_peer(peer.node_key, peer.disco_key)
        self._punching.set_willing(peer.node_key, is_willing=Capability.BIRTHDAY in peer.capabilities)
        allows_direct = peer.path_policy is PathPolicy.ANY
        known.endpoint.update(peer.endpoints, peer.home_region, allows_direct=allows_direct, now=now)
        self._drain(known, now)

    def _is_used(self, peer: NodePublic, socket: SocketId, now: float) -> bool:
        """Whether a peer's trusted path goes by a spare socket."""
        return (known := self._known.get(peer)) is not None and known.endpoint.uses(socket, now)

    # Sending

    def _send_to_peer(
        self,
        to: NodePublic,
        datagrams: list[bytes],
        segment_size: int,
        now: float,
        tos: int,
        *,
        is_handshake: bool,
    ) -> None:
        known = self._known.get(to)
        if known is None:
            self._drop("unknown_peer", len(datagrams))
            return
        self._surroundings.note_use(now)
        route = known.endpoint.route(len(datagrams), now)
        if is_handshake and route.udp is not None:
            route = self._with_relay(route, known, now)
        n_bytes = sum(map(len, datagrams))
        if route.udp is not None:
            known.log.tx_direct += n_bytes
            self._transmits.append(
                UdpTransmit(route.udp, datagrams, segment_size, tos=tos, socket=route.socket)
            )
        if route.by_relay:
            known.log.tx_relay += n_bytes
            self._transmits.append(DerpTransmit(self._talk.region_for(known.endpoint), to, datagrams))
        if route.udp is None and len(datagrams) <= FEW_DATAGRAMS:
            self._send_unproven(known, datagrams, segment_size, now, tos, is_handshake=is_handshake)
        if route.udp is None and not route.by_relay:
            self._drop("no_path", len(datagrams))
        if known.endpoint.has_news:
            self._drain(known, now)
            self._drain_common(now)

    def _send_unproven(
        self,
        known: Known,
        datagrams: list[bytes],
        segment_size: int,
        now: float,
        tos: int,
        *,
        is_handshake: bool,
    ) -> None:
        """With no path proven, WireGuard finds the way: to where it heard the peer; a handshake anywhere.

        So a handshake succeeds although the server is gone and disco keys are not what it said. Where a relay is at hand
        handshakes alone go both ways: a peer that has just restarted may not be at its relay yet. Nothing of this is
        proven to be the peer's: handshakes count as pings do, and where it was heard it gets no more than thrice what came.
        """
        endpoint = known.endpoint
        if not endpoint.allows_direct or endpoint.pin is Pin.RELAY:
            return
        if self._talk.is_relay_at_hand(endpoint) and not is_handshake:
            return
        heard = known.heard_from
        if heard is not None and now - heard.at <= HEARD_LATELY:
            places = [heard.addr]
        else:
            heard, places = None, [candidate.addr for candidate in endpoint.candidates()][:MOST_PLACES]
        n_bytes = sum(map(len, datagrams))
        for addr in filter(self._surroundings.can_send_to, places):
            if (
                endpoint.has_answered(addr, now)
                or (heard is not None and heard.spend(n_bytes))
                or (is_handshake and self._budget.take(endpoint.key, addr, now, is_new_flow=True))
            ):
                self._transmits.append(UdpTransmit(addr, datagrams, segment_size, tos=tos))

    def _with_relay(self, route: Route, known: Known, now: float) -> Route:
        """A handshake over a path so new that nobody knows its loss goes by relay as well: lost, it would cost five seconds.

        The second copy that arrives is dropped as a replay before it counts towards a flood.
        """
        may_be_relayed = known.endpoint.has_relay and known.endpoint.pin is Pin.ANY
        return route._replace(
            by_relay=route.by_relay or (may_be_relayed and now - known.log.since < SETTLED_AFTER)
        )

    # Receiving

    def _is_wireguard(self, datagram: Buffer, source: UdpSource, now: float) -> bool:
        """Whether a datagram is for WireGuard; what is not is dealt with here."""
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
        return self._surroundings.handle_stun(datagram, now)

    def _handle_disco(self, packet: Buffer, source: Source, now: float) -> None:
        heard = self._talk.handle(packet, source, now)
        if heard.unreadable is not None:
            self._events.append(DiscoUnreadable(heard.unreadable))
        for node in heard.nodes:
            self._drain(self._known[node], now)
        self._drain_common(now)

    # Draining

    def _drain(self, known: Known, now: float) -> None:
        """Takes what an endpoint wants sent, its answers, its deadline and its path."""
        endpoint = known.endpoint
        while (wish := endpoint.poll_wish()) is not None:
            self._grant(wish, known, now)
        while (answer := endpoint.poll_answer()) is not None:
            self._reply(known, answer)
        endpoint.clear_news()
        self._schedule.update(endpoint)
        self._note_path(known, now)

    def _grant(self, wish: Wish, known: Known, now: float) -> None:
        if isinstance(wish, SendPing):
            self._talk.ping(wish, known)
            return
        self._talk.call(known)
        if not self._surroundings.is_fresh(now):
            self._surroundings.check(now)
        if known.endpoint.kind is not PathKind.DIRECT and self._surroundings.has_hard_nat:
            servers = self._surroundings.stun_servers
            self._punching.punch(known.peer.node_key, known.endpoint.targets(), servers, now)

    def _reply(self, known: Known, answer: PingAnswered) -> None:
        kind = PathKind.RELAY if isinstance(answer.by, int) else PathKind.DIRECT
        path = PathInfo(kind, answer.by, answer.latency, known.log.since)
        self._events.append(PingReply(answer.token, known.peer.node_key, path, answer.latency))

    def _drain_common(self, now: float) -> None:
        """Takes what belongs to no one peer."""
        self._drain_surroundings(now)
        while (wish := self._punching.poll_wish()) is not None:
            self._punch(wish, now)
        self._drain_surroundings(now)

    def _punch(self, wish: punching.Wish, now: float) -> None:
        match wish:
            case punching.OpenSockets(sockets):
                self._events.append(SocketsWanted(sockets))
            case punching.CloseSocket(peer, socket):
                self._events.append(SocketsUnwanted((socket,)))
                if peer is not None and (known := self._known.get(peer)) is not None:
                    known.endpoint.forget_socket(socket, now)
                    self._drain(known, now)
            case punching.SendFrom(socket, to, datagram):
                self._talk.send_udp(to, datagram, socket)
            case punching.ProbeFrom(peer, socket, to):
                self._known[peer].endpoint.probe(to, socket, now)
                self._drain(self._known[peer], now)
            case punching.Scatter(peer, ways):
                self._talk.scatter(peer, ways)
            case punching.Call(peer):
                self._talk.call(self._known[peer])

    def _drain_surroundings(self, now: float) -> None:
        """Takes events and STUN probes. New own endpoints go to every peer that is in use and not direct yet."""
        is_news = False
        while (event := self._surroundings.poll_event()) is not None:
            is_news |= isinstance(event, EndpointsChanged)
            self._events.append(event)
        if is_news:
            self._discover_all(now)
        while (probe := self._surroundings.poll_probe()) is not None:
            self._talk.send_udp(probe.addr, probe.datagram)

    def _discover_all(self, now: float) -> None:
        for known in self._known.values():
            if known.endpoint.is_active(now) and known.endpoint.kind is not PathKind.DIRECT:
                known.endpoint.discover(now)
                self._drain(known, now)

    def _note_paths(self, now: float) -> None:
        for known in self._known.values():
            self._note_path(known, now)

    def _note_path(self, known: Known, now: float) -> None:
        self._now = max(self._now, now)
        endpoint, kind = known.endpoint, known.endpoint.kind
        via: AddrPort | int | None = None
        if kind is PathKind.DIRECT and endpoint.best is not None:
            via = endpoint.best.addr
        elif kind is PathKind.RELAY:
            via = self._talk.region_for(endpoint)
        if kind is PathKind.DIRECT and known.log.kind is not kind:
            self._punching.handle_direct(endpoint.key)
        if known.log.kind is PathKind.DIRECT and kind is not PathKind.DIRECT:
            self._handle_path_lost(known, now)
        if known.log.note(kind, via, now, wanted_since=endpoint.active_since(now)):
            self._events.append(PathChanged(endpoint.key, known.path()))

    def _handle_path_lost(self, known: Known, now: float) -> None:
        """Perhaps a NAT has forgotten us, or the peer has restarted where no server can tell."""
        if known.endpoint.is_active(now):
            self._surroundings.check(now)
            if not self._talk.is_relay_at_hand(known.endpoint):
                self._events.append(PathLost(known.peer.node_key))

    def _drop(self, reason: str, n_dropped: int = 1) -> None:
        self._counters[f"magicsock.drop.{reason}"] += n_dropped
