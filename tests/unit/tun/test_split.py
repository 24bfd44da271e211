"""split: worked examples byte by byte, the rules of each field, and headers that contradict their packets."""

import json
import random
from pathlib import Path

import pytest

from coderd.model.errors import MalformedPacket
from coderd.packet import ones_sum
from coderd.tun import split
from coderd.tun.split import MAX_SEGMENTS
from coderd.tun.virtio import NO_OFFLOAD, VirtioHeader, parse_virtio_header
from tests.headers import parse_tcp

EXAMPLES = json.loads((Path(__file__).parent / "examples.json").read_text())["split"]
BY_NAME = {
    example["name"]: (bytes.fromhex(example["vnet"]), bytes.fromhex(example["packet"]))
    for example in EXAMPLES
}
TSO4_HEADER, TSO4 = BY_NAME["tso4"]
USO6_HEADER, USO6 = BY_NAME["uso6"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["name"])
def test_the_worked_examples(example: dict[str, object]) -> None:
    header, packet = BY_NAME[str(example["name"])]
    assert [segment.hex() for segment in split(header, packet)] == example["segments"]
    assert [segment.hex() for segment in split(memoryview(header), memoryview(bytearray(packet)))] == example[
        "segments"
    ]


def test_a_packet_without_offload_is_passed_on_as_it_is() -> None:
    assert split(NO_OFFLOAD, b"anything at all") == [b"anything at all"]


def test_the_buffer_may_be_reused_after_the_call() -> None:
    buffer = bytearray(TSO4)
    segments = split(TSO4_HEADER, memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert segments == split(TSO4_HEADER, TSO4)


def test_identifications_wrap_round() -> None:
    assert [segment[4:6].hex() for segment in split(TSO4_HEADER, TSO4)] == ["ffff", "0000", "0001"]


def test_fin_and_psh_go_with_the_last_data_and_cwr_with_the_first() -> None:
    packet = bytearray(TSO4)
    packet[33] = 0x80 | 0x40 | 0x10 | 0x08 | 0x01
    flags = [parse_tcp(segment[20:]).flags for segment in split(TSO4_HEADER, packet)]
    assert flags == [0x80 | 0x50, 0x50, 0x59]


def test_a_gso_type_with_the_ecn_bit_is_split_alike() -> None:
    header = parse_virtio_header(TSO4_HEADER)
    assert split(header._replace(gso_type=0x81).encode(), TSO4) == split(TSO4_HEADER, TSO4)


def test_the_hint_about_header_length_is_ignored() -> None:
    header = parse_virtio_header(TSO4_HEADER)
    for hint in (0, 20, 65535):
        assert split(header._replace(hdr_len=hint).encode(), TSO4) == split(TSO4_HEADER, TSO4)


def test_ipv4_options_are_copied_to_every_segment() -> None:
    packet = b"\x46" + TSO4[1:20] + b"\x01\x01\x01\x00" + TSO4[20:]
    header = parse_virtio_header(TSO4_HEADER)._replace(csum_start=24).encode()
    segments = split(header, packet)
    assert [segment[20:24] for segment in segments] == [b"\x01\x01\x01\x00"] * 3
    assert [ones_sum(segment[:24]) for segment in segments] == [0xFFFF] * 3
    assert [segment[24:] for segment in segments] == [segment[20:] for segment in split(TSO4_HEADER, TSO4)]


def test_a_udp_checksum_of_zero_is_sent_as_ones() -> None:
    """Zero means "none", which IPv6 forbids. The payload is made to sum to just that."""
    header = parse_virtio_header(USO6_HEADER)._replace(gso_size=4).encode()
    plain = split(header, USO6[:48] + bytes(4) + b"rest")[0]
    payload = plain[46:48] + bytes(2)
    segment = split(header, USO6[:48] + payload + b"rest")[0]
    assert segment[46:48] == b"\xff\xff"


def test_an_unfinished_udp_checksum_of_zero_is_sent_as_ones() -> None:
    header, packet = BY_NAME["single_udp_partial"]
    payload_sum = ones_sum(packet[20:28])
    made = packet[:28] + ((-payload_sum) % 0xFFFF).to_bytes(2, "big")
    assert split(header, made)[0][26:28] == b"\xff\xff"


def test_a_payload_of_one_segment_is_finished_too() -> None:
    header = parse_virtio_header(TSO4_HEADER)._replace(gso_size=1000).encode()
    (segment,) = split(header, TSO4)
    assert segment[2:20] == TSO4[2:20]
    assert segment[33] == TSO4[33]


def test_absurdly_small_segments_are_cut_off_at_a_bound() -> None:
    header = parse_virtio_header(TSO4_HEADER)._replace(gso_size=1).encode()
    segments = split(header, TSO4[:40] + bytes(MAX_SEGMENTS + 10))
    assert len(segments) == MAX_SEGMENTS
    assert {len(segment) for segment in segments} == {41}


def test_a_full_read_is_cut_into_equal_segments() -> None:
    payload = random.Random(1).randbytes(65_535 - 40)
    header = parse_virtio_header(TSO4_HEADER)._replace(gso_size=1380).encode()
    segments = split(header, TSO4[:40] + payload)
    assert {len(segment) for segment in segments[:-1]} == {1420}
    assert b"".join(segment[40:] for segment in segments) == payload


def malformed() -> list[tuple[str, bytes, bytes]]:
    tso4, uso6 = parse_virtio_header(TSO4_HEADER), parse_virtio_header(USO6_HEADER)
    single = parse_virtio_header(BY_NAME["single_udp_partial"][0])
    return [
        ("header too short", TSO4_HEADER[:9], TSO4),
        ("header too long", TSO4_HEADER + b"\0\0", TSO4),
        ("empty", TSO4_HEADER, b""),
        ("TCPV6 on IPv4", tso4._replace(gso_type=4).encode(), TSO4),
        ("TCPV4 on IPv6", uso6._replace(gso_type=1).encode(), USO6),
        ("UFO", uso6._replace(gso_type=3).encode(), USO6),
        ("version 5", TSO4_HEADER, b"\x55" + TSO4[1:]),
        ("segments of nothing", tso4._replace(gso_size=0).encode(), TSO4),
        ("no payload", TSO4_HEADER, TSO4[:40]),
        ("TCP header cut off", TSO4_HEADER, TSO4[:39]),
        ("TCP header too short", TSO4_HEADER, TSO4[:32] + b"\x40" + TSO4[33:]),
        ("TCP header too long", TSO4_HEADER, TSO4[:32] + b"\xf0" + TSO4[33:50]),
        ("UDP header cut off", USO6_HEADER, USO6[:47]),
        ("IP header shorter than its kind", tso4._replace(csum_start=16).encode(), TSO4),
        ("IP header past the end", tso4._replace(csum_start=65535).encode(), TSO4),
        ("IPv4 header length contradicts", tso4._replace(csum_start=24).encode(), TSO4),
        ("wrong checksum offset", tso4._replace(csum_offset=6).encode(), TSO4),
        ("checksum past the end", single._replace(csum_start=100).encode(), USO6[:60]),
        ("checksum half past the end", VirtioHeader(1, 0, 0, 0, 20, 16).encode(), bytes(37)),
    ]


@pytest.mark.parametrize(
    ("header", "packet"), [case[1:] for case in malformed()], ids=[c[0] for c in malformed()]
)
def test_contradictions_are_malformed(header: bytes, packet: bytes) -> None:
    with pytest.raises(MalformedPacket):
        split(header, packet)
