"""Introductions: packets between the daemons of two nodes, inside their tunnel.

They carry the keys of a node's present start, and the secret that authenticates its connections.

A node that restarts has a new disco key, and until the peer knows it neither can open the other's pings.
Normally the server announces it. Without a server, WireGuard still knows both ends by keys that outlive every
restart: the two make a handshake over the last known addresses, and the first packet of the new session is
this one.

```
offset  size
     0    40  IPv6 header: from the sender's tailnet address to the receiver's, next header 99, hop limit 1
     40     1  kind: 1 an introduction, 2 a secret, 3 its acknowledgement, 4 a question for the secret
    41     .  1: the sender's disco key (32), its generation (8, big-endian)
              2: its generation (8, big-endian), the secret that connections through its daemon show (32)
              3: 8 bytes of a hash of the secret received
              4: nothing
```

An introduction is as authentic, fresh and secret as any packet of the tunnel, and states only what the sender
may decide about itself. The data plane never passes it to the host, nor takes one from it. Nodes of earlier
releases know kind 1 alone, and drop the others. For the secret see ``tunnel_secrets``.
"""

import struct
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import NamedTuple, TypeAlias

from coderd.model import Buffer
from coderd.model.keys import DiscoPublic, NodePublic

NEXT_HEADER = 99
"""IANA: any private encryption scheme. No host opens a socket on it by mistake."""
_INTRODUCTION, _SECRET, _ACKNOWLEDGEMENT, _QUESTION = 1, 2, 3, 4
_HEADER = struct.Struct(">IHBB16s16s")
_INTRODUCTION_BODY = struct.Struct(">B32sQ")
_SECRET_BODY = struct.Struct(">BQ32s")
_ACKNOWLEDGEMENT_BODY = struct.Struct(">B8s")
_SIZES = {
    _INTRODUCTION: _INTRODUCTION_BODY.size,
    _SECRET: _SECRET_BODY.size,
    _ACKNOWLEDGEMENT: _ACKNOWLEDGEMENT_BODY.size,
    _QUESTION: 1,
}
_VERSION_6 = 6 << 28
SIZE = _HEADER.size + _INTRODUCTION_BODY.size


class Introduced(NamedTuple):
    """Peer's own word on its present start: disco key and generation."""

    peer: NodePublic
    disco_key: DiscoPublic
    generation: int


@dataclass(frozen=True, slots=True)
class SecretTold:
    """Peer's secret, which connections from its daemon show."""

    peer: NodePublic
    generation: int
    secret: bytes = field(repr=False)


class SecretAcknowledged(NamedTuple):
    """Peer's acknowledgement of a secret, by part of its hash."""

    peer: NodePublic
    digest: bytes


class SecretWanted(NamedTuple):
    """Peer's request for this node's secret."""

    peer: NodePublic


Said: TypeAlias = Introduced | SecretTold | SecretAcknowledged | SecretWanted


def encode_introduction(
    source: IPv6Address, destination: IPv6Address, disco_key: DiscoPublic, generation: int
) -> bytes:
    """Returns the inner packet of an introduction."""
    return encode_packet(
        source, destination, _INTRODUCTION_BODY.pack(_INTRODUCTION, bytes(disco_key), generation)
    )


def encode_packet(source: IPv6Address, destination: IPv6Address, body: bytes) -> bytes:
    """Returns the inner packet that carries a body between daemons."""
    return _HEADER.pack(_VERSION_6, len(body), NEXT_HEADER, 1, source.packed, destination.packed) + body


def tell_secret(generation: int, secret: bytes) -> bytes:
    """Returns the body that sends a secret of 32 bytes."""
    return _SECRET_BODY.pack(_SECRET, generation, secret)


def acknowledge_secret(digest: bytes) -> bytes:
    """Returns the body that acknowledges a secret by 8 bytes of its hash."""
    return _ACKNOWLEDGEMENT_BODY.pack(_ACKNOWLEDGEMENT, digest)


def want_secret() -> bytes:
    """Returns the body that asks for the peer's secret."""
    return bytes([_QUESTION])


def is_introduction(packet: Buffer) -> bool:
    """Returns whether an inner packet, valid or not, is for the daemon. Called for each single packet."""
    return len(packet) > _HEADER.size and packet[6] == NEXT_HEADER and packet[0] >> 4 == 6


def parse_introduction(peer: NodePublic, packet: Buffer) -> Said | None:
    """Parses a packet between daemons whose source WireGuard has checked; returns None for an invalid one."""
    if not is_introduction(packet):
        return None
    kind = packet[_HEADER.size]
    if len(packet) - _HEADER.size != _SIZES.get(kind):
        return None
    if kind == _INTRODUCTION:
        _, key, generation = _INTRODUCTION_BODY.unpack_from(packet, _HEADER.size)
        return Introduced(peer, DiscoPublic(key), generation)
    if kind == _SECRET:
        _, generation, secret = _SECRET_BODY.unpack_from(packet, _HEADER.size)
        return SecretTold(peer, generation, secret)
    if kind == _ACKNOWLEDGEMENT:
        _, digest = _ACKNOWLEDGEMENT_BODY.unpack_from(packet, _HEADER.size)
        return SecretAcknowledged(peer, digest)
    return SecretWanted(peer)
