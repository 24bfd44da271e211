"""The TCP and UDP headers.

```
TCP (RFC 9293)                              UDP (RFC 768)
 0  4  source port, destination port         0  4  source port, destination port
 4  4  sequence number                       4  2  length: header and payload
 8  4  acknowledgement number                6  2  checksum; 0 is "none"
12  1  header length in words, reserved      8  …  payload
13  1  flags CWR ECE URG ACK PSH RST SYN FIN
14  2  window
16  2  checksum
18  2  urgent pointer
20  …  options, payload
```
"""

import struct
from typing import NamedTuple

from coderd.model import Buffer
from coderd.model.errors import MalformedPacket

TCP_HEADER_SIZE = 20
UDP_HEADER_SIZE = 8

TCP_FIN = 0x01
TCP_SYN = 0x02
TCP_RST = 0x04
TCP_PSH = 0x08
TCP_ACK = 0x10
TCP_CWR = 0x80

_TCP = struct.Struct(">HHIIBBHHH")
_UDP = struct.Struct(">HHHH")


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


def tcp_header_length(data_offset: int) -> int:
    """Returns the bytes of a TCP header, options included, from its byte at offset 12 (``data_offset``)."""
    return (data_offset >> 4) * 4
