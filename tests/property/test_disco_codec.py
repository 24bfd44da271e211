"""Disco parsers are total, and what is sealed opens to the same message."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.disco import (
    MAGIC,
    CallMeMaybe,
    DiscoBox,
    Message,
    PeerRelayMessage,
    Ping,
    Pong,
    encode_message,
    looks_like_disco,
    parse_message,
)
from coderd.model.errors import MalformedPacket
from coderd.model.keys import DiscoPrivate, NodePublic

ALICE = DiscoBox(DiscoPrivate(bytes(range(32))))
BOB = DiscoBox(DiscoPrivate(bytes(range(32, 64))))

txs = st.binary(min_size=12, max_size=12)
node_keys = st.binary(min_size=32, max_size=32).filter(any).map(NodePublic)
endpoints = st.tuples(
    st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).filter(lambda ip: ipaddress.IPv6Address(int(ip)).ipv4_mapped is None).map(str),
    st.integers(0, 65535),
)
messages: st.SearchStrategy[Message] = (
    st.builds(Ping, txs, node_keys, st.integers(0, 1500))
    | st.builds(Ping, txs, st.none(), st.integers(0, 31))
    | st.builds(Pong, txs, endpoints)
    | st.builds(CallMeMaybe, st.lists(endpoints, max_size=20).map(tuple))
    | st.builds(PeerRelayMessage, st.integers(4, 9), st.integers(0, 255), st.binary(max_size=200))
)


@given(
    st.binary(max_size=200)
    | st.builds(lambda kind, rest: bytes([kind]) + rest, st.integers(0, 10), st.binary())
)
def test_payloads_raise_nothing_but_malformed_packet(payload: bytes) -> None:
    try:
        message = parse_message(payload)
    except MalformedPacket:
        return
    encode_message(message)


@given(messages)
def test_messages_read_back(message: Message) -> None:
    assert parse_message(encode_message(message)) == message


@given(messages, st.binary(min_size=24, max_size=24))
def test_sealed_messages_open(message: Message, nonce: bytes) -> None:
    packet = ALICE.seal(message, BOB.public, nonce)
    assert looks_like_disco(packet)
    assert BOB.open(packet) == (ALICE.public, message)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(MAGIC.__add__))
def test_packets_of_strangers_do_not_open(packet: bytes) -> None:
    with pytest.raises(MalformedPacket):
        BOB.open(packet)
