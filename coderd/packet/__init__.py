"""IP, TCP and UDP headers as far as a tunnel reads them, and Internet checksums. Pure.

Parsers raise only ``MalformedPacket``.

ip          source address and length of an IPv4 or IPv6 packet
transport   sizes and flags of the TCP and UDP headers
checksum    RFC 1071 sums: of one buffer, and of all segments of a super-packet in one vectorised pass
"""

from coderd.packet.checksum import checksum, ones_sum, pseudo_header_sum
from coderd.packet.ip import (
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    length_of,
    source_of,
)

__all__ = [
    "PROTOCOL_TCP",
    "PROTOCOL_UDP",
    "checksum",
    "length_of",
    "ones_sum",
    "pseudo_header_sum",
    "source_of",
]
