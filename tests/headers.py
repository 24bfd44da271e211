"""Whole IP, TCP and UDP headers, read in the plain way.

What the program's own short cuts are compared with.
"""

import struct
from typing import NamedTuple

from coderd.model import Buffer
from coderd.model.errors import MalformedPacket
from coderd.packet.ip import IPV4_HEADER_SIZE, IPV6_HEADER_SIZE
from coderd.packet.transport import TCP_HEADER_SIZE, UDP_HEADER_SIZE, tcp_header_length

_LENGTH = struct.Struct(">H")
_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_TCP = struct.Struct(">HHIIBBHHH")
_UDP = struct.Struct(">HHHH")


def length_of(packet: Buffer) -> int:
    """Returns the length of an IP packet by its header, in bytes; bytes of the buffer behind it are padding.

    Raises: MalformedPacket, also where the buffer is shorter than that or the length does not cover the fixed
        header.
    """
    version = _version_of(packet)
    length: int = (
        _LENGTH.unpack_from(packet, 2)[0]
        if version == 4
        else IPV6_HEADER_SIZE + _LENGTH.unpack_from(packet, 4)[0]
    )
    if not (IPV4_HEADER_SIZE if version == 4 else IPV6_HEADER_SIZE) <= length <= len(packet):
        raise MalformedPacket(f"an IP packet that claims {length} of {len(packet)} bytes")
    return length


def source_of(packet: Buffer) -> bytes:
    """Returns the packed source address of an IP packet, 4 or 16 bytes. Raises MalformedPacket."""
    version = _version_of(packet)
    return bytes(packet[12:16] if version == 4 else packet[8:24])


class IPv4Header(NamedTuple):
    """An IPv4 header (RFC 791) without its options.

    Attributes:
        header_length: in bytes, 20..60: where the payload begins.
        tos: type of service.
        total_length: header and payload, in bytes; at most the buffer's length.
        identification: fragments of one packet share it.
        fragment: the three flag bits and the fragment offset, as on the wire.
        ttl: hops left.
        protocol: the payload's protocol number, such as ``PROTOCOL_TCP``.
        checksum: as read, not verified.
        source: 4 bytes.
        destination: 4 bytes.
    """

    header_length: int
    tos: int
    total_length: int
    identification: int
    fragment: int
    ttl: int
    protocol: int
    checksum: int
    source: bytes
    destination: bytes


class IPv6Header(NamedTuple):
    """An IPv6 header (RFC 8200) without extension headers.

    Attributes:
        traffic_class: 8 bits.
        flow_label: 20 bits.
        total_length: header and payload, in bytes; at most the buffer's length.
        protocol: the next header, perhaps an extension.
        ttl: the hop limit.
        source: 16 bytes.
        destination: 16 bytes.
    """

    traffic_class: int
    flow_label: int
    total_length: int
    protocol: int
    ttl: int
    source: bytes
    destination: bytes

    @property
    def header_length(self) -> int:
        """Offset in bytes of the extension headers or the payload: 40."""
        return IPV6_HEADER_SIZE


def destination_of(packet: Buffer) -> bytes:
    """Returns the packed destination address of an IP packet, 4 or 16 bytes. Raises MalformedPacket."""
    length_of(packet)
    version = packet[0] >> 4
    return bytes(packet[16:20] if version == 4 else packet[24:40])


def parse_ip(packet: Buffer) -> IPv4Header | IPv6Header:
    """Parses the IPv4 or IPv6 header at the start of a packet. Raises MalformedPacket."""
    total_length = length_of(packet)
    if packet[0] >> 4 == 4:
        return _parse_ipv4(packet, total_length)
    first, _, protocol, ttl, source, destination = _IPV6.unpack_from(packet)
    return IPv6Header(first >> 20 & 0xFF, first & 0xFFFFF, total_length, protocol, ttl, source, destination)


def _parse_ipv4(packet: Buffer, total_length: int) -> IPv4Header:
    first, tos, _, identification, fragment, ttl, protocol, check, source, destination = _IPV4.unpack_from(
        packet
    )
    header_length = (first & 0x0F) * 4
    if not IPV4_HEADER_SIZE <= header_length <= total_length:
        raise MalformedPacket(f"an IPv4 header of {header_length} in a packet of {total_length} bytes")
    return IPv4Header(
        header_length,
        tos,
        total_length,
        identification,
        fragment,
        ttl,
        protocol,
        check,
        source,
        destination,
    )


class TcpHeader(NamedTuple):
    """A TCP header (RFC 9293) without its options.

    ``header_length`` is in bytes, options included: 20..60.
    """

    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    header_length: int
    flags: int
    window: int
    checksum: int
    urgent: int


class UdpHeader(NamedTuple):
    """A UDP header (RFC 768). ``length`` counts header and payload, in bytes."""

    source_port: int
    destination_port: int
    length: int
    checksum: int


def parse_tcp(segment: Buffer) -> TcpHeader:
    """Parses the TCP header at the start of a segment. Raises MalformedPacket."""
    if len(segment) < TCP_HEADER_SIZE:
        raise MalformedPacket(f"a TCP segment of {len(segment)} bytes")
    source, destination, sequence, acknowledgement, words, flags, window, check, urgent = _TCP.unpack_from(
        segment
    )
    header_length = tcp_header_length(words)
    if not TCP_HEADER_SIZE <= header_length <= len(segment):
        raise MalformedPacket(f"a TCP header of {header_length} in {len(segment)} bytes")
    return TcpHeader(
        source, destination, sequence, acknowledgement, header_length, flags, window, check, urgent
    )


def parse_udp(datagram: Buffer) -> UdpHeader:
    """Parses the UDP header at the start of a datagram. Raises MalformedPacket."""
    if len(datagram) < UDP_HEADER_SIZE:
        raise MalformedPacket(f"a UDP datagram of {len(datagram)} bytes")
    header = UdpHeader(*_UDP.unpack_from(datagram))
    if not UDP_HEADER_SIZE <= header.length <= len(datagram):
        raise MalformedPacket(f"a UDP datagram that claims {header.length} of {len(datagram)} bytes")
    return header


def _version_of(packet: Buffer) -> int:
    """Returns 4 or 6.

    Raises MalformedPacket on another version, or if the buffer is shorter than the fixed header.
    """
    if not packet:
        raise MalformedPacket("an empty packet")
    version = packet[0] >> 4
    if (version == 4 and len(packet) >= IPV4_HEADER_SIZE) or (
        version == 6 and len(packet) >= IPV6_HEADER_SIZE
    ):
        return version
    raise MalformedPacket(f"{len(packet)} bytes of IP version {version}")
