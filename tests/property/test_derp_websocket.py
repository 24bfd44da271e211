"""A WebSocket carries all bytes in order, however it is cut, and takes anything without raising."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from coderd.derp.websocket import MAX_FRAMES, MAX_MESSAGE, WebSocket
from coderd.http.ws_handshake import accept_proof, is_key

cuts = st.lists(st.integers(0, 100_000), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def read(socket: WebSocket, parts: list[bytes]) -> bytes:
    got = b""
    for part in parts:
        socket.handle_data(part)
        while (data := socket.poll_data()) is not None:
            got += data
    return got


@given(st.lists(st.binary(max_size=300) | st.just(bytes(MAX_MESSAGE + 1)), max_size=5), cuts, st.booleans())
def test_bytes_arrive_as_they_were_written(writes: list[bytes], cuts: list[int], is_client: bool) -> None:
    sender, receiver = WebSocket(is_client=is_client), WebSocket(is_client=not is_client)
    wire = b"".join(map(sender.encode, writes))
    assert read(receiver, pieces(wire, cuts)) == b"".join(writes)
    assert not receiver.is_ended


@given(st.integers(0, 5 * MAX_MESSAGE))
def test_no_message_is_longer_than_tailscales_relay_takes(size: int) -> None:
    foreign = Connection(ConnectionType.SERVER)
    foreign.receive_data(WebSocket(is_client=True).encode(bytes(size)))
    sizes = [len(event.data) for event in foreign.events() if isinstance(event, BytesMessage)]
    assert sum(sizes) == size
    assert max(sizes, default=0) <= 32_768


@given(st.binary(max_size=300), cuts, st.booleans())
def test_any_bytes_are_taken_and_a_broken_protocol_is_the_end(
    data: bytes, cuts: list[int], is_client: bool
) -> None:
    whole, cut = WebSocket(is_client=is_client), WebSocket(is_client=is_client)
    assert read(cut, pieces(data, cuts)) == read(whole, [data])
    assert cut.is_ended == whole.is_ended
    if whole.is_ended:
        assert read(whole, [b"more"]) == whole.encode(b"more") == b""


@given(st.lists(st.sampled_from("btpc"), max_size=12))
def test_controls_between_messages_are_answered_and_bounded(kinds: list[str]) -> None:
    foreign, ours = Connection(ConnectionType.CLIENT), WebSocket(is_client=False)
    wire, expected = b"", b""
    for kind in kinds:
        match kind:
            case "b":
                wire += foreign.send(BytesMessage(b"bytes"))
                expected += b"bytes"
            case "p":
                wire += foreign.send(Ping(b"ping"))
            case "t":
                wire += foreign.send(TextMessage("text"))
                break
            case "c":
                wire += foreign.send(CloseConnection(1000))
                break
    assert read(ours, [wire]) == expected
    end = next((kind for kind in kinds if kind in "tc"), "")
    assert ours.is_ended == bool(end)
    answers = ours.poll_control()
    assert len(answers) <= 2 + 4 + 2 + 125
    foreign.receive_data(answers)
    assert not ours.poll_control()
    for event in foreign.events():
        if isinstance(event, CloseConnection):
            assert event.code == (1003 if end == "t" else 1000)


def test_tiny_frames_are_worked_off_in_bounded_portions() -> None:
    sender, receiver = WebSocket(is_client=True), WebSocket(is_client=False)
    receiver.handle_data(b"".join(sender.encode(b"x") for _ in range(MAX_FRAMES * 3)))
    portions = []
    while (data := receiver.poll_data()) is not None:
        portions.append(len(data))
    assert portions == [MAX_FRAMES] * 3


@given(st.text(max_size=40))
def test_a_key_is_one_or_not(key: str) -> None:
    assert is_key(key) in (True, False)


def test_the_accept_of_the_rfcs_example() -> None:
    assert is_key("dGhlIHNhbXBsZSBub25jZQ==")
    assert accept_proof("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
