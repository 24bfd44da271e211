"""Disco packets against vectors sealed by Go's NaCl box with a fixed nonce."""

import json
from pathlib import Path
from typing import Any

import pytest

from coderd.disco import (
    PACKET_OVERHEAD,
    DiscoBox,
    Ping,
    encode_message,
    looks_like_disco,
    parse_message,
    sender_of,
)
from coderd.model.errors import MalformedPacket
from coderd.model.keys import DiscoPrivate, DiscoPublic

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/disco.json").read_text(encoding="utf-8"))
A = DiscoPrivate(bytes.fromhex(VECTORS["disco_a_private"]))
B = DiscoPrivate(bytes.fromhex(VECTORS["disco_b_private"]))
STRANGER = DiscoPrivate(bytes(range(32)))
NONCE = bytes.fromhex(VECTORS["nonce"])
PING = Ping(bytes(12))


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["name"])
def test_packets_are_upstreams_byte_for_byte(case: dict[str, Any]) -> None:
    message = parse_message(bytes.fromhex(case["payload"]))
    packet = DiscoBox(A).seal(message, B.public(), NONCE)
    assert packet.hex() == case["packet_a_to_b"]
    assert len(packet) == case["packet_len"] == PACKET_OVERHEAD + len(encode_message(message))
    assert DiscoBox(B).open(packet) == (A.public(), message)


def test_public_keys_are_the_vectors() -> None:
    assert DiscoBox(A).public.hex() == VECTORS["disco_a_public"]
    assert DiscoBox(B).public.hex() == VECTORS["disco_b_public"]


@pytest.mark.parametrize("case", VECTORS["demux"], ids=lambda case: case["name"])
def test_disco_is_recognised_among_its_neighbours(case: dict[str, object]) -> None:
    packet = bytes.fromhex(str(case["packet"]))
    assert looks_like_disco(packet) == (case["kind"] == "disco" and not case["geneve"])


def test_the_sender_is_read_without_opening() -> None:
    packet = DiscoBox(A).seal(PING, B.public(), NONCE)
    assert sender_of(memoryview(packet)) == A.public()
    with pytest.raises(MalformedPacket):
        sender_of(packet[:37])


def test_a_packet_for_another_key_does_not_open() -> None:
    packet = DiscoBox(A).seal(PING, B.public(), NONCE)
    with pytest.raises(MalformedPacket, match="does not open"):
        DiscoBox(STRANGER).open(packet)


@pytest.mark.parametrize("position", [6, 40, 62, 77, 91], ids=["sender", "nonce", "tag", "tag end", "box"])
def test_a_changed_bit_anywhere_keeps_a_packet_shut(position: int) -> None:
    packet = bytearray(DiscoBox(A).seal(PING, B.public(), NONCE))
    packet[position] ^= 1
    with pytest.raises(MalformedPacket):
        DiscoBox(B).open(packet)


def test_a_header_without_a_box_does_not_open() -> None:
    packet = DiscoBox(A).seal(PING, B.public(), NONCE)
    for size in (38, 61, 62, 77):
        with pytest.raises(MalformedPacket):
            DiscoBox(B).open(packet[:size])


def test_a_packet_reopens_after_its_key_fell_out_of_the_cache() -> None:
    packet = DiscoBox(A).seal(PING, B.public(), NONCE)
    small = DiscoBox(B, cache_size=1)
    for _ in range(2):
        assert small.open(packet) == (A.public(), PING)
        small.seal(PING, STRANGER.public(), NONCE)


def test_a_key_of_small_order_opens_nothing_and_breaks_nothing() -> None:
    weak = DiscoPublic(b"\x01" + bytes(31))
    ours = DiscoBox(A).seal(PING, weak, NONCE)
    assert len(ours) == PACKET_OVERHEAD + 14
    forged = ours[:6] + weak + ours[38:]
    with pytest.raises(MalformedPacket):
        DiscoBox(B).open(forged)
