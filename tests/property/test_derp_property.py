"""However a stream is cut and whatever is in it, DERP's readers agree and complain in one way only."""

from contextlib import suppress
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from coderd.derp.client import DerpClient, Packets
from coderd.derp.frame import (
    FrameReader,
    FrameType,
    encode_frame,
    encode_send_packets,
    encode_server_key,
    parse_peer_gone,
    parse_restarting,
    parse_server_key,
)
from coderd.derp.handshake import (
    ClientInfo,
    ServerInfo,
    encode_client_info,
    encode_server_info,
    parse_client_info,
    parse_client_info_json,
    parse_server_info,
)
from coderd.derp.queue import PacketQueue
from coderd.derp.relay import Introduction, Relay
from coderd.http.head import parse_request_head, parse_response_head
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePrivate, NodePublic, ServerPrivate
from tests.derp_frames import encode_recv_packets

SERVER = ServerPrivate(b"s" * 32)
ME, PEER, OTHER = (NodePrivate(letter * 32) for letter in (b"m", b"p", b"o"))

packets = st.lists(
    st.one_of(st.binary(max_size=80), st.just(b"\x04" * 40), st.just(b"TS" + bytes(70))), max_size=12
)
batches = st.lists(st.tuples(st.sampled_from([PEER.public(), OTHER.public()]), packets), max_size=5)
frames = st.lists(
    st.builds(encode_frame, st.sampled_from(FrameType), st.binary(max_size=40)) | st.binary(max_size=20),
    max_size=8,
).map(b"".join)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def read(parts: list[bytes]) -> list[object]:
    reader = FrameReader()
    found: list[object] = []
    try:
        for part in parts:
            reader.feed(part)
            for frame in reader:
                found.append(frame)
    except MalformedPacket:
        found.append(MalformedPacket)
    return found


@given(frames)
def test_a_reader_fed_whole_or_byte_by_byte_finds_the_same_frames(data: bytes) -> None:
    whole = read([data])
    single = read([data[at : at + 1] for at in range(len(data))])
    assert single == whole


@given(st.binary(max_size=200))
def test_parsers_take_any_bytes(data: bytes) -> None:
    for parse in (parse_server_key, parse_peer_gone, parse_restarting, parse_client_info_json):
        with suppress(MalformedPacket):
            parse(data)
    for parse_head in (parse_request_head, parse_response_head):
        with suppress(MalformedPacket):
            parse_head(data)
    with suppress(MalformedPacket):
        parse_client_info(data, SERVER)
    with suppress(MalformedPacket):
        parse_server_info(data, ME, SERVER.public())


@given(st.text(alphabet='{}[]":,0123456789.eE-+truefalsn versionmeshKeyCanAckPings', max_size=60))
def test_json_is_taken_or_malformed(text: str) -> None:
    with suppress(MalformedPacket):
        assert isinstance(parse_client_info_json(text.encode()), ClientInfo)


def admitted() -> DerpClient:
    client = DerpClient(ME, is_home=False, rng=bytes, now=0.0)
    client.handle_data(encode_server_key(SERVER.public()), 0.0)
    client.handle_data(encode_server_info(ServerInfo(), SERVER, ME.public(), bytes), 0.0)
    client.poll_event()
    return client


@given(batches, st.lists(st.integers(0, 5000), max_size=6))
def test_a_client_gets_every_packet_in_order_however_they_arrive(
    sent: list[tuple[NodePublic, list[bytes]]], cuts: list[int]
) -> None:
    client, got = admitted(), []
    for piece in pieces(b"".join(encode_recv_packets(key, batch) for key, batch in sent), cuts):
        client.handle_data(piece, 0.0)
    while (event := client.poll_event()) is not None:
        assert isinstance(event, Packets)
        got += [(event.sender, packet) for packet in event.packets]
    assert got == [(key, packet) for key, batch in sent for packet in batch]


@given(frames)
def test_a_client_takes_any_bytes(data: bytes) -> None:
    with suppress(MalformedPacket):
        admitted().handle_data(data, 0.0)


@given(batches, st.lists(st.integers(0, 5000), max_size=6))
def test_a_relay_passes_every_packet_however_they_arrive(
    sent: list[tuple[NodePublic, list[bytes]]], cuts: list[int]
) -> None:
    relay = Relay(SERVER, rng=bytes)
    me, *others = (relay.connect(key.public(), ClientInfo(), 0.0) for key in (ME, PEER, OTHER))
    for piece in pieces(b"".join(encode_send_packets(key, batch) for key, batch in sent), cuts):
        relay.handle_data(me, piece, 0.0)
    for receiver in others:
        expected = [packet for key, batch in sent if key == receiver.key for packet in batch]
        reader = FrameReader()
        reader.feed(receiver.poll_transmit() or b"")
        got = [frame.payload[32:] for frame in reader if frame.kind == FrameType.RECV_PACKET]
        assert got == expected


@given(frames)
def test_a_relay_takes_any_bytes(data: bytes) -> None:
    relay = Relay(SERVER, rng=bytes)
    connection = relay.connect(ME.public(), ClientInfo(), 0.0)
    relay.handle_data(connection, data, 0.0)


@given(st.binary(max_size=300), st.lists(st.integers(0, 5000), max_size=6))
def test_an_introduction_takes_any_bytes_cut_anywhere(data: bytes, cuts: list[int]) -> None:
    def introduce(parts: list[bytes]) -> object:
        introduction = Introduction(SERVER)
        try:
            for part in parts:
                introduction.handle_data(part)
        except MalformedPacket:
            return MalformedPacket
        return introduction.leftover()

    assert introduce(pieces(data, cuts)) == introduce([data])


@given(st.binary(max_size=40), st.lists(st.integers(0, 5000), max_size=6))
def test_a_client_is_known_by_its_introduction_however_it_is_cut(after: bytes, cuts: list[int]) -> None:
    info = encode_client_info(ClientInfo(app_name="x"), ME, SERVER.public(), bytes)
    introduction, rest, known = Introduction(SERVER), b"", None
    for piece in pieces(info + after, cuts):
        if known is None:
            known = introduction.handle_data(piece)
        else:
            rest += piece
    assert known == (ME.public(), ClientInfo(app_name="x", can_ack_pings=False))
    assert introduction.leftover() + rest == after


@given(st.booleans(), st.binary(max_size=120), st.lists(st.integers(0, 5000), max_size=6))
def test_a_greeting_of_any_bytes_is_one_or_malformed(knows_key: bool, data: bytes, cuts: list[int]) -> None:
    server_key = SERVER.public() if knows_key else None
    client = DerpClient(ME, is_home=True, rng=bytes, now=0.0, server_key=server_key)
    assert (client.poll_transmit() is not None) == knows_key, "who knows the key speaks first"
    with suppress(MalformedPacket):
        for piece in pieces(data, cuts):
            client.handle_data(piece, 0.0)
    assert not client.is_greeted


@given(st.lists(st.lists(st.binary(max_size=30), min_size=1, max_size=9), max_size=12))
def test_a_queue_keeps_the_newest_packets_that_fit(runs: list[list[bytes]]) -> None:
    queue, everything, dropped = PacketQueue(10, 700), [], 0
    for run in runs:
        dropped += queue.push(encode_send_packets(PEER.public(), run), len(run))
        everything += run
    kept = everything[dropped:]
    assert queue.n_packets == len(kept) <= 10
    assert b"".join(queue.take(10_000)) == b"".join(
        encode_send_packets(PEER.public(), [packet]) for packet in kept
    )
    assert queue.n_bytes == queue.n_packets == 0
