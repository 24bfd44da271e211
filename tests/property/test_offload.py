"""split and coalesce against slow, obvious oracles, on generated traffic and on any bytes.

The oracles know headers as byte offsets and checksums as a loop over words; they share no code with what they
judge.
"""

import struct
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coderd.model.errors import MalformedPacket
from coderd.packet import checksum, ones_sum
from coderd.packet.checksum import segment_sums
from coderd.tun import coalesce, split
from coderd.tun.virtio import HEADER_SIZE, NO_OFFLOAD
from tests.headers import destination_of, length_of, parse_ip, parse_tcp, parse_udp, source_of

TCP, UDP = 6, 17


# The oracles


def slow_sum(data: bytes) -> int:
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def slow_pseudo(packet: bytes, start: int) -> int:
    """Of a packet whose transport header begins at ``start``."""
    is_v4 = packet[0] >> 4 == 4
    addresses = packet[12:20] if is_v4 else packet[8:40]
    protocol = packet[9] if is_v4 else packet[6]
    return slow_sum(addresses + struct.pack(">II", len(packet) - start, protocol))


def slow_finish(packet: bytearray, start: int, field: int) -> bytes:
    """Fills in lengths and checksums of a whole packet."""
    if packet[0] >> 4 == 4:
        packet[2:4] = len(packet).to_bytes(2, "big")
        packet[10:12] = bytes(2)
        packet[10:12] = (0xFFFF ^ slow_sum(bytes(packet[:start]))).to_bytes(2, "big")
    else:
        packet[4:6] = (len(packet) - 40).to_bytes(2, "big")
    if field == 6:
        packet[start + 4 : start + 6] = (len(packet) - start).to_bytes(2, "big")
    packet[start + field : start + field + 2] = bytes(2)
    total = slow_sum(bytes(packet[start:]) + b"") + slow_pseudo(bytes(packet), start)
    value = 0xFFFF ^ slow_sum(total.to_bytes(4, "big"))
    if field == 6 and value == 0:
        value = 0xFFFF
    packet[start + field : start + field + 2] = value.to_bytes(2, "big")
    return bytes(packet)


def slow_split(header: bytes, packet: bytes) -> list[bytes]:
    """What a network card does, for headers known to be right."""
    _, kind, _, size, start, field = struct.unpack("=BBHHHH", header)
    if kind == 0:
        return [packet]
    end = start + (8 if kind == 5 else (packet[start + 12] >> 4) * 4)
    pieces = [packet[at : at + size] for at in range(end, len(packet), size)]
    segments = []
    for n, piece in enumerate(pieces):
        made = bytearray(packet[:end] + piece)
        if packet[0] >> 4 == 4:
            made[4:6] = ((int.from_bytes(packet[4:6], "big") + n) % 65536).to_bytes(2, "big")
        if kind != 5:
            sequence = (int.from_bytes(packet[start + 4 : start + 8], "big") + n * size) % 2**32
            made[start + 4 : start + 8] = sequence.to_bytes(4, "big")
            if n > 0:
                made[start + 13] &= ~0x80
            if n < len(pieces) - 1:
                made[start + 13] &= ~0x09
        segments.append(slow_finish(made, start, field))
    return segments


class Facts(NamedTuple):
    """What of a packet decides its merging, read in the plainest way."""

    connection: tuple[object, ...]
    header: tuple[object, ...]
    sequence: int
    payload: int
    pushes: bool
    is_tcp: bool


def facts_of(packet: bytes) -> Facts | tuple[object, ...] | None:
    """Facts of a candidate; the connection alone of what is none; None where even that is not to be seen."""
    is_v4 = packet[0] == 0x45
    start = 20 if is_v4 else 40
    if not is_v4 and packet[0] >> 4 != 6:
        return None
    protocol = packet[9] if is_v4 else packet[6]
    if is_v4 and int.from_bytes(packet[6:8], "big") & 0x3FFF:
        return None
    if protocol not in (TCP, UDP):
        return None
    addresses = packet[12:20] if is_v4 else packet[8:40]
    connection = (protocol, addresses, packet[start : start + 4])
    network = packet[:2] + packet[6:9] if is_v4 else packet[:4] + packet[7:8]
    if protocol == UDP:
        end = start + 8
        header: tuple[object, ...] = (network,)
    else:
        end = start + (packet[start + 12] >> 4) * 4
        header = (
            network,
            packet[start + 8 : start + 13],
            packet[start + 14 : start + 16],
            packet[start + 20 : end],
        )
    field = 6 if protocol == UDP else 16
    is_right = slow_finish(bytearray(packet), start, field) == packet
    flags = packet[start + 13] if protocol == TCP else 0x10
    if not is_right or len(packet) == end or flags not in (0x10, 0x18):
        return connection
    sequence = int.from_bytes(packet[start + 4 : start + 8], "big") if protocol == TCP else 0
    return Facts(connection, header, sequence, len(packet) - end, flags == 0x18, protocol == TCP)


