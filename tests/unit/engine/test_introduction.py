"""Introductions: what a daemon says to a peer's, and what it makes of bytes that only look like one."""

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.engine.introduction import (
    SIZE,
    Introduced,
    SecretAcknowledged,
    SecretTold,
    SecretWanted,
    acknowledge_secret,
    encode_introduction,
    encode_packet,
    is_introduction,
    parse_introduction,
    tell_secret,
    want_secret,
)
from coderd.model.keys import DiscoPublic, NodePublic
from tests.headers import parse_ip

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
    assert parse_introduction(PEER, PACKET[:40] + data) is None or len(data) in (1, 9, SIZE - 40)


def test_a_secret_its_answer_and_the_question_are_read_as_they_were_written() -> None:
    for body, said in (
        (tell_secret(7, bytes(range(32))), SecretTold(PEER, 7, bytes(range(32)))),
        (acknowledge_secret(b"12345678"), SecretAcknowledged(PEER, b"12345678")),
        (want_secret(), SecretWanted(PEER)),
    ):
        assert parse_introduction(PEER, encode_packet(HERE, THERE, body)) == said


@pytest.mark.parametrize("body", [tell_secret(7, bytes(32)), acknowledge_secret(bytes(8)), want_secret()])
def test_nodes_of_the_last_release_drop_what_they_do_not_know(body: bytes) -> None:
    packet = encode_packet(HERE, THERE, body)
    assert len(packet) != SIZE or packet[40] != 1
