"""ICMPv6 (RFC 4443) for a packet filter: keys of flows out of echoes and quoted packets, and the refusal.

```
 0  1  type: 1..4 errors, 128 echo request, 129 echo reply      errors: 8  ...  as much of the packet as fits
 1  1  code                                                     echo:   4  2   identifier
 2  2  checksum                                                         6  2   sequence number
```
"""

import struct

from coderd.model import Buffer
from coderd.packet import PROTOCOL_TCP, PROTOCOL_UDP, checksum, pseudo_header_sum
from coderd.packet.ip import IPV6_HEADER_SIZE

PROTOCOL_ICMPV6 = 58
ECHO_REQUEST = 128
ECHO_REPLY = 129
ERRORS = frozenset({1, 2, 3, 4})
"""ICMPv6 error types: unreachable, packet too big, time exceeded, parameter problem (RFC 4443, 3)."""
HEADER_SIZE = 8

_UNREACHABLE, _PROHIBITED = 1, 1
_MAX_QUOTE = 128
"""Bytes of the refused packet that an ICMPv6 error quotes: its headers, by which the sender finds the
socket."""
_IPV6 = struct.Struct(">IHBB16s16s")
_VERSION_6 = 6 << 28


def echo_key(packet: Buffer, at: int) -> bytes:
    """Returns the flow key of an echo request or reply; its ICMPv6 header begins at offset ``at``."""
    return bytes((PROTOCOL_ICMPV6,)) + bytes(packet[at + 4 : at + 6])


def quoted_key(packet: Buffer, at: int) -> bytes | None:
    """Returns the flow key of the packet that an ICMPv6 error quotes; None if this node cannot have sent it.

    Args:
        packet: the error, from its IPv6 header on.
        at: offset of its ICMPv6 header.
    """
    quote = bytes(packet[at + HEADER_SIZE : at + HEADER_SIZE + IPV6_HEADER_SIZE + HEADER_SIZE])
    if len(quote) < IPV6_HEADER_SIZE + HEADER_SIZE or quote[0] >> 4 != 6:
        return None
    if quote[8:24] != packet[24:40] or quote[24:40] != packet[8:24]:
        return None
    protocol = quote[6]
    if protocol in (PROTOCOL_TCP, PROTOCOL_UDP):
        return quote[6:7] + quote[40:44]
    if protocol == PROTOCOL_ICMPV6 and quote[40] == ECHO_REQUEST:
        return echo_key(quote, IPV6_HEADER_SIZE)
    return None


def encode_refusal(packet: Buffer) -> bytes:
    """Encodes the ICMPv6 error "administratively prohibited" (RFC 4443, 3.1) for a packet's sender."""
    quote = bytes(packet[:_MAX_QUOTE])
    source, destination = bytes(packet[24:40]), bytes(packet[8:24])
    body = struct.pack(">BBHI", _UNREACHABLE, _PROHIBITED, 0, 0) + quote
    value = checksum(body, pseudo_header_sum(source + destination, PROTOCOL_ICMPV6, len(body)))
    header = _IPV6.pack(_VERSION_6, len(body), PROTOCOL_ICMPV6, 64, source, destination)
    return header + body[:2] + value.to_bytes(2) + body[4:]
