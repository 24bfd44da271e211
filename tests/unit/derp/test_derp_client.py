"""The client's end of a connection, against hand-made frames."""

import pytest

from coderd.derp.client import DerpClient, Health, Packets
from coderd.derp.frame import (
    DISCO_MAGIC,
    FrameReader,
    FrameType,
    PeerGone,
    Restarting,
    encode_frame,
    encode_note_preferred,
    encode_send_packets,
    encode_server_key,
)
from coderd.derp.handshake import ServerInfo, encode_server_info
from coderd.metrics import Counters
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePrivate, ServerPrivate
from tests.derp_frames import encode_recv_packets

SERVER = ServerPrivate(b"s" * 32)
ME = NodePrivate(b"m" * 32)
PEER, OTHER = NodePrivate(b"p" * 32).public(), NodePrivate(b"o" * 32).public()


def admitted(
    info: ServerInfo | None = None, *, is_home: bool = False, counters: Counters | None = None
) -> DerpClient:
    client = DerpClient(ME, is_home=is_home, rng=bytes, now=0.0, counters=counters)
    client.handle_data(encode_server_key(SERVER.public()), 0.0)
    client.handle_data(encode_server_info(info or ServerInfo(), SERVER, ME.public(), bytes), 0.0)
    assert client.poll_transmit() is not None
    client.poll_event()
    return client


def test_packets_of_one_sender_in_one_piece_are_one_event() -> None:
    client = admitted()
    sizes = [[b"a" * 100] * 5 + [b"b" * 7], [b"c"]]
    client.handle_data(encode_recv_packets(PEER, sizes[0]) + encode_recv_packets(OTHER, sizes[1]), 1.0)
    assert client.poll_event() == Packets(PEER, sizes[0])
    assert client.poll_event() == Packets(OTHER, sizes[1])
    assert client.poll_event() is None


def test_news_about_peers_and_the_relay_become_events() -> None:
    client = admitted()
    client.handle_data(
        encode_frame(FrameType.PEER_GONE, PEER + b"\x01")
        + encode_frame(FrameType.HEALTH, b"dup client")
        + encode_frame(FrameType.RESTARTING, bytes(8)),
        1.0,
    )
    events = [client.poll_event() for _ in range(4)]
    assert events == [PeerGone(PEER, 1), Health("dup client"), Restarting(0.0, 0.0), None]


def test_short_frames_are_dropped_and_unknown_ones_skipped() -> None:
    counters = Counters()
    client = admitted(counters=counters)
    for kind in (FrameType.PEER_GONE, FrameType.RECV_PACKET, FrameType.PING, FrameType.RESTARTING):
        client.handle_data(encode_frame(kind, b"short"), 1.0)
    client.handle_data(b"\x77\0\0\0\1x" + encode_server_key(SERVER.public()), 1.0)
    assert client.poll_event() is None
    assert client.poll_transmit() is None
    assert counters["derp.drop.short_frame"] == 4


def test_the_relays_ping_is_answered() -> None:
    client = admitted()
    client.handle_data(encode_frame(FrameType.PING, b"12345678extra"), 1.0)
    assert client.poll_transmit() == encode_frame(FrameType.PONG, b"12345678")


def test_a_change_of_home_is_told_once() -> None:
    client = admitted(is_home=True)
    client.note_preferred(True)
    assert client.poll_transmit() is None
    client.note_preferred(False)
    assert client.poll_transmit() == encode_note_preferred(False)


def test_everything_that_waits_leaves_in_one_write() -> None:
    client = admitted()
    packets = [b"\x04" * 200] * 20 + [b"\x04tail"]
    client.send(PEER, packets, 1.0)
    client.send(OTHER, [b"\x04x"], 1.0)
    assert client.poll_transmit() == encode_send_packets(PEER, packets) + encode_send_packets(
        OTHER, [b"\x04x"]
    )


def test_a_full_queue_drops_the_oldest_and_spares_disco() -> None:
    counters = Counters()
    client = admitted(counters=counters)
    disco = DISCO_MAGIC + bytes(60)
    client.send(PEER, [disco], 1.0)
    packets = [index.to_bytes(2) for index in range(0x100, 0x100 + 600)]
    client.send(PEER, packets, 1.0)
    sent = b""
    while (data := client.poll_transmit()) is not None:
        sent += data
    assert sent == encode_send_packets(PEER, [disco]) + encode_send_packets(PEER, packets[-512:])
    assert counters["derp.drop.queue_full"] == 88


def test_a_relays_rate_limit_is_kept() -> None:
    counters = Counters()
    client = admitted(ServerInfo(2, 1000, 500), counters=counters)
    client.send(PEER, [bytes(100)] * 10, 1.0)
    reader = FrameReader()
    reader.feed(client.poll_transmit() or b"")
    assert len(list(reader)) == 3
    assert counters["derp.drop.rate_limited"] == 7


def test_a_silent_relay_is_asked_and_then_given_up_within_five_seconds() -> None:
    client = admitted()
    first = client.poll_timeout()
    assert first.why == "ping"
    client.handle_timeout(first.when)
    assert client.poll_transmit() == encode_frame(FrameType.PING, bytes(8))
    last = client.poll_timeout()
    assert last.why == "silence"
    assert last.when < 5.0
    with pytest.raises(MalformedPacket):
        client.handle_timeout(last.when)


def test_any_sign_of_life_is_enough() -> None:
    client = admitted()
    client.handle_timeout(client.poll_timeout().when)
    client.handle_data(encode_frame(FrameType.KEEP_ALIVE), 4.0)
    assert client.poll_timeout() == (6.0, "ping")


@pytest.mark.parametrize(
    "data",
    [
        encode_frame(FrameType.KEEP_ALIVE),
        encode_frame(FrameType.SERVER_KEY, bytes(40)),
        b"\x01\x00\x10\x00\x01",
        encode_server_key(SERVER.public()) + encode_frame(FrameType.SERVER_INFO, bytes(50)),
    ],
)
def test_what_is_no_relay_is_recognised(data: bytes) -> None:
    client = DerpClient(ME, is_home=False, rng=bytes, now=0.0)
    with pytest.raises(MalformedPacket):
        client.handle_data(data, 0.0)
