"""Cuts one TUN read into packets with finished checksums, as a network card does with a super-packet (GSO).

A TCP or UDP super-packet is one set of headers before up to 64 KiB of payload. Every segment gets those
headers with its own lengths, IPv4 identification and checksum, TCP sequence number and flags, and a transport
checksum. The fields that vary are computed for all segments together, as lists; the payloads' sums come from
one vectorised pass, and the rest of a checksum is one number for all segments plus a field or two. The cost
of a segment is two ``pack``s and one concatenation.
"""

import struct
from typing import NamedTuple

from coderd.model import Buffer
from coderd.model.errors import MalformedPacket
from coderd.packet.checksum import MODULUS, checksum, fold, ones_sum, segment_sums
from coderd.packet.ip import IPV4_HEADER_SIZE, IPV6_HEADER_SIZE, PROTOCOL_TCP, PROTOCOL_UDP
from coderd.packet.transport import (
    TCP_CWR,
    TCP_FIN,
    TCP_HEADER_SIZE,
    TCP_PSH,
    UDP_HEADER_SIZE,
    tcp_header_length,
)
from coderd.tun.virtio import (
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    VirtioHeader,
    parse_virtio_header,
)

MAX_SEGMENTS = 1024
"""Most segments of a super-packet; Linux makes fewer of 64 KiB with its smallest MSS of 88.

The rest is dropped.
"""

TCP_CHECKSUM_OFFSET = 16
UDP_CHECKSUM_OFFSET = 6

_WORD16 = struct.Struct(">H")
_IPV4 = struct.Struct(">2sHH4sH")
_TCP = struct.Struct(">4sI5sB2sH")
_UDP = struct.Struct(">4sHH")


class _Super(NamedTuple):
    """A valid super-packet: the lengths of its headers, and of each segment's payload, in bytes."""

    packet: Buffer
    ip_length: int
    header_length: int
    protocol: int
    gso_size: int
    sizes: list[int]

    @property
    def is_ipv4(self) -> bool:
        return self.packet[0] >> 4 == 4


def split(header: Buffer, packet: Buffer) -> list[bytes]:
    """Cuts one TUN read into packets with finished checksums.

    Args:
        header: the 10 bytes of virtio header.
        packet: the packet or super-packet behind it; borrowed for the call.

    Returns: the packets in order, each complete with its checksums; never empty. All have the length of the
        first, save that the last may be shorter.
    Raises: MalformedPacket if header and packet contradict each other.
    """
    offload = parse_virtio_header(header)
    if offload.gso_type == GSO_NONE:
        return [_finish_checksum(offload, packet) if offload.flags & NEEDS_CSUM else bytes(packet)]
    parts = _check(offload, packet)
    transport = _tcp_headers(parts) if parts.protocol == PROTOCOL_TCP else _udp_headers(parts)
    network = _ipv4_headers(parts) if parts.is_ipv4 else _ipv6_headers(parts)
    payload = memoryview(packet)[parts.header_length :]
    size = parts.gso_size
    return [
        ip + l4 + payload[at : at + size]
        for ip, l4, at in zip(network, transport, range(0, len(payload), size), strict=False)
    ]


def _finish_checksum(offload: VirtioHeader, packet: Buffer) -> bytes:
    """Returns an ordinary packet with its transport checksum completed (NEEDS_CSUM).

    Raises MalformedPacket.
    """
    start, at = offload.csum_start, offload.csum_start + offload.csum_offset
    if at + 2 > len(packet):
        raise MalformedPacket(f"a checksum at {at} of {len(packet)} bytes")
    finished = bytearray(packet)
    # The field holds the pseudo-header's sum, which thereby is part of the sum over the segment.
    value = checksum(memoryview(finished)[start:])
    if value == 0 and offload.csum_offset == UDP_CHECKSUM_OFFSET:
        value = MODULUS
    _WORD16.pack_into(finished, at, value)
    return bytes(finished)


