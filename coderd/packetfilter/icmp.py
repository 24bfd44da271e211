"""ICMPv6 (RFC 4443), as far as a filter has to do with it.

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
"""Unreachable, packet too big, time exceeded, parameter problem."""
HEADER_SIZE = 8

_UNREACHABLE, _PROHIBITED = 1, 1
_MAX_QUOTE = 128
"""Bytes of the packet that a refusal quotes: its headers are enough for whoever sent it."""
_IPV6 = struct.Struct(">IHBB16s16s")
_VERSION_6 = 6 << 28


def echo_key(packet: Buffer, at: int) -> bytes:
    """Returns the key of the flow of an echo request or reply whose ICMPv6 header begins at ``at``."""
    return bytes((PROTOCOL_ICMPV6,)) + bytes(packet[at + 4 : at + 6])


def quoted_key(packet: Buffer, at: int) -> bytes | None:
    """Returns the flow key of the packet that an ICMPv6 error quotes; None if it cannot be this node's.

    Args:
        packet: the error, from its IPv6 header on.
        at: where its ICMPv6 header begins.
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
    """Tells the sender of an IPv6 packet.

    Communication with the destination is administratively prohibited.
    """
    quote = bytes(packet[:_MAX_QUOTE])
    source, destination = bytes(packet[24:40]), bytes(packet[8:24])
    body = struct.pack(">BBHI", _UNREACHABLE, _PROHIBITED, 0, 0) + quote
    value = checksum(body, pseudo_header_sum(source + destination, PROTOCOL_ICMPV6, len(body)))
    header = _IPV6.pack(_VERSION_6, len(body), PROTOCOL_ICMPV6, 64, source, destination)
    return header + body[:2] + value.to_bytes(2) + body[4:]