def slow_groups(packets: list[bytes], uso: bool) -> list[list[int]]:
    """Indices of the packets of each write, in the order of writing."""
    groups: list[list[int]] = []
    last: dict[tuple[object, ...], list[int]] = {}
    known = [facts_of(packet) for packet in packets]
    for index, facts in enumerate(known):
        if facts is None:
            last.clear()
        elif not isinstance(facts, Facts) or not (facts.is_tcp or uso):
            connection = facts.connection if isinstance(facts, Facts) else facts
            last.pop(connection, None)
        else:
            group = last.get(facts.connection)
            if group is not None and may_follow([known[n] for n in group], facts):
                group.append(index)
                continue
            last[facts.connection] = [index]
            groups.append(last[facts.connection])
            continue
        groups.append([index])
    return groups


def may_follow(group: list[object], facts: Facts) -> bool:
    members = [member for member in group if isinstance(member, Facts)]
    first, newest = members[0], members[-1]
    expected = (newest.sequence + newest.payload) % 2**32 if facts.is_tcp else 0
    return (
        facts.header == first.header
        and facts.sequence == expected
        and newest.payload == first.payload
        and facts.payload <= first.payload
        and not newest.pushes
        and (facts.is_tcp or len(members) < 64)
    )


# Generated traffic


class Flow(NamedTuple):
    """One direction of one connection."""

    is_v4: bool
    protocol: int
    port: int


FLOWS = [Flow(is_v4, protocol, port) for is_v4 in (True, False) for protocol in (TCP, UDP) for port in (1, 2)]


def build(
    flow: Flow,
    payload: bytes,
    *,
    sequence: int = 0,
    flags: int = 0x10,
    options: bytes = b"",
    hops: int = 64,
    ident: int = 0,
    fragment: int = 0x4000,
) -> bytes:
    addresses = (bytes((10, 0, 0, 1, 10, 0, 0, 2))) if flow.is_v4 else bytes(range(32))
    network = (
        struct.pack(">BBHHHBBH", 0x45, 0, 0, ident, fragment, hops, flow.protocol, 0)
        if flow.is_v4
        else struct.pack(">IHBB", 6 << 28, 0, flow.protocol, hops)
    )
    transport = (
        struct.pack(">HHIIBBHHH", flow.port, 80, sequence, 9, (20 + len(options)) << 2, flags, 500, 0, 0)
        + options
        if flow.protocol == TCP
        else struct.pack(">HHHH", flow.port, 53, 0, 0)
    )
    made = bytearray(network + addresses + transport + payload)
    return slow_finish(made, 20 if flow.is_v4 else 40, 16 if flow.protocol == TCP else 6)


class Step(NamedTuple):
    """One packet, relative to what its flow sent before; nearly always what follows on."""

    flow: Flow
    size: int
    flags: int
    jump: int
    hops: int
    options: bytes
    fragment: int
    flip: int | None


def mostly(usual: object, *rare: object) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * 12 + list(rare))


def steps(flows: list[Flow]) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        flow=st.sampled_from(flows),
        size=mostly(9, 4, 10, 0),
        flags=mostly(0x10, 0x18, 0x11, 0x02, 0x90),
        jump=mostly(0, 1, -9),
        hops=mostly(64, 63),
        options=mostly(b"", b"\1\1\1\1"),
        fragment=mostly(0x4000, 0x0000, 0x2000),
        flip=mostly(None, 0, 9, 12, 25, 44, 60),
    )


def play(script: list[Step]) -> list[bytes]:
    """The packets of a script; their payloads differ from one another."""
    sequences = dict.fromkeys(FLOWS, 2**32 - 40)
    packets = []
    for index, step in enumerate(script):
        sequence = (sequences[step.flow] + step.jump) % 2**32
        sequences[step.flow] = (sequence + step.size) % 2**32
        packet = bytearray(
            build(
                step.flow,
                bytes((index * 37 + n) % 256 for n in range(step.size)),
                sequence=sequence,
                flags=step.flags,
                options=step.options if step.flow.protocol == TCP else b"",
                hops=step.hops,
                ident=index,
                fragment=step.fragment,
            )
        )
        if step.flip is not None and step.flip < len(packet):
            packet[step.flip] ^= 0x80
        packets.append(bytes(packet))
    return packets


few_flows = st.lists(st.sampled_from(FLOWS), min_size=1, max_size=3)
scripts = few_flows.flatmap(lambda flows: st.lists(steps(flows), max_size=30))


def normal(packet: bytes) -> bytes:
    """Without what merging may change: IPv4 identification, and with it the header checksum."""
    return packet[:4] + packet[6:10] + packet[12:] if packet[:1] == b"\x45" else packet


