"""Disco spoken with all peers: what is sealed and sent, what is opened and heeded.

Works on the peers that ``Conn`` knows, but owns what leaves: the queue of transmits, and by which relay to reach whom.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from coderd.disco import CallMeMaybe, Message, Ping, Pong
from coderd.magicsock.endpoint import Endpoint
from coderd.magicsock.known import Known
from coderd.magicsock.letterbox import WRONG_SENDER, Letterbox
from coderd.magicsock.peer_map import PeerMap
from coderd.magicsock.punching import Punching
from coderd.magicsock.surroundings import Surroundings
from coderd.magicsock.wish import SendPing
from coderd.metrics import Counters
from coderd.model import Buffer, RandomBytes
from coderd.model.addresses import AddrPort
from coderd.model.keys import NodePublic
from coderd.model.paths import PathKind
from coderd.model.transport import (
    MAIN_SOCKET,
    DerpSource,
    DerpTransmit,
    SocketId,
    Source,
    UdpSource,
    UdpTransmit,
)

DERP_MAGIC_IP = "127.3.3.40"
"""Stands for a relay where only an ip:port fits; the port is the region."""
UNREADABLE_INTERVAL = 1.0
"""Seconds between two hints that one peer's disco cannot be read."""

_UNREADABLE_GAP = 0.05
"""Least seconds between two looks for the sender of disco that cannot be read."""
_TX_SIZE = 12
_PONG_SIZE = 110
"""No ping that is smaller gets one; and nothing that is smaller, and cannot be read, was a ping or pong of anybody."""


class Heard(NamedTuple):
    """What came of a packet: whose endpoints have news, and whose disco this was that nobody can read."""

    nodes: tuple[NodePublic, ...] = ()
    unreadable: NodePublic | None = None


