"""The relay's core, driven frame by frame."""

from itertools import count

import pytest

from coderd.derp.connection import CloseReason, Connection
from coderd.derp.frame import (
    DISCO_MAGIC,
    Frame,
    FrameReader,
    FrameType,
    encode_frame,
    encode_send_packets,
)
from coderd.derp.handshake import ClientInfo, encode_client_info
from coderd.derp.relay import MAX_FRAMES, RUN, Introduction, Relay
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePrivate, NodePublic, ServerPrivate

SERVER = ServerPrivate(b"s" * 32)
A, B, C = (NodePrivate(letter * 32) for letter in (b"a", b"b", b"c"))
A_KEY, B_KEY, C_KEY = A.public(), B.public(), C.public()
DISCO = DISCO_MAGIC + bytes(56)


@pytest.fixture
def relay() -> Relay:
    counter = count()
    return Relay(SERVER, rng=lambda n: next(counter).to_bytes(n))


def join(relay: Relay, key: NodePublic, now: float = 0.0) -> Connection:
    connection = relay.connect(key, ClientInfo(), now)
    assert take(connection)[0].kind == FrameType.SERVER_INFO
    return connection


def take(connection: Connection) -> list[Frame]:
    reader = FrameReader()
    while (data := connection.poll_transmit()) is not None:
        reader.feed(data)
    return list(reader)


def received(connection: Connection) -> list[tuple[NodePublic, bytes]]:
    frames = [frame for frame in take(connection) if frame.kind == FrameType.RECV_PACKET]
    return [(NodePublic(frame.payload[:32]), frame.payload[32:]) for frame in frames]


def gone(connection: Connection) -> list[bytes]:
    return [
        encode_frame(FrameType(f.kind), f.payload) for f in take(connection) if f.kind == FrameType.PEER_GONE
    ]


def test_a_packet_arrives_under_its_senders_key(relay: Relay) -> None:
    a, b = join(relay, A_KEY), join(relay, B_KEY)
    relay.handle_data(a, encode_send_packets(B_KEY, [b"\x04one", b"\x04two", b"\x04three"]), 0.0)
    assert received(b) == [(A_KEY, b"\x04one"), (A_KEY, b"\x04two"), (A_KEY, b"\x04three")]
    assert relay.stats()[A_KEY].packets_in == relay.stats()[B_KEY].packets_out == 3
    assert relay.counters["derp.relay.packets"] == 3


def test_a_client_reaches_itself_and_may_send_nothing_at_all(relay: Relay) -> None:
    a = join(relay, A_KEY)
    relay.handle_data(a, encode_send_packets(A_KEY, [b"me", b""]), 0.0)
    assert received(a) == [(A_KEY, b"me"), (A_KEY, b"")]


def test_interleaved_destinations_each_keep_their_order(relay: Relay) -> None:
    a, b, c = join(relay, A_KEY), join(relay, B_KEY), join(relay, C_KEY)
    for index in range(6):
        to = (B_KEY, C_KEY)[index % 2]
        relay.handle_data(a, encode_send_packets(to, [bytes([index])]), 0.0)
    assert [packet for _, packet in received(b)] == [b"\0", b"\2", b"\4"]
    assert [packet for _, packet in received(c)] == [b"\1", b"\3", b"\5"]


def test_the_largest_packet_passes_and_a_larger_one_closes(relay: Relay) -> None:
    a, b = join(relay, A_KEY), join(relay, B_KEY)
    relay.handle_data(a, encode_send_packets(B_KEY, [bytes(65536)]), 0.0)
    assert received(b) == [(A_KEY, bytes(65536))]
    relay.handle_data(a, b"\x04" + (65537 + 32).to_bytes(4), 0.0)
    assert a.closing is CloseReason.MALFORMED


@pytest.mark.parametrize(
    "data",
    [
        encode_frame(FrameType.SEND_PACKET, bytes(31)),
        encode_frame(FrameType.NOTE_PREFERRED, b""),
        encode_frame(FrameType.NOTE_PREFERRED, b"\1\1"),
        encode_frame(FrameType.PING, bytes(7)),
        encode_frame(FrameType.PING, bytes(1001)),
        encode_frame(FrameType.WATCH_CONNS, b"x"),
        encode_frame(FrameType.FORWARD_PACKET, bytes(63)),
        encode_frame(FrameType.CLOSE_PEER, bytes(31)),
        b"\x77\xff\xff\xff\xff",
    ],
)
def test_bad_frames_close_the_connection(relay: Relay, data: bytes) -> None:
    a = join(relay, A_KEY)
    relay.handle_data(a, data, 0.0)
    assert a.closing is CloseReason.MALFORMED


@pytest.mark.parametrize(
    ("frame", "n_at_once"),
    [
        (b"\x77\0\0\0\0", MAX_FRAMES),
        (encode_frame(FrameType.PING, bytes(8)), MAX_FRAMES),
        (encode_send_packets(B_KEY, [DISCO]), MAX_FRAMES),
        (encode_send_packets(B_KEY, [b"\x04"]), MAX_FRAMES * RUN),
    ],
    ids=["unknown", "ping", "disco", "a run of packets"],
)
def test_tiny_frames_are_worked_off_in_turns_and_none_is_lost(
    relay: Relay, frame: bytes, n_at_once: int
) -> None:
    a, b = join(relay, A_KEY), join(relay, B_KEY)
    n_turns = 1
    is_more = relay.handle_data(a, frame * 5000 + encode_send_packets(B_KEY, [b"last"]), 0.0)
    while is_more:
        assert a.bytes_in <= n_turns * n_at_once * len(frame)
        n_turns += 1
        is_more = relay.handle_data(a, b"", 0.0)
    assert n_turns == 1 + 5000 // n_at_once
    assert received(b)[-1] == (A_KEY, b"last")


def test_keep_alives_come_every_60_to_65_seconds(relay: Relay) -> None:
    a = join(relay, A_KEY)
    first = a.poll_timeout().when
    assert 60 <= first <= 65
    a.handle_timeout(first - 0.1)
    assert take(a) == []
    a.handle_timeout(first)
    assert take(a) == [(FrameType.KEEP_ALIVE, b"")]
    assert a.poll_timeout().when == 2 * first


def test_closing_a_client_wakes_all_its_connections(relay: Relay) -> None:
    mine = {join(relay, A_KEY), join(relay, A_KEY)}
    while relay.poll_woken():
        pass
    assert relay.close_client(A_KEY) == 2
    assert {relay.poll_woken(), relay.poll_woken()} == mine
    assert all(connection.closing is CloseReason.KEY_REPLACED for connection in mine)
    assert relay.close_client(B_KEY) == 0


def test_a_first_frame_other_than_client_info_is_refused_at_its_first_byte() -> None:
    with pytest.raises(MalformedPacket):
        Introduction(SERVER).handle_data(b"\x12")


def test_client_info_that_somebody_else_sealed_is_refused() -> None:
    frame = bytearray(encode_client_info(ClientInfo(), A, SERVER.public(), bytes))
    frame[5:37] = B_KEY
    with pytest.raises(MalformedPacket):
        Introduction(SERVER).handle_data(frame)


@pytest.mark.parametrize("length", [0, 55, 256 * 1024 + 1])
def test_client_info_of_an_impossible_size_is_refused(length: int) -> None:
    with pytest.raises(MalformedPacket):
        Introduction(SERVER).handle_data(b"\x02" + length.to_bytes(4) + bytes(min(length, 100)))