@given(scripts, st.booleans())
def test_packets_are_grouped_as_the_oracle_groups_them(script: list[Step], uso: bool) -> None:
    packets = play(script)
    items = coalesce(packets, uso=uso)
    groups = slow_groups(packets, uso)
    assert [1 if item[0] == NO_OFFLOAD else len(item) - 2 for item in items] == [
        len(group) for group in groups
    ]
    for item, group in zip(items, groups, strict=True):
        again = slow_split(bytes(item[0]), b"".join(item[1:]))
        assert [normal(packet) for packet in again] == [normal(packets[index]) for index in group]
        if len(group) == 1:
            assert again == [packets[group[0]]]


@pytest.mark.slow
@given(scripts)
def test_what_is_coalesced_and_split_is_what_it_was(script: list[Step]) -> None:
    packets = play(script)
    items = coalesce([memoryview(packet) for packet in packets], uso=True)
    again = [segment for item in items for segment in split(item[0], b"".join(item[1:]))]
    assert sorted(map(normal, again)) == sorted(map(normal, packets))


supers = st.builds(
    lambda flow, n_options, size, payload, sequence, flags, ident: (
        flow,
        b"\1" * (4 * n_options) if flow.protocol == TCP else b"",
        size,
        payload,
        sequence,
        flags,
        ident,
    ),
    st.sampled_from(FLOWS),
    st.integers(0, 10),
    st.integers(1, 40),
    st.binary(min_size=1, max_size=400),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.integers(0, 65535),
)
Super = tuple[Flow, bytes, int, bytes, int, int, int]


def super_packet(made: Super) -> tuple[bytes, bytes]:
    """Virtio header and packet as the kernel gives them: the pseudo-header's sum in the checksum field."""
    flow, options, size, payload, sequence, flags, ident = made
    packet = bytearray(build(flow, payload, sequence=sequence, flags=flags, options=options, ident=ident))
    start, field = (20 if flow.is_v4 else 40), (16 if flow.protocol == TCP else 6)
    at = start + field
    packet[at : at + 2] = slow_pseudo(bytes(packet), start).to_bytes(2, "big")
    kind = 5 if flow.protocol == UDP else 1 if flow.is_v4 else 4
    return struct.pack("=BBHHHH", 1, kind, 0, size, start, field), bytes(packet)


@given(supers)
def test_super_packets_are_split_as_the_oracle_splits_them(made: Super) -> None:
    header, packet = super_packet(made)
    assert split(header, packet) == slow_split(header, packet)


@given(supers)
def test_an_unfinished_packet_is_finished_as_the_oracle_does(made: Super) -> None:
    header, packet = super_packet(made)
    whole = header[:1] + b"\0" + header[2:]
    assert split(whole, packet) == [slow_finish(bytearray(packet), *struct.unpack_from("=HH", header, 6))]


@given(supers)
def test_segments_of_plain_data_become_the_super_packet_again(made: Super) -> None:
    flow, options, size, payload, sequence, _, ident = made
    header, packet = super_packet((flow, options, size, payload[: size * 60], sequence, 0x18, ident))
    segments = split(header, packet)
    (item,) = coalesce(segments, uso=True)
    if len(segments) == 1:
        assert item == [NO_OFFLOAD, segments[0]]
    else:
        assert b"".join(item[1:]) == packet


# Any bytes


@given(st.binary(max_size=HEADER_SIZE + 2) | st.binary(min_size=10, max_size=10), st.binary(max_size=120))
def test_split_is_total(header: bytes, packet: bytes) -> None:
    try:
        segments = split(header, packet)
    except MalformedPacket:
        return
    assert segments


@given(
    st.tuples(st.just(1), st.sampled_from([0, 1, 4, 5, 0x81]), *[st.integers(0, 70)] * 4),
    st.sampled_from([b"\x45", b"\x46", b"\x60", b""]),
    st.binary(max_size=120),
)
def test_split_is_total_on_what_looks_right(
    fields: tuple[int, int, int, int, int, int], first: bytes, rest: bytes
) -> None:
    try:
        segments = split(struct.pack("=BBHHHH", *fields), first + rest)
    except MalformedPacket:
        return
    assert segments


@given(st.lists(st.binary(max_size=80), max_size=8), st.booleans())
def test_coalesce_passes_any_bytes_on(packets: list[bytes], uso: bool) -> None:
    items = coalesce(packets, uso=uso)
    assert [item[1] for item in items] == packets
    assert all(item[0] == NO_OFFLOAD for item in items)


@given(st.binary(max_size=100))
def test_parsers_raise_nothing_but_malformed_packet(data: bytes) -> None:
    for parse in (parse_ip, parse_tcp, parse_udp, length_of, source_of, destination_of):
        try:
            parse(data)
        except MalformedPacket:
            continue


@given(st.binary(max_size=300), st.integers(0, 3), st.integers(1, 50))
def test_sums_are_those_of_the_definition(data: bytes, offset: int, size: int) -> None:
    assert ones_sum(data) == slow_sum(data)
    assert checksum(data) == 0xFFFF ^ slow_sum(data)
    offset = min(offset, len(data))
    assert segment_sums(data, offset, size) == [
        slow_sum(data[at : at + size]) % 0xFFFF for at in range(offset, len(data), size)
    ]
