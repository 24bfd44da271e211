"""The disco packet: a payload in a NaCl box, recognisable among WireGuard and STUN on one socket.

```
offset size
0      6    magic "TS" U+1F4AC
6      32   sender's disco public key
38     24   nonce, random per packet
62     16   tag, then the encrypted payload
```
The outer header names no receiver and no version, and nothing here detects a replay: pings and pongs carry
ids.
"""

from collections import OrderedDict
from hashlib import blake2s

from nacl.bindings import crypto_box_afternm, crypto_box_beforenm, crypto_box_open_afternm
from nacl.exceptions import CryptoError

from coderd.disco.message import Message, encode_message, parse_message
from coderd.model import Buffer
from coderd.model.errors import MalformedPacket
from coderd.model.keys import KEY_SIZE, DiscoPrivate, DiscoPublic

MAGIC = b"TS\xf0\x9f\x92\xac"
NONCE_SIZE = 24
TAG_SIZE = 16
HEADER_SIZE = len(MAGIC) + KEY_SIZE + NONCE_SIZE
"""Before the box: 62 bytes."""
PACKET_OVERHEAD = HEADER_SIZE + TAG_SIZE
"""A packet is this much longer than its payload: 78 bytes."""

_SENDER = slice(len(MAGIC), len(MAGIC) + KEY_SIZE)
_RECOGNISED_SIZE = len(MAGIC) + KEY_SIZE
_CACHE_SIZE = 1024


def looks_like_disco(datagram: Buffer) -> bool:
    """Returns whether a datagram is disco's.

    Such a one is never given to WireGuard, even if it does not open.
    """
    return len(datagram) >= _RECOGNISED_SIZE and datagram[:6] == MAGIC


def sender_of(packet: Buffer) -> DiscoPublic:
    """Returns the disco key that a packet claims to be from.

    Look it up before opening: an unknown one is not worth an X25519.

    Raises:
        MalformedPacket: not a disco packet.
    """
    if not looks_like_disco(packet):
        raise MalformedPacket("not a disco packet")
    return DiscoPublic(bytes(packet[_SENDER]))


class DiscoBox:
    """Seals and opens the packets of one disco key; the keys shared with peers are computed once and kept.

    Args:
        private: this node's disco key of this start.
        cache_size: shared keys kept, the longest unused goes first.
    """

    def __init__(self, private: DiscoPrivate, *, cache_size: int = _CACHE_SIZE) -> None:
        self._private = private
        self._public = private.public()
        self._shared: OrderedDict[DiscoPublic, bytes] = OrderedDict()
        self._cache_size = cache_size

    @property
    def public(self) -> DiscoPublic:
        """The key that peers know this node by."""
        return self._public

    def seal(self, message: Message, to: DiscoPublic, nonce: bytes) -> bytes:
        """Seals a message into a whole packet for one peer.

        ``nonce``: 24 random bytes, new for each packet.
        """
        sealed = crypto_box_afternm(encode_message(message), nonce, self._shared_key(to))
        return MAGIC + self._public + nonce + sealed

    def open(self, packet: Buffer) -> tuple[DiscoPublic, Message]:
        """Opens a packet. That it opens proves the sender's disco key, and no more.

        Raises:
            MalformedPacket: not disco, not for this key (frequent and harmless after a restart), or not
                readable.
        """
        sender = sender_of(packet)
        data = bytes(packet)
        if len(data) < PACKET_OVERHEAD:
            raise MalformedPacket("disco packet without a box")
        nonce = data[_SENDER.stop : HEADER_SIZE]
        try:
            payload = crypto_box_open_afternm(data[HEADER_SIZE:], nonce, self._shared_key(sender))
        except CryptoError:
            raise MalformedPacket("disco packet does not open") from None
        return sender, parse_message(payload)

    def _shared_key(self, peer: DiscoPublic) -> bytes:
        if (key := self._shared.get(peer)) is not None:
            self._shared.move_to_end(peer)
            return key
        key = self._shared[peer] = self._agree(peer)
        if len(self._shared) > self._cache_size:
            self._shared.popitem(last=False)
        return key

    def _agree(self, peer: DiscoPublic) -> bytes:
        """Returns the shared key (X25519 and HSalsa20).

        A peer key of small order has the same shared key with everyone, so a key is derived from the private
        key instead.
        """
        try:
            return crypto_box_beforenm(peer, self._private.raw)
        except CryptoError:
            return blake2s(peer, key=self._private.raw).digest()
