"""Parsers of IP, TCP and UDP headers, and Internet checksums. Pure; parsers raise only ``MalformedPacket``.

ip          version, addresses, length; the IPv4 and IPv6 headers
transport   the TCP and UDP headers
checksum    RFC 1071 sums: of one buffer, and of all segments of a super-packet in one vectorised pass
"""

from coderd.packet.checksum import checksum, ones_sum, pseudo_header_sum
from coderd.packet.ip import (
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    IPv4Header,
    IPv6Header,
    destination_of,
    length_of,
    parse_ip,
    source_of,
)
from coderd.packet.transport import TcpHeader, UdpHeader, parse_tcp, parse_udp

__all__ = [
    "PROTOCOL_TCP",
    "PROTOCOL_UDP",
    "IPv4Header",
    "IPv6Header",
    "TcpHeader",
    "UdpHeader",
    "checksum",
    "destination_of",
    "length_of",
    "ones_sum",
    "parse_ip",
    "parse_tcp",
    "parse_udp",
    "pseudo_header_sum",
    "source_of",
]
