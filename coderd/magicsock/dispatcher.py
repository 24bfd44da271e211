"""What the parts of ``Conn`` want, carried out: wishes become packets, changes become events.

```
 Endpoint    pings, call-me-maybes, answers, path  -->  +------------+  -->  DiscoTransport, Outbound: packets
 Punching    sockets, STUN, probes, calls          -->  | Dispatcher |  --> poll_event: PathChanged, ...
 LocalNetwork  STUN, endpoints, home, report       -->  +------------+  --> checks, rounds, punches
```
"""

from collections import deque

from coderd.magicsock import punching
from coderd.magicsock.birthday import Scatter
from coderd.magicsock.disco_transport import DiscoTransport
from coderd.magicsock.events import (
    ConnEvent,
    EndpointsChanged,
    PathChanged,
    PathLost,
    PingReply,
    SocketsUnwanted,
    SocketsWanted,
)
from coderd.magicsock.local_network import LocalNetwork
from coderd.magicsock.outbound import Outbound
from coderd.magicsock.peer_state import PeerState
from coderd.magicsock.peers import Peers
from coderd.magicsock.pings import PingAnswered, SendPing, Wish
from coderd.magicsock.punching import Punching
from coderd.magicsock.relay_set import RelaySet
from coderd.model.addresses import AddrPort
from coderd.model.paths import PathInfo, PathKind


class Dispatcher:
    """Drain of all parts, and owner of the events for ``Conn``'s caller.

    Args:
        peers: their endpoints are drained.
        relays: which relay reaches whom.
        local_network: drained of STUN probes and events, asked to check.
        punching: drained of its wishes, asked to punch.
        disco: sends what endpoints want.
        outbound: takes STUN.
    """

    def __init__(
        self,
        *,
        peers: Peers,
        relays: RelaySet,
        local_network: LocalNetwork,
        punching: Punching,
        disco: DiscoTransport,
        outbound: Outbound,
    ) -> None:
        self._peers = peers
        self._relays = relays
        self._local_network = local_network
        self._punching = punching
        self._disco = disco
        self._outbound = outbound
        self._events: deque[ConnEvent] = deque()

    # Events

    def emit(self, event: ConnEvent) -> None:
        """Queues an event for ``poll_event``."""
        self._events.append(event)

    def poll_event(self) -> ConnEvent | None:
        """Returns the next event, or None."""
        return self._events.popleft() if self._events else None

    # Draining

    def drain(self, state: PeerState, now: float) -> None:
        """Drains one peer, then what belongs to no one peer."""
        self.drain_peer(state, now)
        self.drain_common(now)

    def drain_peer(self, state: PeerState, now: float) -> None:
        """Takes what a peer's endpoint wants sent, its answers, its deadline and its path."""
        endpoint = state.endpoint
        while (wish := endpoint.poll_wish()) is not None:
            self._grant(wish, state, now)
        while (answer := endpoint.poll_answer()) is not None:
            self._reply(state, answer)
        endpoint.clear_news()
        self._peers.update_deadline(state)
        self.note_path(state, now)

    def drain_common(self, now: float) -> None:
        """Takes what the local network and punching want, which belongs to no one peer."""
        self._drain_local_network(now)
        while (wish := self._punching.poll_wish()) is not None:
            self._punch(wish, now)
        self._drain_local_network(now)

    def note_path(self, state: PeerState, now: float) -> None:
        """Compares a peer's path with the last one noted, and emits what has changed."""
        endpoint, kind = state.endpoint, state.endpoint.kind
        via: AddrPort | int | None = None
        if kind is PathKind.DIRECT and endpoint.best is not None:
            via = endpoint.best.addr
        elif kind is PathKind.RELAY:
            via = self._relays.region_for(state.relay)
        if kind is PathKind.DIRECT and state.log.kind is not kind:
            self._punching.handle_direct(endpoint.key)
        if state.log.kind is PathKind.DIRECT and kind is not PathKind.DIRECT:
            self._handle_path_lost(state, now)
        if state.log.note(kind, via, now, wanted_since=endpoint.active_since(now)):
            self._events.append(PathChanged(endpoint.key, state.path()))

    def note_paths(self, now: float) -> None:
        """Compares every peer's path with the last one noted."""
        for state in self._peers:
            self.note_path(state, now)

    def _handle_path_lost(self, state: PeerState, now: float) -> None:
        """Perhaps a NAT has forgotten us, or the peer has restarted where no server can say so."""
        if state.endpoint.is_active(now):
            self._local_network.check(now)
            if not self._relays.reaches(state.relay):
                self._events.append(PathLost(state.peer.node_key))

    # An endpoint's wishes

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

    # What is no one peer's

    def _punch(self, wish: punching.Wish, now: float) -> None:
        match wish:
            case punching.OpenSockets(sockets):
                self._events.append(SocketsWanted(sockets))
            case punching.CloseSocket(peer, socket):
                self._events.append(SocketsUnwanted((socket,)))
                if peer is not None and (state := self._peers.get(peer)) is not None:
                    state.endpoint.forget_socket(socket, now)
                    self.drain_peer(state, now)
            case punching.SendFrom(socket, to, datagram):
                self._outbound.send_udp(to, datagram, socket)
            case punching.ProbeFrom(peer, socket, to):
                self._peers[peer].endpoint.probe(to, socket, now)
                self.drain_peer(self._peers[peer], now)
            case Scatter(peer, ways):
                self._disco.scatter(peer, ways)
            case punching.Call(peer):
                self._call(self._peers[peer])

    def _drain_local_network(self, now: float) -> None:
        """Takes events and STUN probes.

        This node's new endpoints go to every active peer that is not direct yet.
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
        for state in self._peers:
            if state.endpoint.is_active(now) and state.endpoint.kind is not PathKind.DIRECT:
                state.endpoint.discover(now)
                self.drain_peer(state, now)
