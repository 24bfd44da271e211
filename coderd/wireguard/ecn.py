"""What of an IP header's service byte crosses the tunnel's wall: congestion, both ways, and nothing else (RFC 6040).

```
 out   inner Not-ECT, ECT(0), ECT(1)   the same outside            inner CE   ECT(0) outside
 in    outer CE                        inner ECT(0), ECT(1) -> CE; inner Not-ECT stays, as its sender would not understand
```
The DSCP never leaves: it would tell the network what is inside. Handshakes are sent with one of their own, as the
kernel's WireGuard does, lest they be lost in the traffic that they keep alive. The segments of one TUN read share their
headers, so a batch has one mark, and asking for it costs once per read.
"""

import struct

from coderd.model import Buffer

HANDSHAKE_TOS = 0x88
"""DSCP AF41, not ECN-capable."""
CE = 3
_ECT_0 = 2
_OUTSIDE = (0, 1, _ECT_0, _ECT_0)

_WORD = struct.Struct(">H")
_CHECKSUM_AT = 10


def ecn_of(packet: Buffer) -> int:
    """The ECN bits of an IPv4 or IPv6 packet; of nothing (a keepalive) none."""
    if not packet:
        return 0
    return packet[1] & 3 if packet[0] >> 4 == 4 else packet[1] >> 4 & 3


def outer_tos(packet: Buffer) -> int:
    """The service byte for the datagram that carries a packet."""
    return _OUTSIDE[ecn_of(packet)]


def with_congestion(packet: Buffer) -> Buffer:
    """A packet that came in a datagram marked as having met congestion: marked so too, if it is ECN-capable."""
    if ecn_of(packet) in (0, CE):
        return packet
    marked = bytearray(packet)
    if packet[0] >> 4 != 4:
        marked[1] |= CE << 4
        return marked
    marked[1] |= CE
    (checksum,) = _WORD.unpack_from(packet, _CHECKSUM_AT)
    total = (
        (checksum ^ 0xFFFF) + (packet[1] ^ 0xFFFF) + marked[1]
    )  # RFC 1624: the word's other byte has not changed
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    _WORD.pack_into(marked, _CHECKSUM_AT, total ^ 0xFFFF)
    return marked
