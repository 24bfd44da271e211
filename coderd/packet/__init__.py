"""Layouts of IP, TCP and UDP headers, and Internet checksums. Pure.

ip          sizes and protocol numbers of the IPv4 and IPv6 headers
transport   sizes and flags of the TCP and UDP headers
checksum    RFC 1071 sums: of one buffer, and of all segments of a super-packet in one vectorised pass
"""

from coderd.packet.checksum import checksum, ones_sum, pseudo_header_sum
from coderd.packet.ip import (
    PROTOCOL_TCP,
    PROTOCOL_UDP,
)

__all__ = [
    "PROTOCOL_TCP",
    "PROTOCOL_UDP",
    "checksum",
    "ones_sum",
    "pseudo_header_sum",
]
