"""DERP inside WebSocket messages, and how a link comes to it: middleboxes that refuse the upgrade in every way."""

import os
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from coderd.derp.client import DerpClient, Packets
from coderd.derp.dial_history import DialHistory
from coderd.derp.io.client import DerpLink
from coderd.derp.io.opening import ANSWER_TIMEOUT
from coderd.derp.upgrade import WHY_CLOSED, WHY_FORCED, WHY_GARBLED, WHY_SILENT
from coderd.http.tls import TlsListener
from coderd.model.derpmap import DerpRegion
from coderd.model.keys import NodePrivate, NodePublic
from tests.shell.derp_world import A, B, Inbox, Server, serving


def batched(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


PACKETS = [bytes([4, index]) * 600 for index in range(64)]
Answer = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def running(link: DerpLink) -> AsyncIterator[Inbox]:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run, inbox)
        yield inbox
        nursery.cancel_scope.cancel()


def answering(status: bytes) -> Answer:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 " + status + b"\r\nContent-Length: 5\r\nX: y\r\n\r\nsorry")

    return answer


async def swallow(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def hang_up(stream: trio.SocketStream) -> None:
    """Closing with what was read is all there is to do."""


async def speak_http2(stream: trio.SocketStream) -> None:
    await stream.send_all(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01\0\0\0\x05\0\xff\xff\xff")


async def switch_to_nonsense(stream: trio.SocketStream) -> None:
    await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n<html>switched</html>")


class Middlebox:
    """Passes WebSockets on to a server; what asks for any other upgrade gets an answer of its own."""

    def __init__(self, server: Server, answer: Answer) -> None:
        self._server = server
        self._answer = answer
        self.requests: list[str] = []
        self.port = 0

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, self._handle, 0, host="127.0.0.1"))
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (data := await stream.receive_some()):
                    return
                head += data
            found = re.search(rb"(?i)\r\nUpgrade: (\S+)", head)
            assert found is not None
            self.requests.append(found[1].decode())
            if self.requests[-1] != "websocket":
                await self._answer(stream)
                return
            async with await self._server.dial() as onward, trio.open_nursery() as nursery:
                await onward.send_all(head)
                nursery.start_soon(pump, onward, stream)
                await pump(stream, onward)
                nursery.cancel_scope.cancel()


async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    try:
        while data := await source.receive_some():
            await sink.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


@asynccontextmanager
async def behind(answer: Answer) -> AsyncIterator[tuple[Middlebox, DerpRegion]]:
    async with serving() as server, trio.open_nursery() as nursery:
        box = Middlebox(server, answer)
        await nursery.start(box.serve)
        yield box, server.region(derp_port=box.port)
        nursery.cancel_scope.cancel()


async def connect(region: DerpRegion, key: NodePrivate = A, **options: object) -> DerpLink:
    return await DerpLink.connect(region, key, is_home=True, rng=os.urandom, **options)  # type: ignore[arg-type]


async def test_a_websocket_and_an_upgraded_link_exchange_batches_in_order_both_ways() -> None:
    async with serving() as server:
        a = await connect(server.region(), A, force_websocket=True)
        b = await connect(server.region(), B)
        assert (a.why_websocket, b.why_websocket) == (WHY_FORCED, "")
        async with running(a) as at_a, running(b) as at_b:
            for _ in range(3):
                a.send_nowait(B.public(), PACKETS)
                b.send_nowait(A.public(), PACKETS)
            await at_a.wait_for(lambda: len(at_a.packets) == 192)
            await at_b.wait_for(lambda: len(at_b.packets) == 192)
        assert at_a.packets == [(B.public(), packet) for packet in PACKETS * 3]
        assert at_b.packets == [(A.public(), packet) for packet in PACKETS * 3]


async def why_websocket(region: DerpRegion, history: DialHistory) -> str:
    link = await connect(region, history=history)
    await link.aclose()
    return link.why_websocket


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (answering(b"200 OK"), "the proxy answered 200 to the upgrade"),
        (answering(b"302 Found"), "the proxy answered 302 to the upgrade"),
        (answering(b"400 Bad Request"), "the proxy answered 400 to the upgrade"),
        (answering(b"426 Upgrade Required"), "the proxy answered 426 to the upgrade"),
        (answering(b"500 Internal Server Error"), "the proxy answered 500 to the upgrade"),
        (hang_up, WHY_CLOSED),
        (speak_http2, WHY_GARBLED),
        (switch_to_nonsense, WHY_GARBLED),
    ],
)
async def test_an_upgrade_refused_in_any_way_becomes_a_websocket_with_its_reason(
    answer: Answer, why: str
) -> None:
    async with behind(answer) as (box, region):
        history = DialHistory()
        link = await connect(region, history=history)
        assert link.why_websocket == why
        async with running(link) as inbox:
            link.send_nowait(A.public(), PACKETS)
            await inbox.wait_for(lambda: len(inbox.packets) == 64)
        box.requests.clear()
        assert await why_websocket(region, history) == why
        assert box.requests == ["websocket"], "the lesson was paid for once"


