"""Introductions: what a daemon says to a peer's, and what it makes of bytes that only look like one."""

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from coderd.engine.introduction import (
    SIZE,
    Introduced,
    encode_introduction,
    is_introduction,
    parse_introduction,
)
from coderd.model.keys import DiscoPublic, NodePublic
from coderd.packet.ip import parse_ip

PEER = NodePublic(bytes(range(32)))
KEY = DiscoPublic(bytes(range(1, 33)))
HERE, THERE = IPv6Address("fd60:627a:a42b::1"), IPv6Address("fd60:627a:a42b::2")
PACKET = encode_introduction(HERE, THERE, KEY, 2**64 - 1)


def test_an_introduction_is_read_as_it_was_written() -> None:
    assert len(PACKET) == SIZE
    assert parse_introduction(PEER, PACKET) == Introduced(PEER, KEY, 2**64 - 1)


def test_it_is_an_ip_packet_between_the_two_tailnet_addresses() -> None:
    header = parse_ip(PACKET)
    assert header.total_length == SIZE
    assert PACKET[8:24] == HERE.packed
    assert PACKET[24:40] == THERE.packed


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert parse_introduction(PEER, data) is None or is_introduction(data)
    assert parse_introduction(PEER, PACKET[:40] + data) is None or len(data) == SIZE - 40