def _check(offload: VirtioHeader, packet: Buffer) -> _Super:
    """Verifies the virtio header's offsets and types against the super-packet.

    Raises: MalformedPacket.
    """
    gso_type, ip_length = offload.gso_type & ~GSO_ECN, offload.csum_start
    if not packet or not _is_network_header(packet, ip_length, gso_type):
        raise MalformedPacket(f"a super-packet of type {gso_type} with {ip_length} bytes of IP header")
    protocol = PROTOCOL_UDP if gso_type == GSO_UDP_L4 else PROTOCOL_TCP
    header_length = ip_length + _transport_length(packet, ip_length, protocol)
    n_payload = len(packet) - header_length
    expected = UDP_CHECKSUM_OFFSET if protocol == PROTOCOL_UDP else TCP_CHECKSUM_OFFSET
    if offload.csum_offset != expected or offload.gso_size == 0 or n_payload <= 0:
        raise MalformedPacket(f"a super-packet of {n_payload} bytes in segments of {offload.gso_size}")
    size = offload.gso_size
    n_segments = min((n_payload + size - 1) // size, MAX_SEGMENTS)
    sizes = [size] * n_segments
    sizes[-1] = min(size, n_payload - size * (n_segments - 1))
    return _Super(packet, ip_length, header_length, protocol, size, sizes)


def _is_network_header(packet: Buffer, ip_length: int, gso_type: int) -> bool:
    if ip_length > len(packet):
        return False
    if packet[0] >> 4 == 4:
        is_whole = ip_length >= IPV4_HEADER_SIZE and ip_length == (packet[0] & 0x0F) * 4
        return is_whole and gso_type in (GSO_TCPV4, GSO_UDP_L4)
    is_whole = packet[0] >> 4 == 6 and ip_length >= IPV6_HEADER_SIZE
    return is_whole and gso_type in (GSO_TCPV6, GSO_UDP_L4)


def _transport_length(packet: Buffer, at: int, protocol: int) -> int:
    """Returns the bytes of the transport header. Raises MalformedPacket unless it lies inside the packet."""
    shortest = UDP_HEADER_SIZE if protocol == PROTOCOL_UDP else TCP_HEADER_SIZE
    if at + shortest > len(packet):
        raise MalformedPacket(f"a transport header at {at} of {len(packet)} bytes")
    length = UDP_HEADER_SIZE if protocol == PROTOCOL_UDP else tcp_header_length(packet[at + 12])
    if length < shortest:
        raise MalformedPacket(f"a TCP header of {length} bytes")
    return length


def _ipv4_headers(parts: _Super) -> list[bytes]:
    """Returns each segment's IPv4 header: its own total length and checksum, consecutive identifications."""
    head = bytes(parts.packet[: parts.ip_length])
    version_tos, _, identification, flags_ttl, _ = _IPV4.unpack_from(head)
    rest = head[12:]
    base = ones_sum(version_tos) + ones_sum(flags_ttl) + ones_sum(rest)
    pack = _IPV4.pack
    return [
        pack(version_tos, total, ident, flags_ttl, -(base + total + ident) % MODULUS) + rest
        for total, ident in (
            (parts.header_length + size, (identification + index) & 0xFFFF)
            for index, size in enumerate(parts.sizes)
        )
    ]


def _ipv6_headers(parts: _Super) -> list[bytes]:
    """Returns each segment's IPv6 header with its payload length; only the last segment's may differ."""
    head = bytes(parts.packet[: parts.ip_length])
    beside = parts.header_length - IPV6_HEADER_SIZE
    whole, last = (
        head[:4] + _WORD16.pack(beside + size) + head[6:] for size in (parts.sizes[0], parts.sizes[-1])
    )
    return [whole] * (len(parts.sizes) - 1) + [last]


def _tcp_headers(parts: _Super) -> list[bytes]:
    """Returns each segment's TCP header: consecutive sequence numbers, its own flags and checksum.

    CWR stays on the first segment only, FIN and PSH on the last only.
    """
    head = bytes(parts.packet[parts.ip_length : parts.header_length])
    ports, first, ack_offset, flags, window, _ = _TCP.unpack_from(head)
    rest = head[18:]
    # ack_offset is 5 bytes, its last one in a word with the flags, which are added for each segment.
    base = _pseudo_sum(parts) + ones_sum(ports) + ones_sum(ack_offset) + ones_sum(window) + ones_sum(rest)
    all_flags = [flags & ~(TCP_CWR | TCP_FIN | TCP_PSH)] * len(parts.sizes)
    all_flags[0] |= flags & TCP_CWR
    all_flags[-1] |= flags & (TCP_FIN | TCP_PSH)
    sums = segment_sums(parts.packet, parts.header_length, parts.gso_size)
    pack, step, base = _TCP.pack, parts.gso_size, fold(base + len(head))
    return [
        pack(
            ports,
            sequence,
            ack_offset,
            its_flags,
            window,
            -(base + sequence + its_flags + size + payload_sum) % MODULUS,
        )
        + rest
        for sequence, its_flags, size, payload_sum in zip(
            ((first + index * step) & 0xFFFFFFFF for index in range(len(sums))),
            all_flags,
            parts.sizes,
            sums,
            strict=False,
        )
    ]


def _udp_headers(parts: _Super) -> list[bytes]:
    """Returns each segment's UDP header; its checksum covers the length twice (RFC 768: pseudo-header)."""
    ports = bytes(parts.packet[parts.ip_length : parts.ip_length + 4])
    base = _pseudo_sum(parts) + ones_sum(ports) + 2 * UDP_HEADER_SIZE
    sums = segment_sums(parts.packet, parts.header_length, parts.gso_size)
    pack = _UDP.pack
    return [
        pack(ports, UDP_HEADER_SIZE + size, -(base + 2 * size + payload_sum) % MODULUS or MODULUS)
        for size, payload_sum in zip(parts.sizes, sums, strict=False)
    ]


def _pseudo_sum(parts: _Super) -> int:
    """Returns the sum of the pseudo-header's addresses and protocol, without its length."""
    addresses = parts.packet[12:20] if parts.is_ipv4 else parts.packet[8:40]
    return ones_sum(addresses) + parts.protocol
