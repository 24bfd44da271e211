"""ECN across the tunnel: of an IP header's service byte only the congestion bits are copied, out and in.

```
 out   inner Not-ECT, ECT(0), ECT(1)   the same outside            inner CE   ECT(0) outside
 in    outer CE                        inner ECT(0), ECT(1) -> CE; inner Not-ECT stays
```
These are the rules of the kernel's WireGuard: RFC 3168 §9.1.1, full functionality, except that a Not-ECT
packet in a datagram marked CE is kept rather than dropped. The DSCP is not copied: it would tell the network
what is inside. Handshakes have a DSCP of their own, so that the traffic that depends on them does not crowd
them out. The segments of one TUN read share their headers, so the service byte is computed once per read.
"""

import struct

from coderd.model import Buffer

HANDSHAKE_TOS = 0x88
"""Service byte of handshake datagrams, as of the kernel's WireGuard: DSCP AF41, not ECN-capable."""
CE = 3
_ECT_0 = 2
_OUTSIDE = (0, 1, _ECT_0, _ECT_0)

_WORD = struct.Struct(">H")
_CHECKSUM_AT = 10


def ecn_of(packet: Buffer) -> int:
    """Returns the two ECN bits of an IPv4 or IPv6 packet; 0 for an empty packet (a keepalive)."""
    if not packet:
        return 0
    return packet[1] & 3 if packet[0] >> 4 == 4 else packet[1] >> 4 & 3


def outer_tos(packet: Buffer) -> int:
    """Returns the service byte of the datagram that carries a packet: its ECN bits, with ECT(0) for CE."""
    return _OUTSIDE[ecn_of(packet)]


def with_congestion(packet: Buffer) -> Buffer:
    """Marks a packet CE if it is ECN-capable, as it came in a datagram marked CE; returns others unchanged.

    The IPv4 header checksum is updated (RFC 1624).
    """
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
