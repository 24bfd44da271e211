"""How a node tells a peer, inside their tunnel, who it is this time: for when the server cannot.

A node that restarts has a new disco key, and until the peer knows it neither can open the other's pings. Normally the
server says so. Where it is gone, WireGuard alone still knows both ends, by keys that outlive every restart: so the two
shake hands over the last known addresses, and the first thing that goes through the new session is this packet.

```
offset  size
     0    40  IPv6 header: from the sender's tailnet address to the receiver's, next header 99, hop limit 1
    40     1  kind: 1
    41    32  the sender's disco key
    73     8  its generation, big-endian
```
It is as authentic, fresh and secret as any packet of the tunnel, and says nothing but what the sender may decide about
itself. It never reaches the hosts: the data plane keeps it.
"""

import struct
from ipaddress import IPv6Address
from typing import NamedTuple

from coderd.model import Buffer
from coderd.model.keys import DiscoPublic, NodePublic

NEXT_HEADER = 99
"""IANA: any private encryption scheme. No host opens a socket on it by mistake."""
_KIND = 1
_HEADER = struct.Struct(">IHBB16s16s")
_BODY = struct.Struct(">B32sQ")
_VERSION_6 = 6 << 28
SIZE = _HEADER.size + _BODY.size


class Introduced(NamedTuple):
    """A peer said who it is this time."""

    peer: NodePublic
    disco_key: DiscoPublic
    generation: int


def encode_introduction(
    source: IPv6Address, destination: IPv6Address, disco_key: DiscoPublic, generation: int
) -> bytes:
    """The packet, ready to be sealed."""
    header = _HEADER.pack(_VERSION_6, _BODY.size, NEXT_HEADER, 1, source.packed, destination.packed)
    return header + _BODY.pack(_KIND, bytes(disco_key), generation)


def is_introduction(packet: Buffer) -> bool:
    """Whether an inner packet is meant for the daemon, well made or not; quick, as every lone packet is asked."""
    return len(packet) > _HEADER.size and packet[6] == NEXT_HEADER and packet[0] >> 4 == 6


def parse_introduction(peer: NodePublic, packet: Buffer) -> Introduced | None:
    """Reads one whose source WireGuard has checked; None for anything that is not quite one."""
    if len(packet) != SIZE or not is_introduction(packet):
        return None
    kind, key, generation = _BODY.unpack_from(packet, _HEADER.size)
    return Introduced(peer, DiscoPublic(key), generation) if kind == _KIND else None
