"""Disco payloads, before they are sealed.

```
offset size
0      1    type
1      1    version, 0
2      ...  body
            0x01 Ping         transaction id (12) | node key (32, may be missing) | zero padding
            0x02 Pong         transaction id (12) | where the ping was seen to come from (18)
            0x03 CallMeMaybe  0..n endpoints (18 each)
            0x04-0x09         between peers and relaying peers: recognised, not spoken here
```
An endpoint is a 16-byte address (IPv4 as ::ffff:a.b.c.d) and a port, big-endian.
"""

from typing import NamedTuple, TypeAlias

from coderd.model import Buffer
from coderd.model.addresses import AddrPort, encode_addr_port, parse_wire_addr_port
from coderd.model.errors import MalformedPacket
from coderd.model.keys import KEY_SIZE, NodePublic

TX_SIZE = 12
ENDPOINT_SIZE = 18
MOST_ENDPOINTS = 128
"""Endpoints that are read of one call-me-maybe.

A relayed packet has room for thousands, and no node has so many.
"""

_VERSION = 0
_PING = 0x01
_PONG = 0x02
_CALL_ME_MAYBE = 0x03
_PEER_RELAY = range(0x04, 0x0A)
_NO_KEY = bytes(KEY_SIZE)


class Ping(NamedTuple):
    """Asks for a pong; may be padded to probe a path's MTU.

    Attributes:
        tx_id: 12 random bytes that name this ping.
        node_key: the sender's; a hint, to be checked against what is known. None is read back as a key of
            zeros once
            the padding reaches 32 bytes.
        padding: zero bytes behind the rest.
    """

    tx_id: bytes
    node_key: NodePublic | None = None
    padding: int = 0


class Pong(NamedTuple):
    """Answers a ping with its id and the address that it was seen to come from."""

    tx_id: bytes
    src: AddrPort


class CallMeMaybe(NamedTuple):
    """By relay: here are all my endpoints, and I have just pinged all of yours, so ping me.

    Empty withdraws them.
    """

    endpoints: tuple[AddrPort, ...]


class PeerRelayMessage(NamedTuple):
    """A message about relaying through peers, which this node neither offers nor uses: for the counters."""

    kind: int
    version: int
    body: bytes


Message: TypeAlias = Ping | Pong | CallMeMaybe | PeerRelayMessage


def encode_message(message: Message) -> bytes:
    """Encodes the payload of a message, at the version that is spoken today."""
    match message:
        case Ping(tx_id, node_key, padding):
            return bytes((_PING, _VERSION)) + _tx(tx_id) + (node_key or b"") + bytes(padding)
        case Pong(tx_id, src):
            return bytes((_PONG, _VERSION)) + _tx(tx_id) + encode_addr_port(src)
        case CallMeMaybe(endpoints):
            return bytes((_CALL_ME_MAYBE, _VERSION)) + b"".join(map(encode_addr_port, endpoints))
        case PeerRelayMessage(kind, version, body):
            return bytes((kind, version)) + body


def parse_message(payload: Buffer) -> Message:
    """Reads an opened payload; what a later version appends is ignored.

    Raises:
        MalformedPacket: too short, or of an unknown type.
    """
    data = bytes(payload)
    if len(data) < 2:
        raise MalformedPacket("disco payload without type and version")
    kind, version, body = data[0], data[1], data[2:]
    if kind == _PING:
        return _parse_ping(body)
    if kind == _PONG:
        return _parse_pong(body)
    if kind == _CALL_ME_MAYBE:
        return _parse_call_me_maybe(version, body)
    if kind in _PEER_RELAY:
        return PeerRelayMessage(kind, version, body)
    raise MalformedPacket(f"disco type 0x{kind:02x} is unknown")


def _tx(tx_id: bytes) -> bytes:
    if len(tx_id) != TX_SIZE:
        raise ValueError(f"a disco transaction id has {TX_SIZE} bytes, not {len(tx_id)}")
    return tx_id


def _parse_ping(body: bytes) -> Ping:
    if len(body) < TX_SIZE:
        raise MalformedPacket("disco ping is cut short")
    tx_id, rest = body[:TX_SIZE], body[TX_SIZE:]
    if len(rest) < KEY_SIZE:
        return Ping(tx_id, None, len(rest))
    key = rest[:KEY_SIZE]
    return Ping(tx_id, NodePublic(key) if key != _NO_KEY else None, len(rest) - KEY_SIZE)


def _parse_pong(body: bytes) -> Pong:
    if len(body) < TX_SIZE + ENDPOINT_SIZE:
        raise MalformedPacket("disco pong is cut short")
    return Pong(body[:TX_SIZE], parse_wire_addr_port(body[TX_SIZE : TX_SIZE + ENDPOINT_SIZE]))


def _parse_call_me_maybe(version: int, body: bytes) -> CallMeMaybe:
    """One that cannot be read is an empty one, not an error: both withdraw what was said before."""
    if version != _VERSION or len(body) % ENDPOINT_SIZE:
        return CallMeMaybe(())
    starts = range(0, min(len(body), MOST_ENDPOINTS * ENDPOINT_SIZE), ENDPOINT_SIZE)
    return CallMeMaybe(tuple(parse_wire_addr_port(body[at : at + ENDPOINT_SIZE]) for at in starts))