async def test_a_proxy_that_misses_its_server_for_a_moment_teaches_nothing() -> None:
    async with behind(answering(b"502 Bad Gateway")) as (box, region):
        history = DialHistory()
        for _ in range(2):
            assert await why_websocket(region, history) == "the proxy answered 502 to the upgrade"
        assert box.requests == ["DERP", "websocket"] * 2


async def test_an_upgrade_that_is_eaten_costs_its_deadline_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with behind(swallow) as (_, region):
        history = DialHistory()
        started = trio.current_time()
        assert await why_websocket(region, history) == WHY_SILENT
        assert trio.current_time() - started == pytest.approx(ANSWER_TIMEOUT, abs=0.1)
        started = trio.current_time()
        assert await why_websocket(region, history) == WHY_SILENT
        assert trio.current_time() - started < 0.1


async def test_where_websockets_are_refused_too_the_first_reason_is_told() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        head = await stream.receive_some()
        status = b"403 Forbidden" if b"websocket" in head else b"404 Not Found"
        await stream.send_all(b"HTTP/1.1 " + status + b"\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        server = Server(listener.socket.getsockname()[1], None, None, None)  # type: ignore[arg-type]
        history = DialHistory()
        with pytest.raises(ConnectionRefusedError, match="is not a relay: it answers 404"):
            await connect(server.region(), history=history)
        (node,) = server.region().nodes
        assert history.detour(node, trio.current_time()) == "", "only what worked is worth remembering"
        nursery.cancel_scope.cancel()


async def test_a_relay_that_does_not_admit_us_is_not_asked_again_by_websocket() -> None:
    async def nobody(key: NodePublic, source: str) -> object | None:
        return None

    async with serving(nobody) as server:
        with pytest.raises(ConnectionRefusedError, match="did not admit"):
            await server.link(A)
        assert server.counters["derp.close.not_admitted"] == 1


async def test_a_websocket_runs_over_tls() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with serving(wrap=lambda tcp: TlsListener(tcp, lambda: context)) as server:
        region = server.region(force_http=False, insecure_for_tests=True)
        link = await connect(region, force_websocket=True)
        async with running(link) as inbox:
            link.send_nowait(A.public(), PACKETS)
            await inbox.wait_for(lambda: len(inbox.packets) == 64)


@asynccontextmanager
async def foreign_websocket(server: Server) -> AsyncIterator[WebSocketConnection]:
    """A client's end of another implementation."""
    async with await server.dial() as stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, "localhost", "/derp", subprotocols=["derp"])
        nursery.cancel_scope.cancel()


async def test_another_implementations_client_is_served_whatever_its_messages_are() -> None:
    async with (
        serving() as server,
        foreign_websocket(server) as websocket,
    ):
        assert websocket.subprotocol == "derp"
        client = DerpClient(A, is_home=True, rng=os.urandom, now=0.0)
        got: list[bytes] = []
        client.send(A.public(), PACKETS[:3], 0.0)
        with trio.fail_after(5):
            while len(got) < 3:
                message = await websocket.get_message()
                assert isinstance(message, bytes)
                client.handle_data(message, 0.0)
                for piece in batched(client.poll_transmit() or b"", 7):
                    await websocket.send_message(piece)
                while (event := client.poll_event()) is not None:
                    got += event.packets if isinstance(event, Packets) else []
            await websocket.ping(b"still there?")  # returns with the pong
        assert got == PACKETS[:3]


async def test_text_is_refused_with_the_code_for_it() -> None:
    async with (
        serving() as server,
        foreign_websocket(server) as websocket,
    ):
        await websocket.get_message()
        await websocket.send_message("text")
        with pytest.raises(ConnectionClosed) as closed, trio.fail_after(5):
            await websocket.get_message()
        assert closed.value.reason is not None
        assert closed.value.reason.code == 1003


@pytest.mark.slow
async def test_a_slow_websocket_is_closed_and_disturbs_nobody() -> None:
    slow_key = NodePrivate(b"z" * 32)
    async with serving() as server:
        slow = await connect(server.region(), slow_key, force_websocket=True)  # and nobody reads
        a, b = await server.link(A), await server.link(B)
        async with running(a), running(b) as at_b:
            n_sent = 0
            with trio.fail_after(20):
                while slow_key.public() in server.relay.stats():
                    a.send_nowait(slow_key.public(), PACKETS)
                    a.send_nowait(B.public(), [b"\x04"])
                    n_sent += 1
                    await at_b.wait_for(partial(at_b.has, n_sent))
        assert server.counters["derp.close.slow_reader"] == 1
        await slow.aclose()
