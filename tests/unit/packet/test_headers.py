"""The header parsers, on packets of a real stack and on what falls short of one."""

import pytest

from coderd.model.errors import MalformedPacket
from tests.headers import (
    IPv4Header,
    IPv6Header,
    TcpHeader,
    UdpHeader,
    destination_of,
    length_of,
    parse_ip,
    parse_tcp,
    parse_udp,
    source_of,
)

UDP4 = bytes.fromhex("4500002012344000401114970a0000010a00000203e807d0000c5d9941414141")
TCP6 = bytes.fromhex(
    "60000000001a0640fd000000000000000000000000000001fd00000000000000000000000000000203e80050"
    "0000006400000007501001f642c5000078797a78797a"
)


def test_an_ipv4_header_is_read() -> None:
    header = parse_ip(UDP4)
    assert header == IPv4Header(
        20, 0, 32, 0x1234, 0x4000, 64, 17, 0x1497, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
    )
    assert isinstance(header, IPv4Header)
    assert header.fragment & 0x3FFF == 0


def test_an_ipv6_header_is_read() -> None:
    header = parse_ip(b"\x6a\xbc\xde\xf0" + TCP6[4:])
    assert isinstance(header, IPv6Header)
    assert (header.traffic_class, header.flow_label) == (0xAB, 0xCDEF0)
    assert (header.total_length, header.header_length, header.protocol, header.ttl) == (66, 40, 6, 64)
    assert (header.source, header.destination) == (TCP6[8:24], TCP6[24:40])


def test_addresses_are_found_in_both_versions() -> None:
    assert source_of(UDP4) == bytes((10, 0, 0, 1))
    assert destination_of(memoryview(UDP4)) == bytes((10, 0, 0, 2))
    assert source_of(bytearray(TCP6)) == TCP6[8:24]
    assert destination_of(TCP6) == TCP6[24:40]


def test_the_length_tells_the_packet_from_padding() -> None:
    assert length_of(UDP4 + bytes(13)) == len(UDP4)
    assert length_of(TCP6 + bytes(6)) == len(TCP6)


@pytest.mark.parametrize("fragment", [0x2000, 0x0001, 0x3FFF])
def test_fragments_are_recognised(fragment: int) -> None:
    header = parse_ip(UDP4[:6] + fragment.to_bytes(2, "big") + UDP4[8:])
    assert isinstance(header, IPv4Header)
    assert header.fragment & 0x3FFF != 0


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        UDP4[:19],
        UDP4[:31],
        TCP6[:39],
        TCP6[:-1],
        b"\x55" + UDP4[1:],
        b"\x44" + UDP4[1:],
        b"\x4f" + UDP4[1:],
        UDP4[:2] + b"\x00\x13" + UDP4[4:],
    ],
)
def test_what_is_no_ip_packet_is_malformed(packet: bytes) -> None:
    with pytest.raises(MalformedPacket):
        parse_ip(packet)


def test_a_tcp_header_is_read() -> None:
    assert parse_tcp(TCP6[40:]) == TcpHeader(1000, 80, 100, 7, 20, 0x10, 502, 0x42C5, 0)


def test_a_udp_header_is_read() -> None:
    assert parse_udp(UDP4[20:]) == UdpHeader(1000, 2000, 12, 0x5D99)


@pytest.mark.parametrize("offset", [0x00, 0x40, 0xF0])
def test_a_tcp_header_must_lie_in_its_segment(offset: int) -> None:
    segment = bytearray(TCP6[40:])
    segment[12] = offset
    with pytest.raises(MalformedPacket):
        parse_tcp(segment)


@pytest.mark.parametrize("length", [0, 7, 13])
def test_a_udp_length_must_cover_its_header_and_fit(length: int) -> None:
    datagram = bytearray(UDP4[20:])
    datagram[4:6] = length.to_bytes(2, "big")
    with pytest.raises(MalformedPacket):
        parse_udp(datagram)


def test_short_transport_headers_are_malformed() -> None:
    with pytest.raises(MalformedPacket):
        parse_tcp(bytes(19))
    with pytest.raises(MalformedPacket):
        parse_udp(bytes(7))
