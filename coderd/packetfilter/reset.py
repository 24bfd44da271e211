"""TCP segments that the filter derives from one it saw (RFC 9293, 3.10.7): resets, a keepalive probe."""

import struct

from coderd.model import Buffer
from coderd.packet import PROTOCOL_TCP, checksum, pseudo_header_sum
from coderd.packet.transport import TCP_ACK, TCP_HEADER_SIZE, TCP_RST

_IPV6 = struct.Struct(">IHBB16s16s")
_VERSION_6 = 6 << 28
_PORTS, _SEQUENCE, _ACKNOWLEDGEMENT = slice(40, 44), slice(44, 48), slice(48, 52)
_NONE = bytes(4)
_FAR = 1 << 30
"""Distance in bytes outside of every receive window (at most 2^30, RFC 7323), and below half the sequence
space."""


def encode_reset_onward(segment: Buffer) -> bytes:
    """Encodes a TCP reset for a segment's receiver.

    The reset has the segment's own sequence number, which is the one that the receiver expects.
    """
    source, destination = bytes(segment[8:24]), bytes(segment[24:40])
    numbers = bytes(segment[_SEQUENCE]) + bytes(segment[_ACKNOWLEDGEMENT])
    return _encode(source, destination, bytes(segment[_PORTS]), numbers, TCP_RST | TCP_ACK)


def encode_reset_back(segment: Buffer) -> bytes:
    """Encodes a TCP reset for the sender of a segment that has an acknowledgement.

    The reset's sequence number is the one acknowledged, which is what the sender expects next.
    """
    source, destination = bytes(segment[24:40]), bytes(segment[8:24])
    ports = bytes(segment[42:44]) + bytes(segment[40:42])
    return _encode(source, destination, ports, bytes(segment[_ACKNOWLEDGEMENT]) + _NONE, TCP_RST)


def encode_question(segment: Buffer) -> bytes:
    """Encodes a TCP keepalive probe that finds out whether a segment's receiver has the connection.

    The sequence number lies ``_FAR`` behind the segment's, outside the window: a kernel that has the
    connection answers with an acknowledgement and changes nothing; a kernel that has none answers with a RST.
    """
    source, destination = bytes(segment[8:24]), bytes(segment[24:40])
    behind = (int.from_bytes(segment[_SEQUENCE]) - _FAR) % (1 << 32)
    numbers = behind.to_bytes(4) + bytes(segment[_ACKNOWLEDGEMENT])
    return _encode(source, destination, bytes(segment[_PORTS]), numbers, TCP_ACK)


def _encode(source: bytes, destination: bytes, ports: bytes, numbers: bytes, flags: int) -> bytes:
    header = ports + numbers + bytes((TCP_HEADER_SIZE // 4 << 4, flags)) + bytes(6)
    value = checksum(header, pseudo_header_sum(source + destination, PROTOCOL_TCP, len(header)))
    ip = _IPV6.pack(_VERSION_6, len(header), PROTOCOL_TCP, 64, source, destination)
    return ip + header[:16] + value.to_bytes(2) + header[18:]