class Talk:
    """One disco key's conversations.

    Args:
        node_key: this node's, named in every ping.
        letterbox: seals and opens.
        known: all peers; kept by ``Conn``.
        peer_map: learns where they are.
        surroundings: what we tell of ourselves.
        punching: what we tell one peer alone, and who searches for whom.
        counters: drops by reason.
        rng: for transaction ids.
    """

    def __init__(
        self,
        *,
        node_key: NodePublic,
        letterbox: Letterbox,
        known: Mapping[NodePublic, Known],
        peer_map: PeerMap,
        surroundings: Surroundings,
        punching: Punching,
        counters: Counters,
        rng: RandomBytes,
    ) -> None:
        self.transmits: deque[UdpTransmit | DerpTransmit] = deque()
        self.connected: set[int] = set()
        """Regions to whose relay there is a link."""
        self._node_key = node_key
        self._letterbox = letterbox
        self._known = known
        self._peer_map = peer_map
        self._surroundings = surroundings
        self._punching = punching
        self._counters = counters
        self._rng = rng
        self._unreadable_at = float("-inf")

    # What leaves

    def send_udp(self, addr: AddrPort, packet: bytes, socket: SocketId = MAIN_SOCKET) -> None:
        """Queues one datagram."""
        self.transmits.append(UdpTransmit(addr, [packet], len(packet), socket=socket))

    def ping(self, wish: SendPing, known: Known) -> None:
        """Queues a ping; one that no socket can send is forgotten."""
        packet = self._letterbox.seal(Ping(wish.tx_id, self._node_key, wish.padding), known.peer.node_key)
        if wish.to is None:
            self._send_relayed(known, packet)
        elif self._surroundings.can_send_to(wish.to):
            self.send_udp(wish.to, packet, wish.socket)
        else:
            known.endpoint.forget_ping(wish.tx_id)

    def scatter(self, peer: NodePublic, ways: Iterable[tuple[SocketId, AddrPort]]) -> None:
        """Queues the same small ping many times over. Nobody waits for a pong: the peer's own ping is the answer."""
        packet = self._letterbox.seal(Ping(self._rng(_TX_SIZE), self._node_key, 0), peer)
        for socket, to in ways:
            self.send_udp(to, packet, socket)

    def call(self, known: Known) -> None:
        """Queues a call-me-maybe: where we may be reached, and where this peer alone may come in."""
        own = tuple(addr for addr, _ in self._surroundings.endpoints)
        endpoints = own + self._punching.foretold(known.peer.node_key)
        if endpoints:
            self._send_relayed(known, self._letterbox.seal(CallMeMaybe(endpoints), known.peer.node_key))

    def region_for(self, endpoint: Endpoint) -> int:
        """The relay to reach a peer by: its home if connected, else where it was heard if still connected, else its home."""
        home, heard = endpoint.home_region, endpoint.heard_region
        if home not in self.connected and heard in self.connected:
            return heard
        return home or heard

    def is_relay_at_hand(self, endpoint: Endpoint) -> bool:
        """Whether a peer can be reached by relay without dialling one."""
        return endpoint.has_relay and self.region_for(endpoint) in self.connected

    def _send_relayed(self, known: Known, packet: bytes) -> None:
        region = self.region_for(known.endpoint)
        self.transmits.append(DerpTransmit(region, known.peer.node_key, [packet]))

    # What comes

    def handle(self, packet: Buffer, source: Source, now: float) -> Heard:
        """Opens a packet, and does what it says."""
        letter = self._letterbox.open(packet, source)
        if isinstance(letter, str):
            self._drop(letter)
            is_hint = letter != WRONG_SENDER and len(packet) >= _PONG_SIZE
            return self._unreadable(source, now) if is_hint else Heard()
        if isinstance(letter.message, Ping) and len(packet) < _PONG_SIZE:
            self._drop("ping_small")
            return Heard()
        self._handle_message(letter.message, letter.nodes, source, now)
        return Heard(letter.nodes)

    def _unreadable(self, source: Source, now: float) -> Heard:
        """Says whose disco that may have been, and opens our own firewall for the handshake that is to follow.

        A path in use is open already; and who forges such disco would have a peer pinged at full size for it.
        """
        known = self._known_at(source, now)
        if known is None or now - known.unreadable_at < UNREADABLE_INTERVAL:
            return Heard()
        known.unreadable_at = now
        if known.endpoint.is_active(now) and known.endpoint.kind is not PathKind.DIRECT:
            known.endpoint.discover(now)
        return Heard((known.peer.node_key,), known.peer.node_key)

    def _known_at(self, source: Source, now: float) -> Known | None:
        """Who may have sent from there. A flood of nonsense is not looked into one by one."""
        if isinstance(source, DerpSource):
            return self._known.get(source.key)
        if (key := self._peer_map.node_at(source.addr)) is not None:
            return self._known.get(key)
        if now - self._unreadable_at < _UNREADABLE_GAP:
            return None
        self._unreadable_at = now
        return next((known for known in self._known.values() if known.endpoint.is_at(source.addr)), None)

    def _handle_message(
        self, message: Message, nodes: tuple[NodePublic, ...], source: Source, now: float
    ) -> None:
        match message, source:
            case Ping(), UdpSource():
                self._handle_ping(message, nodes, source, now)
            case Ping(), DerpSource(region, key):
                pong = Pong(message.tx_id, (DERP_MAGIC_IP, region))
                self.transmits.append(DerpTransmit(region, key, [self._letterbox.seal(pong, key)]))
            case Pong(), _:
                self._handle_pong(message, nodes, source, now)
            case CallMeMaybe(endpoints), DerpSource(_, key):
                self._handle_call_me_maybe(endpoints, key, now)
            case _:
                self._drop("disco_unexpected")

    def _handle_ping(self, ping: Ping, nodes: tuple[NodePublic, ...], source: UdpSource, now: float) -> None:
        """Every node with this disco key may be at the address; the one that the ping names is."""
        addr, socket = source
        deserves = [
            node for node in nodes if self._known[node].endpoint.handle_ping(addr, ping.tx_id, now, socket)
        ]
        if not deserves:
            self._drop("ping")
            return
        if ping.node_key in nodes or len(nodes) == 1:
            self._peer_map.learn_address(addr, ping.node_key if ping.node_key in nodes else nodes[0])
        self.send_udp(addr, self._letterbox.seal(Pong(ping.tx_id, addr), deserves[0]), socket)

    def _handle_pong(self, pong: Pong, nodes: tuple[NodePublic, ...], source: Source, now: float) -> None:
        way = source.addr if isinstance(source, UdpSource) else source.region
        for node in nodes:
            if self._known[node].endpoint.handle_pong(pong.tx_id, way, now):
                if isinstance(source, UdpSource):
                    self._peer_map.learn_address(source.addr, node)
                return
        self._drop("pong")

    def _handle_call_me_maybe(self, endpoints: Sequence[AddrPort], key: NodePublic, now: float) -> None:
        """The peer wants a direct path: if our own mapping may have moved meanwhile, find out, so that it learns."""
        endpoint = self._known[key].endpoint
        if not endpoint.handle_call_me_maybe(endpoints, now):
            self._drop("call_me_maybe")
        elif not self._surroundings.is_fresh(now):
            self._surroundings.check(now)
        is_wanting = endpoint.allows_direct and endpoint.kind is not PathKind.DIRECT
        if is_wanting and self._surroundings.has_easy_nat:
            self._punching.search(key, endpoints, now)

    def _drop(self, reason: str) -> None:
        self._counters[f"magicsock.drop.{reason}"] += 1
