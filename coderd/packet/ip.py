"""The IPv4 and IPv6 headers, as far as a tunnel reads them.

```
IPv4 (RFC 791)                              IPv6 (RFC 8200)
 0  1  version 4, header length in words     0  4  version 6, traffic class, flow label
 1  1  type of service                       4  2  payload length (without these 40 bytes)
 2  2  total length                          6  1  next header
 4  2  identification                        7  1  hop limit
 6  2  flags, fragment offset                8 16  source
 8  1  time to live                         24 16  destination
 9  1  protocol                             40  …  extension headers, payload
10  2  header checksum
12  4  source
16  4  destination
20  …  options, payload
```
"""

import struct
from typing import NamedTuple

from coderd.model import Buffer
from coderd.model.errors import MalformedPacket

PROTOCOL_TCP = 6
PROTOCOL_UDP = 17

IPV4_HEADER_SIZE = 20
IPV6_HEADER_SIZE = 40

_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_LENGTH = struct.Struct(">H")


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


def source_of(packet: Buffer) -> bytes:
    """Returns the packed source address of an IP packet, 4 or 16 bytes. Raises MalformedPacket."""
    version = _version_of(packet)
    return bytes(packet[12:16] if version == 4 else packet[8:24])


def destination_of(packet: Buffer) -> bytes:
    """Returns the packed destination address of an IP packet, 4 or 16 bytes. Raises MalformedPacket."""
    version = _version_of(packet)
    return bytes(packet[16:20] if version == 4 else packet[24:40])


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
