"""Sums against RFC 1071's own example and against the definition, word by word."""

import random

import pytest

from coderd.packet import checksum, ones_sum, pseudo_header_sum
from coderd.packet.checksum import MODULUS, segment_sums, split_sums


def by_definition(data: bytes) -> int:
    total = 0
    for at in range(0, len(data), 2):
        total += data[at] << 8 | (data[at + 1] if at + 1 < len(data) else 0)
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_example_of_rfc_1071() -> None:
    assert ones_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D


def test_zeros_sum_to_zero_and_only_they() -> None:
    assert ones_sum(b"") == 0
    assert ones_sum(bytes(7)) == 0
    assert ones_sum(b"\xff\xff") == 0xFFFF
    assert checksum(bytes(4)) == 0xFFFF


def test_an_odd_last_byte_is_the_high_half_of_a_word() -> None:
    assert ones_sum(b"\x12\x34\x56") == 0x1234 + 0x5600


def test_a_packet_with_its_checksum_sums_to_all_ones() -> None:
    header = bytearray.fromhex("450000260000400040110000 0a000001 0a000002")
    header[10:12] = checksum(header).to_bytes(2, "big")
    assert ones_sum(header) == 0xFFFF


def test_the_pseudo_header_is_addresses_protocol_and_length() -> None:
    addresses = bytes.fromhex("0a0000010a000002")
    assert pseudo_header_sum(addresses, 17, 18) == by_definition(
        addresses + bytes((0, 17)) + (18).to_bytes(2, "big")
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 1344, 1345, 1346, 1347])
@pytest.mark.parametrize("offset", [0, 28, 40, 52, 53])
def test_segments_are_summed_like_each_alone(size: int, offset: int) -> None:
    data = random.Random(size * 100 + offset).randbytes(offset + size * 4 + size // 2)
    expected = [by_definition(data[at : at + size]) % MODULUS for at in range(offset, len(data), size)]
    assert segment_sums(data, offset, size) == expected
    assert segment_sums(memoryview(bytearray(data)), offset, size) == expected


def test_no_carry_is_lost_in_a_segment_of_ones() -> None:
    data = b"\xff" * 65_535
    assert segment_sums(data, 0, 65_532) == [0, ones_sum(b"\xff" * 3) % MODULUS]


@pytest.mark.parametrize("at", [8, 12])
def test_packets_are_summed_in_two_parts(at: int) -> None:
    rng = random.Random(at)
    packets = [rng.randbytes(size) for size in (40, 41, 42, 43, 1280, 13, 1400)]
    heads, tails = split_sums(packets, at)
    assert heads == [by_definition(packet[:at]) % MODULUS for packet in packets]
    assert tails == [by_definition(packet[at:]) % MODULUS for packet in packets]
