"""coalesce: worked examples byte by byte, and each rule of what may be merged with what."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from coderd.model import Buffer
from coderd.packet import checksum, ones_sum, pseudo_header_sum
from coderd.tun import coalesce, split
from coderd.tun.coalesce import MAX_UDP_SEGMENTS
from coderd.tun.virtio import NO_OFFLOAD, parse_virtio_header

EXAMPLES = json.loads((Path(__file__).parent / "examples.json").read_text())["merge"]

ACK, PSH, SYN, FIN, RST, URG, ECE, CWR = 0x10, 0x08, 0x02, 0x01, 0x04, 0x20, 0x40, 0x80


def ip4(
    protocol: int, rest: bytes, *, tos: int = 0, ident: int = 1, fragment: int = 0x4000, ttl: int = 64
) -> bytes:
    header = bytearray(
        struct.pack(
            ">BBHHHBBH4s4s",
            0x45,
            tos,
            20 + len(rest),
            ident,
            fragment,
            ttl,
            protocol,
            0,
            bytes((10, 0, 0, 1)),
            bytes((10, 0, 0, 2)),
        )
    )
    header[10:12] = checksum(header).to_bytes(2, "big")
    return bytes(header) + rest


def finished(packet: bytes, checksum_at: int) -> bytes:
    """An IPv4 packet with its transport checksum filled in."""
    made = bytearray(packet)
    pseudo = pseudo_header_sum(made[12:20], made[9], len(made) - 20)
    made[20 + checksum_at : 22 + checksum_at] = (checksum(made[20:], pseudo) or 0xFFFF).to_bytes(2, "big")
    return bytes(made)


def tcp(
    sequence: int,
    payload: bytes,
    *,
    flags: int = ACK,
    ack: int = 7,
    window: int = 500,
    options: bytes = b"",
    port: int = 1000,
    **network: int,
) -> bytes:
    offset = (20 + len(options)) << 2
    header = struct.pack(">HHIIBBHHH", port, 80, sequence, ack, offset, flags, window, 0, 0)
    return finished(ip4(6, header + options + payload, **network), 16)


def udp(payload: bytes, *, port: int = 1000, **network: int) -> bytes:
    header = struct.pack(">HHHH", port, 2000, 8 + len(payload), 0)
    return finished(ip4(17, header + payload, **network), 6)


def groups(packets: Sequence[bytes], *, uso: bool = True) -> list[int]:
    """How many packets each write carries, once it is clear that the kernel would cut it into those again."""
    items = coalesce(packets, uso=uso)
    counts = [1 if item[0] == NO_OFFLOAD else len(item) - 2 for item in items]
    cut = [segment for item in items for segment in cut_again(item)]
    assert sorted(cut) == sorted(packets)
    return counts


def cut_again(item: list[Buffer]) -> list[bytes]:
    return split(item[0], b"".join(item[1:]))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["name"])
def test_the_worked_examples(example: dict[str, object], kind: type) -> None:
    texts = example["packets"]
    assert isinstance(texts, list)
    (item,) = coalesce([kind(bytes.fromhex(text)) for text in texts], uso=True)
    assert bytes(item[0]).hex() == example["vnet"]
    assert b"".join(item[1:]).hex() == example["packet"]


def test_nothing_becomes_nothing() -> None:
    assert coalesce([], uso=True) == []


def test_a_lone_packet_is_written_as_it_is() -> None:
    packet = tcp(1, b"data")
    assert coalesce([packet], uso=True) == [[NO_OFFLOAD, packet]]
    assert coalesce([b"not even ip"], uso=True) == [[NO_OFFLOAD, b"not even ip"]]


def test_consecutive_tcp_segments_become_one() -> None:
    assert groups([tcp(1 + 4 * n, b"data", ident=1 + n) for n in range(5)]) == [5]


def test_sequence_numbers_wrap_round() -> None:
    packets = [tcp((0xFFFFFFFA + 4 * n) & 0xFFFFFFFF, b"data", ident=1 + n) for n in range(4)]
    assert groups(packets) == [4]


def test_payloads_are_not_copied() -> None:
    packets = [memoryview(tcp(1, b"data")), memoryview(tcp(5, b"more", ident=2))]
    (item,) = coalesce(packets, uso=True)
    assert all(isinstance(part, memoryview) for part in item[2:])


def test_a_short_segment_is_the_last() -> None:
    packets = [tcp(1, b"data"), tcp(5, b"da", ident=2), tcp(7, b"data", ident=3), tcp(11, b"data", ident=4)]
    assert groups(packets) == [2, 2]


def test_a_larger_segment_begins_anew() -> None:
    assert groups([tcp(1, b"data"), tcp(5, b"data!", ident=2), tcp(10, b"more!", ident=3)]) == [1, 2]


def test_psh_is_kept_and_ends_the_run() -> None:
    packets = [
        tcp(1, b"data"),
        tcp(5, b"data", ident=2, flags=ACK | PSH),
        tcp(9, b"data", ident=3),
    ]
    assert groups(packets) == [2, 1]
    assert bytes(coalesce(packets, uso=True)[0][1])[33] == ACK | PSH


@pytest.mark.parametrize("flag", [SYN, FIN, RST, URG, ECE, CWR])
def test_other_flags_stand_alone_and_end_the_run(flag: int) -> None:
    packets = [tcp(1, b"data"), tcp(5, b"data", flags=ACK | flag), tcp(9, b"data"), tcp(13, b"data", ident=2)]
    assert groups(packets) == [1, 1, 2]


@pytest.mark.parametrize(
    "different",
    [
        {"ack": 8},
        {"window": 501},
        {"tos": 4},
        {"ttl": 63},
        {"fragment": 0},
        {"options": b"\1\1\1\1"},
        {"port": 1001},
    ],
    ids=str,
)
def test_what_one_header_cannot_say_is_not_merged(different: dict[str, int]) -> None:
    assert groups([tcp(1, b"data"), tcp(5, b"data", **different)]) == [1, 1]  # type: ignore[arg-type]


def test_options_must_be_equal() -> None:
    packets = [tcp(1, b"data", options=b"\1\1\1\1"), tcp(5, b"data", options=b"\1\1\1\0")]
    assert groups(packets) == [1, 1]


def test_a_gap_is_not_merged() -> None:
    assert groups([tcp(1, b"data"), tcp(9, b"data"), tcp(13, b"data", ident=2)]) == [1, 2]


def test_a_retransmission_does_not_overtake() -> None:
    """The third would continue the first, but came after the second."""
    assert groups([tcp(1, b"data"), tcp(101, b"data"), tcp(5, b"data")]) == [1, 1, 1]


def test_a_bare_acknowledgement_keeps_its_place() -> None:
    assert groups([tcp(1, b"data"), tcp(5, b""), tcp(5, b"data")]) == [1, 1, 1]


def test_two_connections_are_merged_side_by_side() -> None:
    packets = [
        tcp(1, b"data"),
        tcp(1, b"DATA", port=2000),
        tcp(5, b"data", ident=2),
        tcp(5, b"DATA", port=2000, ident=2),
    ]
    assert groups(packets) == [2, 2]


@pytest.mark.parametrize(
    "barrier",
    [ip4(1, b"\x08\x00ping"), ip4(6, b"", fragment=0x2000), b"\x60" + bytes(59), b"", b"\xff" * 30],
    ids=["ICMP", "fragment", "IPv6 without transport", "empty", "nonsense"],
)
def test_what_cannot_be_read_ends_all_runs(barrier: bytes) -> None:
    packets = [tcp(1, b"data"), barrier, tcp(5, b"data")]
    assert coalesce(packets, uso=True) == [[NO_OFFLOAD, packet] for packet in packets]


@pytest.mark.parametrize("fragment", [0x2000, 0x0001])
def test_fragments_are_never_merged(fragment: int) -> None:
    packets = [tcp(1, b"data", fragment=fragment), tcp(5, b"data", fragment=fragment)]
    assert coalesce(packets, uso=True) == [[NO_OFFLOAD, packet] for packet in packets]


def test_padding_behind_the_packet_prevents_merging() -> None:
    packets = [tcp(1, b"data"), tcp(5, b"data") + b"\0"]
    assert coalesce(packets, uso=True) == [[NO_OFFLOAD, packet] for packet in packets]


@pytest.mark.parametrize("broken_at", [10, 12, 21, 30, 36, 40], ids=lambda at: f"byte {at}")
@pytest.mark.parametrize("position", [0, 2, 4])
def test_a_wrong_checksum_is_never_laundered(broken_at: int, position: int) -> None:
    packets = [bytearray(tcp(1 + 4 * n, b"data", ident=1 + n)) for n in range(5)]
    packets[position][broken_at] ^= 0x01
    items = coalesce(packets, uso=True)
    assert [NO_OFFLOAD, packets[position]] in items
    assert sum(len(item) - 2 or 1 for item in items) == 5
    assert len(items) < 5


def test_udp_datagrams_become_one() -> None:
    assert groups([udp(b"data", ident=1 + n) for n in range(3)] + [udp(b"x", ident=4)]) == [4]


def test_udp_is_left_alone_where_the_kernel_does_not_take_it() -> None:
    assert groups([udp(b"data"), udp(b"data")], uso=False) == [1, 1]


def test_udp_is_merged_up_to_what_old_kernels_take() -> None:
    packets = [udp(b"data", ident=1 + n % MAX_UDP_SEGMENTS) for n in range(MAX_UDP_SEGMENTS + 2)]
    assert groups(packets) == [MAX_UDP_SEGMENTS, 2]


def test_udp_without_checksum_keeps_none() -> None:
    packet = bytearray(udp(b"data"))
    packet[26:28] = b"\0\0"
    assert coalesce([packet, packet], uso=True) == [[NO_OFFLOAD, packet]] * 2


def test_udp_of_wrong_length_or_without_payload_stands_alone() -> None:
    wrong = bytearray(udp(b"data"))
    wrong[25] -= 1
    packets = [udp(b"data"), bytes(wrong), udp(b""), udp(b"data")]
    assert coalesce(packets, uso=True) == [[NO_OFFLOAD, packet] for packet in packets]


def test_no_super_packet_exceeds_the_length_fields() -> None:
    packets = [tcp(1 + 1400 * n, bytes(1400), ident=1 + n % 46) for n in range(60)]
    items = coalesce(packets, uso=True)
    assert [len(item) - 2 for item in items] == [46, 14]
    assert all(sum(map(len, item[1:])) <= 65535 for item in items)


def test_the_header_of_a_super_packet_is_right() -> None:
    (item,) = coalesce([tcp(1 + 4 * n, b"data", ident=1 + n) for n in range(3)], uso=True)
    header = parse_virtio_header(bytes(item[0]))
    assert header == (1, 1, 40, 4, 20, 16)
    assert ones_sum(bytes(item[1])[:20]) == 0xFFFF
