"""Resets (RFC 9293, 3.10.7) for both ends of a TCP connection that is not allowed any more, made of one segment of it."""

import struct

from coderd.model import Buffer
from coderd.packet import PROTOCOL_TCP, checksum, pseudo_header_sum
from coderd.packet.transport import TCP_ACK, TCP_HEADER_SIZE, TCP_RST

_IPV6 = struct.Struct(">IHBB16s16s")
_VERSION_6 = 6 << 28
_PORTS, _SEQUENCE, _ACKNOWLEDGEMENT = slice(40, 44), slice(44, 48), slice(48, 52)
_NONE = bytes(4)


def encode_reset_onward(segment: Buffer) -> bytes:
    """For whom a segment was meant: the sequence number is the segment's, which is what its receiver waits for."""
    source, destination = bytes(segment[8:24]), bytes(segment[24:40])
    numbers = bytes(segment[_SEQUENCE]) + bytes(segment[_ACKNOWLEDGEMENT])
    return _encode(source, destination, bytes(segment[_PORTS]), numbers, TCP_RST | TCP_ACK)


def encode_reset_back(segment: Buffer) -> bytes:
    """For whom a segment is from, which acknowledges something: the sequence number is the one that it expects next."""
    source, destination = bytes(segment[24:40]), bytes(segment[8:24])
    ports = bytes(segment[42:44]) + bytes(segment[40:42])
    return _encode(source, destination, ports, bytes(segment[_ACKNOWLEDGEMENT]) + _NONE, TCP_RST)


def _encode(source: bytes, destination: bytes, ports: bytes, numbers: bytes, flags: int) -> bytes:
    header = ports + numbers + bytes((TCP_HEADER_SIZE // 4 << 4, flags)) + bytes(6)
    value = checksum(header, pseudo_header_sum(source + destination, PROTOCOL_TCP, len(header)))
    ip = _IPV6.pack(_VERSION_6, len(header), PROTOCOL_TCP, 64, source, destination)
    return ip + header[:16] + value.to_bytes(2) + header[18:]
