"""Disco packets sealed and sent, opened and attributed to nodes.

A packet under an unknown key is refused unopened. An opened one proves who holds the disco key, not when it
was sent: pings carry transaction ids for that.
"""

from collections.abc import Iterable
from typing import NamedTuple

from coderd.disco import NONCE_SIZE, TX_SIZE, CallMeMaybe, DiscoBox, Message, Ping, Pong, sender_of
from coderd.magicsock.local_network import LocalNetwork
from coderd.magicsock.outbound import Outbound
from coderd.magicsock.peer_map import PeerMap
from coderd.magicsock.peer_state import PeerState
from coderd.magicsock.pings import SendPing
from coderd.model import Buffer, RandomBytes
from coderd.model.addresses import AddrPort
from coderd.model.errors import MalformedPacket
from coderd.model.keys import DiscoPrivate, NodePublic
from coderd.model.transport import DerpSource, SocketId, Source, UdpSource

WRONG_SENDER = "disco_wrong_sender"
"""Drop reason: a relay delivered one peer's disco as another's."""
DERP_MAGIC_IP = "127.3.3.40"
"""Stands for a relay where only an ip:port fits.

The port is the region (Tailscale's ``tailcfg.DerpMagicIP``).
"""


class Opened(NamedTuple):
    """Opened packet: its message, and the nodes that share the disco key which sealed it."""

    message: Message
    nodes: tuple[NodePublic, ...]


class DiscoTransport:
    """One disco key: seals messages to peers, opens theirs.

    Args:
        node_key: this node's, named in every ping.
        disco_key: this process's disco key.
        peer_map: knows the peers' disco keys.
        outbound: takes what is to be sent.
        local_network: knows this node's endpoints and address families.
        rng: for nonces and transaction ids.
    """

    def __init__(
        self,
        *,
        node_key: NodePublic,
        disco_key: DiscoPrivate,
        peer_map: PeerMap,
        outbound: Outbound,
        local_network: LocalNetwork,
        rng: RandomBytes,
    ) -> None:
        self._node_key = node_key
        self._box = DiscoBox(disco_key)
        self._peer_map = peer_map
        self._outbound = outbound
        self._local_network = local_network
        self._rng = rng

    def send_ping(self, ping: SendPing, state: PeerState) -> None:
        """Queues a ping; the endpoint forgets one that no socket can send."""
        packet = self._seal(Ping(ping.tx_id, self._node_key, ping.padding), state.peer.node_key)
        if ping.to is None:
            self._outbound.send_relayed(state, packet)
        elif self._local_network.can_send_to(ping.to):
            self._outbound.send_udp(ping.to, packet, ping.socket)
        else:
            state.endpoint.forget_ping(ping.tx_id)

    def scatter(self, peer: NodePublic, ways: Iterable[tuple[SocketId, AddrPort]]) -> None:
        """Queues one small ping many times over, by socket and address.

        Its answer is the peer's own ping, not a pong.
        """
        packet = self._seal(Ping(self._rng(TX_SIZE), self._node_key, 0), peer)
        for socket, to in ways:
            self._outbound.send_udp(to, packet, socket)

    def send_call_me_maybe(self, state: PeerState, predicted: Iterable[AddrPort]) -> None:
        """Queues a call-me-maybe with this node's endpoints and those predicted for this peer alone."""
        endpoints = (*(addr for addr, _ in self._local_network.endpoints), *predicted)
        if endpoints:
            self._outbound.send_relayed(state, self._seal(CallMeMaybe(endpoints), state.peer.node_key))

    def send_pong(self, tx_id: bytes, to: NodePublic, source: Source) -> None:
        """Queues the answer to a ping, back to where it came from, naming the address that it came from."""
        if isinstance(source, UdpSource):
            self._outbound.send_udp(source.addr, self._seal(Pong(tx_id, source.addr), to), source.socket)
        else:
            self._outbound.answer(source, self._seal(Pong(tx_id, (DERP_MAGIC_IP, source.region)), to))

    def open(self, packet: Buffer, source: Source) -> Opened | str:
        """Opens a packet, or returns the reason to drop it.

        What a relay says of the sender has to fit the seal.
        """
        try:
            nodes = self._peer_map.nodes_of(sender_of(packet))
            if not nodes:
                return "disco_unknown_key"
            if isinstance(source, DerpSource) and source.key not in nodes:
                return WRONG_SENDER
            return Opened(self._box.open(packet)[1], nodes)
        except MalformedPacket:
            return "disco_malformed"

    def _seal(self, message: Message, to: NodePublic) -> bytes:
        disco = self._peer_map.disco_of(to)
        if disco is None:
            raise KeyError(to.short)
        return self._box.seal(message, disco, self._rng(NONCE_SIZE))
