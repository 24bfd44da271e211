"""One client does its worst within its limits, and nobody's turn is longer for it: events are counted between two checkpoints.

Not times but calls of the parsers are counted, while the loop runs one step of one task. ``tests/test_received_events.py`` finds
loops that count nothing.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import h11
import pytest
import trio
import trio.testing
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from wsproto.frame_protocol import FrameDecoder
from wsproto.utilities import generate_accept_token

import coderd.derp.client
import coderd.derp.relay
from coderd.control.io.server import serve_control
from coderd.control.protocol import LineSplitter
from coderd.coordination.registry import Registry
from coderd.derp.client import DerpClient
from coderd.derp.frame import HEADER_SIZE, FrameType, encode_frame, encode_send_packets
from coderd.derp.io.client import DerpLink
from coderd.derp.io.server import READ_SIZE
from coderd.derp.relay import MAX_FRAMES, RUN, Relay
from coderd.http.body import BodyTooLarge, read_body
from coderd.http.relay_routes import refuse_derp
from coderd.http.server import open_tcp_listeners, serve_http
from coderd.http.turns import MAX_EVENTS
from coderd.http.websocket import TextRoute, TextSocket, WebSocketClosed
from coderd.model import limits
from coderd.model.errors import MalformedPacket
from coderd.terminal import frames
from coderd.terminal.frames import FrameSplitter
from tests.shell import apps_world, control_world, derp_world, terminal_world
from tests.shell.apps_world import PREFIX, WEBSOCKET_KEY, until_seen
from tests.shell.derp_world import A

FLOOD = 200_000
"""Bytes that come at once: more than any one read takes."""
MASK = bytes(4)
EMPTY_PART = b"\x00\x80" + MASK
PONG = b"\x8a\x80" + MASK
PING = b"\x89\x80" + MASK
EMPTY_MESSAGE = b"\x82\x80" + MASK
BEGIN = b"\x01\x80" + MASK
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", WEBSOCKET_KEY)


class Turns(trio.abc.Instrument):
    """How many events were worked off in one step of a task, at most; and in all."""

    def __init__(self) -> None:
        self.most = self.total = self._in_step = self._wanted = 0
        self._reached = trio.Event()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._in_step = 0

    def note(self, n_events: int = 1) -> None:
        self._in_step += n_events
        self.total += n_events
        self.most = max(self.most, self._in_step)
        if self.total >= self._wanted:
            self._reached.set()

    async def wait_for(self, n_events: int) -> None:
        """Until so many events have been worked off; ten seconds at most."""
        self._wanted, self._reached = n_events, trio.Event()
        with trio.move_on_after(0 if self.total >= n_events else 10):
            await self._reached.wait()

    def counting(self, method: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **options: object) -> object:
            self.note()
            return method(*args, **options)

        return counted

    def counting_bytes(self, handle_data: Callable[..., object], size: int) -> Callable[..., object]:
        """Of a relay's ends: what one call takes out of the buffer, in frames of this size."""

        def counted(end: object, *args: object) -> object:
            given = args[-2]
            assert isinstance(given, bytes | bytearray)
            before = self._waiting(end, args) + len(given)
            try:
                return handle_data(end, *args)
            finally:
                self.note((before - self._waiting(end, args)) // size)

        return counted

    @staticmethod
    def _waiting(end: object, args: tuple[object, ...]) -> int:
        reader = end._readers.get(args[0]) if isinstance(end, Relay) else end._reader  # type: ignore[attr-defined, call-overload]
        return len(reader.buffer) if reader is not None else 0


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    turns = Turns()
    for kind, name in (
        (FrameDecoder, "process_buffer"),
        (h11.Connection, "next_event"),
        (LineSplitter, "next_line"),
        (FrameSplitter, "next_frame"),
        (Registry, "poll"),
    ):
        monkeypatch.setattr(kind, name, turns.counting(getattr(kind, name)))
    return turns


@asynccontextmanager
async def watching(turns: Turns, n_events: int) -> AsyncIterator[None]:
    """Counts while the block lasts, until so many events have been worked off; no turn may have more than its share."""
    trio.lowlevel.add_instrument(turns)
    try:
        yield
        await turns.wait_for(n_events)
    finally:
        trio.lowlevel.remove_instrument(turns)
    assert turns.total >= n_events, "the flood did not get in"
    assert turns.most <= MAX_EVENTS + 2, f"{turns.most} events in one turn"


async def pour(stream: trio.abc.SendStream, data: bytes) -> None:
    """As much as the other end takes."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.send_all(data)


# WebSockets of the server

FRAMES = {
    "parts": BEGIN + EMPTY_PART * 5000,
    "pongs": PONG * 5000,
    "pings": PING * 500,
    "messages": EMPTY_MESSAGE * 500,
}


@pytest.mark.parametrize("flood", FRAMES.values(), ids=FRAMES.keys())
async def test_tiny_frames_of_a_browser_take_turns(turns: Turns, flood: bytes) -> None:
    async with apps_world.world() as here:
        stream = await here.ask(f"GET {PREFIX}/echo", *UPGRADE)
        async with stream:
            await until_seen(stream, b"\r\n\r\n")
            async with watching(turns, 400), trio.open_nursery() as nursery:
                nursery.start_soon(pour, stream, flood)
                with trio.move_on_after(0.3):
                    while await stream.receive_some():
                        pass
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "flood",
    [b"\x01\0" + b"\0\0" * 50_000, b"\x8a\0" * 50_000, b"\x82\0" * 2000, b"\x89\0" * 500],
    ids=["parts", "pongs", "messages", "pings"],
)
async def test_tiny_frames_of_an_app_take_turns(turns: Turns, flood: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        asked = await stream.receive_some()
        (key,) = (
            line.partition(b": ")[2] for line in asked.split(b"\r\n") if line.startswith(b"sec-websocket-key")
        )
        accepted = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        await pour(stream, accepted + generate_accept_token(key) + b"\r\n\r\n" + flood)
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass

    async with apps_world.world() as here:
        await here.serve(9000, serve)
        async with watching(turns, 400), await here.ask("GET /@ann/dev/apps/9000/", *UPGRADE) as stream:
            with trio.move_on_after(0.5):
                while await stream.receive_some():
                    pass


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 100 \r\n\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2000,
    ],
    ids=["announcements", "chunks"],
)
@pytest.mark.parametrize("fields", [(), UPGRADE], ids=["request", "websocket"])
async def test_an_answer_of_tiny_pieces_takes_turns(
    turns: Turns, said: bytes, fields: tuple[str, ...]
) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await pour(stream, said)

    async with apps_world.world() as here:
        await here.serve(9000, serve)
        n_events = limits.MAX_APP_INTERIM if b" 100 " in said else 400
        async with watching(turns, n_events), await here.ask("GET /@ann/dev/apps/9000/", *fields) as stream:
            with trio.move_on_after(1):
                while await stream.receive_some():
                    pass


async def test_an_upload_of_tiny_chunks_takes_turns(turns: Turns) -> None:
    async with apps_world.world() as here:
        stream = await here.ask(f"POST {PREFIX}/upload", "Transfer-Encoding: chunked")
        async with stream, watching(turns, 400):
            await pour(stream, b"1\r\nx\r\n" * 2000)


async def test_who_takes_nothing_of_an_answer_takes_turns(turns: Turns) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await pour(stream, b"HTTP/1.1 200 OK\r\n\r\n" + bytes(20_000_000))

    async with apps_world.world() as here:
        await here.serve(9000, serve)
        async with watching(turns, 3), await here.ask("GET /@ann/dev/apps/9000/"):
            await trio.sleep(0.3)


@asynccontextmanager
async def texts(max_message: int) -> AsyncIterator[tuple[trio.SocketStream, list[str]]]:
    """A WebSocket of texts on a connection of its own, as coordination has them, and how it ended."""
    ended: list[str] = []

    async def take(socket: TextSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.receive_text()
        except (MalformedPacket, WebSocketClosed) as error:
            ended.append(str(error))

    async with trio.open_nursery() as nursery:
        (listener, *_) = await open_tcp_listeners(0, host="127.0.0.1")

        async def run(task_status: trio.TaskStatus[None]) -> None:
            app = PlainTextResponse("no")
            routes = {"/texts": TextRoute(take, max_message)}
            await serve_http([listener], app, derp=refuse_derp, websockets=routes, task_status=task_status)

        await nursery.start(run)
        stream = await trio.open_tcp_stream(*listener.socket.getsockname()[:2])
        await stream.send_all("\r\n".join(["GET /texts HTTP/1.1", "Host: x", *UPGRADE, "", ""]).encode())
        async with stream:
            await until_seen(stream, b"\r\n\r\n")
            yield stream, ended
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("flood", [b"\x81\x80" + MASK, PONG, PING], ids=["texts", "pongs", "pings"])
async def test_tiny_frames_of_a_node_take_turns(turns: Turns, flood: bytes) -> None:
    async with texts(1 << 16) as (stream, _), watching(turns, 400):
        await pour(stream, flood * 600)


async def test_a_message_that_never_ends_is_too_long_though_its_parts_are_empty(turns: Turns) -> None:
    async with texts(1 << 16) as (stream, ended):
        async with watching(turns, (1 << 16) // 14):
            await pour(stream, BEGIN + EMPTY_PART * 6000)
        await trio.testing.wait_all_tasks_blocked()
        assert ended
        assert "more than 65536" in ended[0]


async def test_what_comes_behind_a_message_that_was_too_big_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hypercorn went on reading, one frame of each read, and kept the rest for ever."""
    monkeypatch.setattr("coderd.http.hypercorn_websocket.MAX_WEBSOCKET_MESSAGE", 10_000)
    async with apps_world.world() as here:
        stream = await here.ask(f"GET {PREFIX}/echo", *UPGRADE)
        async with stream, trio.open_nursery() as nursery:
            await until_seen(stream, b"\r\n\r\n")
            nursery.start_soon(pour, stream, BEGIN + EMPTY_PART * 1000)
            closing = await until_seen(stream, (1009).to_bytes(2))
            assert b"\x88" in closing
            with trio.fail_after(5), suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(EMPTY_PART * 10)
                    await trio.sleep(0.05)


async def test_nothing_is_unpacked() -> None:
    """64 KiB of deflate may be 64 MiB."""
    async with apps_world.world() as here:
        stream = await here.ask(
            f"GET {PREFIX}/echo", *UPGRADE, "Sec-WebSocket-Extensions: permessage-deflate"
        )
        async with stream:
            answer = await until_seen(stream, b"\r\n\r\n")
            assert b" 101 " in answer
            assert b"extensions" not in answer.lower()


# The relay

TINY = {
    "unknown": b"\x77\0\0\0\0",
    "pings": encode_frame(FrameType.PING, bytes(8)),
    "packets": encode_send_packets(A.public(), [b"\x04"]),
    "to nobody": encode_send_packets(derp_world.B.public(), [b"\x04"]),
}


@pytest.mark.parametrize("is_websocket", [False, True], ids=["upgrade", "websocket"])
@pytest.mark.parametrize("frame", TINY.values(), ids=TINY.keys())
async def test_tiny_frames_of_a_relay_client_take_turns(
    turns: Turns, monkeypatch: pytest.MonkeyPatch, frame: bytes, is_websocket: bool
) -> None:
    monkeypatch.setattr(Relay, "handle_data", turns.counting_bytes(Relay.handle_data, len(frame)))
    monkeypatch.setattr(coderd.derp.relay, "MAX_FRAMES", MAX_EVENTS)
    monkeypatch.setattr(coderd.derp.relay, "RUN", 1)
    monkeypatch.setattr("coderd.derp.websocket.MAX_FRAMES", MAX_EVENTS // 2)
    async with derp_world.serving() as server:
        link = await DerpLink.connect(
            server.region(), A, is_home=True, rng=os.urandom, force_websocket=is_websocket
        )
        async with watching(turns, 400):
            await pour(link._stream, frame * (FLOOD // len(frame)))
        await link.aclose()


async def test_tiny_messages_that_carry_a_relay_take_turns(turns: Turns) -> None:
    async with derp_world.serving() as server:
        stream = await server.dial()
        async with stream:
            lines = ["GET /derp HTTP/1.1", "Host: x", *UPGRADE, "Sec-WebSocket-Protocol: derp", "", ""]
            await stream.send_all("\r\n".join(lines).encode())
            await until_seen(stream, b"\r\n\r\n")
            turns.most = 0
            trio.lowlevel.add_instrument(turns)
            await pour(stream, (EMPTY_MESSAGE + PONG) * 5000)
            await turns.wait_for(5000)
            trio.lowlevel.remove_instrument(turns)
            assert turns.total > 5000
            assert turns.most <= limits.MAX_DERP_WEBSOCKET_FRAMES + 1


async def test_tiny_frames_of_a_relay_take_turns_at_the_node(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DerpClient, "handle_data", turns.counting_bytes(DerpClient.handle_data, HEADER_SIZE))
    monkeypatch.setattr(coderd.derp.client, "MAX_FRAMES", MAX_EVENTS)
    async with derp_world.serving() as server, trio.open_nursery() as nursery:
        link = await server.link(A)
        nursery.start_soon(link.run, derp_world.Inbox())
        (served,) = server.relay._links.values()
        async with watching(turns, 400):
            await pour(served.stream, b"\x77\0\0\0\0" * 20_000)
        nursery.cancel_scope.cancel()


def test_a_read_of_full_packets_is_one_turn() -> None:
    """Nothing is cut on the bulk path."""
    assert READ_SIZE // (1280 + HEADER_SIZE + 32) < MAX_FRAMES * RUN


# The control socket and terminals


@pytest.mark.parametrize(
    "line", [b"\n", b'{"v":1,"id":1,"method":"status"}\n', b"x"], ids=["empty", "asked", "endless"]
)
async def test_lines_of_a_local_user_take_turns(turns: Turns, line: bytes) -> None:
    handler = control_world.ScriptedHandler()
    with control_world.short_directory() as directory:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_control, directory / "s.sock", handler)
            stream = await trio.open_unix_socket(directory / "s.sock")
            async with stream, watching(turns, 3):
                await pour(stream, line * (FLOOD // len(line)))
            nursery.cancel_scope.cancel()


MESSAGES = {
    "resizes": frames.Resize(frames.Size(24, 80)),
    "nothing typed": frames.Input(b""),
    "pings": frames.Ping(bytes(8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
async def test_tiny_frames_of_a_terminals_client_take_turns(
    turns: Turns, message: frames.FromClient, tmp_path: Path
) -> None:
    async with terminal_world.world(tmp_path) as here:
        assert here.server.workspace is not None
        stream = await here.server.open_terminal(here.server.workspace)
        opening = frames.encode(frames.Open(0, frames.Size(24, 80), b""))
        async with watching(turns, 400), trio.open_nursery() as nursery:
            nursery.start_soon(pour, stream, opening + frames.encode(message) * 1000)
            with trio.move_on_after(1):
                while await stream.receive_some():
                    pass
            nursery.cancel_scope.cancel()


async def test_a_body_in_too_many_pieces_is_too_large() -> None:
    pieces = iter([b"x"] * 5000)

    async def receive() -> dict[str, object]:
        await trio.lowlevel.checkpoint()
        return {"type": "http.request", "body": next(pieces), "more_body": True}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(BodyTooLarge):
        await read_body(request, limit=1 << 16, timeout=5)
