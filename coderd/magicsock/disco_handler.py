"""What becomes of disco packets that arrive.

Pings answered, pongs and call-me-maybes given to the endpoints.
"""

from collections.abc import Sequence
from typing import NamedTuple

from coderd.disco import CallMeMaybe, Message, Ping, Pong
from coderd.magicsock.disco_transport import WRONG_SENDER, DiscoTransport
from coderd.magicsock.local_network import LocalNetwork
from coderd.magicsock.peer_map import PeerMap
from coderd.magicsock.peer_state import PeerState
from coderd.magicsock.peers import Peers
from coderd.magicsock.punching import Punching
from coderd.metrics import Counters
from coderd.model import Buffer
from coderd.model.addresses import AddrPort
from coderd.model.keys import NodePublic
from coderd.model.paths import PathKind
from coderd.model.transport import DerpSource, Source, UdpSource

UNREADABLE_INTERVAL = 1.0
"""Seconds between two reports that one peer's disco cannot be read."""

_UNREADABLE_GAP = 0.05
"""Least seconds between two searches of all peers for the sender of unreadable disco."""
_PONG_SIZE = 110
"""Bytes of a pong: overhead 78, message 32.

A smaller ping gets none; a smaller unreadable packet was no ping or pong.
"""


class Heard(NamedTuple):
    """Result of one packet: the nodes with news, and the node that unreadable disco may be from."""

    nodes: tuple[NodePublic, ...] = ()
    unreadable: NodePublic | None = None


class DiscoHandler:
    """Receiver of disco packets.

    Args:
        transport: opens packets and sends pongs.
        peers: takes what they say.
        peer_map: learns at which addresses they are.
        local_network: is checked again when a peer wants a direct path.
        punching: searches for the ports of peers behind hard NATs.
        counters: ``magicsock.drop.*`` are counted here.
    """

    def __init__(
        self,
        *,
        transport: DiscoTransport,
        peers: Peers,
        peer_map: PeerMap,
        local_network: LocalNetwork,
        punching: Punching,
        counters: Counters,
    ) -> None:
        self._transport = transport
        self._peers = peers
        self._peer_map = peer_map
        self._local_network = local_network
        self._punching = punching
        self._counters = counters
        self._searched_at = float("-inf")

    def handle(self, packet: Buffer, source: Source, now: float) -> Heard:
        """Opens a packet and acts on it. What is invalid is dropped and counted."""
        opened = self._transport.open(packet, source)
        if isinstance(opened, str):
            self._drop(opened)
            is_hint = opened != WRONG_SENDER and len(packet) >= _PONG_SIZE
            return self._handle_unreadable(source, now) if is_hint else Heard()
        if isinstance(opened.message, Ping) and len(packet) < _PONG_SIZE:
            self._drop("ping_small")
            return Heard()
        self._handle_message(opened.message, opened.nodes, source, now)
        return Heard(opened.nodes)

    def _handle_unreadable(self, source: Source, now: float) -> Heard:
        """Names the peer that may have sent it, and opens this node's firewall for its handshake.

        A direct path is open already: forged disco must not have a peer on one pinged at full size.
        """
        state = self._peer_at(source, now)
        if state is None or now - state.unreadable_at < UNREADABLE_INTERVAL:
            return Heard()
        state.unreadable_at = now
        if state.endpoint.is_active(now) and state.endpoint.kind is not PathKind.DIRECT:
            state.endpoint.discover(now)
        return Heard((state.peer.node_key,), state.peer.node_key)

    def _peer_at(self, source: Source, now: float) -> PeerState | None:
        """Returns who may have sent from there. A flood of nonsense is not looked into one by one."""
        if isinstance(source, DerpSource):
            return self._peers.get(source.key)
        if (key := self._peer_map.node_at(source.addr)) is not None:
            return self._peers.get(key)
        if now - self._searched_at < _UNREADABLE_GAP:
            return None
        self._searched_at = now
        return next((state for state in self._peers if state.endpoint.is_at(source.addr)), None)

    def _handle_message(
        self, message: Message, nodes: tuple[NodePublic, ...], source: Source, now: float
    ) -> None:
        match message, source:
            case Ping(), UdpSource():
                self._handle_ping(message, nodes, source, now)
            case Ping(), DerpSource(_, key):
                self._transport.send_pong(message.tx_id, key, source)
            case Pong(), _:
                self._handle_pong(message, nodes, source, now)
            case CallMeMaybe(endpoints), DerpSource(_, key):
                self._handle_call_me_maybe(endpoints, key, now)
            case _:
                self._drop("disco_unexpected")

    def _handle_ping(self, ping: Ping, nodes: tuple[NodePublic, ...], source: UdpSource, now: float) -> None:
        """Every node with this disco key may be at the address; the one that the ping names is."""
        addr, socket = source.addr, source.socket
        deserving = [
            node for node in nodes if self._peers[node].endpoint.handle_ping(addr, ping.tx_id, now, socket)
        ]
        if not deserving:
            self._drop("ping")
            return
        if ping.node_key in nodes or len(nodes) == 1:
            self._peer_map.learn_address(addr, ping.node_key if ping.node_key in nodes else nodes[0])
        self._transport.send_pong(ping.tx_id, deserving[0], source)

    def _handle_pong(self, pong: Pong, nodes: tuple[NodePublic, ...], source: Source, now: float) -> None:
        way = source.addr if isinstance(source, UdpSource) else source.region
        for node in nodes:
            if self._peers[node].endpoint.handle_pong(pong.tx_id, way, now):
                if isinstance(source, UdpSource):
                    self._peer_map.learn_address(source.addr, node)
                return
        self._drop("pong")

    def _handle_call_me_maybe(self, endpoints: Sequence[AddrPort], key: NodePublic, now: float) -> None:
        """The peer wants a direct path.

        If our own mapping may have moved meanwhile, looks, so that the peer learns it.
        """
        endpoint = self._peers[key].endpoint
        if not endpoint.handle_call_me_maybe(endpoints, now):
            self._drop("call_me_maybe")
        elif not self._local_network.is_fresh(now):
            self._local_network.check(now)
        is_wanting = endpoint.allows_direct and endpoint.kind is not PathKind.DIRECT
        if is_wanting and self._local_network.has_easy_nat:
            self._punching.search(key, endpoints, now)

    def _drop(self, reason: str) -> None:
        self._counters[f"magicsock.drop.{reason}"] += 1
