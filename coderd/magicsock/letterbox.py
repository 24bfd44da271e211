"""Disco packets sealed and opened, and who is behind them.

A stranger's packet is refused unopened. An opened one proves who holds the disco key, not when it was sent: pings carry ids.
"""

from typing import NamedTuple

from coderd.disco import DiscoBox, Message, sender_of
from coderd.magicsock.peer_map import PeerMap
from coderd.model import Buffer, RandomBytes
from coderd.model.errors import MalformedPacket
from coderd.model.keys import DiscoPrivate, NodePublic
from coderd.model.transport import DerpSource, Source

WRONG_SENDER = "disco_wrong_sender"
"""A relay delivered one peer's disco as another's."""

_NONCE_SIZE = 24


class Letter(NamedTuple):
    """An opened packet: what it says, and the nodes whose disco key sealed it."""

    message: Message
    nodes: tuple[NodePublic, ...]


class Letterbox:
    """One node's disco key, and the peers that it corresponds with.

    Args:
        private: this start's disco key.
        peers: names of those who may write.
        rng: for nonces.
    """

    def __init__(self, private: DiscoPrivate, peers: PeerMap, rng: RandomBytes) -> None:
        self._box = DiscoBox(private)
        self._peers = peers
        self._rng = rng

    def seal(self, message: Message, to: NodePublic) -> bytes:
        """The packet for a peer. Raises KeyError for one that is not known."""
        disco = self._peers.disco_of(to)
        if disco is None:
            raise KeyError(to.short)
        return self._box.seal(message, disco, self._rng(_NONCE_SIZE))

    def open(self, packet: Buffer, source: Source) -> Letter | str:
        """Opens a packet, or says in a word why it is dropped. A relay's word on its sender has to fit the seal."""
        try:
            nodes = self._peers.nodes_of(sender_of(packet))
            if not nodes:
                return "disco_unknown_key"
            if isinstance(source, DerpSource) and source.key not in nodes:
                return WRONG_SENDER
            return Letter(self._box.open(packet)[1], nodes)
        except MalformedPacket:
            return "disco_malformed"
