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

from coderd.model import Buffer
from coderd.model.errors import MalformedPacket

PROTOCOL_TCP = 6
PROTOCOL_UDP = 17

IPV4_HEADER_SIZE = 20
IPV6_HEADER_SIZE = 40

_LENGTH = struct.Struct(">H")


def source_of(packet: Buffer) -> bytes:
    """Returns the packed source address of an IP packet, 4 or 16 bytes. Raises MalformedPacket."""
    version = _version_of(packet)
    return bytes(packet[12:16] if version == 4 else packet[8:24])


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
