"""WebSockets of texts at the server: on a connection of their own, and through the app; nobody can tell the difference."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from coderd.http.relay_routes import refuse_derp
from coderd.http.server import serve_http
from coderd.http.websocket import AppSocket, TextRoute, TextSocket, WebSocketClosed
from coderd.model.errors import MalformedPacket

Serve = Callable[[TextSocket], Awaitable[None]]
LONGEST = 70_000
PLAIN = b"GET /hello HTTP/1.1\r\nHost: server\r\n\r\n"
BOTH_WAYS = pytest.mark.parametrize("is_used", [False, True], ids=["its own connection", "through the app"])


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[int]:
    """A server whose ``/texts`` is served so; its port."""

    async def endpoint(websocket: WebSocket) -> None:
        await serve(AppSocket(websocket))

    async def hello(_request: object) -> PlainTextResponse:
        return PlainTextResponse("hello")

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    app = Starlette(routes=[Route("/hello", hello), WebSocketRoute("/texts", endpoint)])
    routes = {"/texts": TextRoute(serve, LONGEST)}

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await serve_http([listener], app, derp=refuse_derp, websockets=routes, task_status=task_status)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield listener.socket.getsockname()[1]
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def dial(port: int, *, is_used: bool = False) -> AsyncIterator[WebSocketConnection]:
    """A WebSocket, on a new connection or on one that has had another request before."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    try:
        if is_used:
            await stream.send_all(PLAIN)
            received = b""
            while not received.endswith(b"hello"):
                received += await stream.receive_some()
        async with trio.open_nursery() as nursery:
            fields = [(b"authorization", b"Bearer me")]
            yield await wrap_client_stream(nursery, stream, "server", "/texts", extra_headers=fields)
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


async def echo(websocket: TextSocket) -> None:
    await websocket.accept()
    websocket.note_known()
    await websocket.send_text(f"{websocket.field('authorization')} at {websocket.source}")
    with suppress(WebSocketClosed):
        while True:
            await websocket.send_text(await websocket.receive_text())


@BOTH_WAYS
async def test_texts_go_both_ways_whole(is_used: bool) -> None:
    async with serving(echo) as port, dial(port, is_used=is_used) as websocket:
        assert await websocket.get_message() == "Bearer me at 127.0.0.1"
        for text in ("é", "", "x" * 65_536):
            await websocket.send_message(text)
            assert await websocket.get_message() == text


@BOTH_WAYS
async def test_a_ping_is_answered_between_texts(is_used: bool) -> None:
    async with serving(echo) as port, dial(port, is_used=is_used) as websocket:
        await websocket.get_message()
        await websocket.ping()
        await websocket.send_message("after")
        assert await websocket.get_message() == "after"


@BOTH_WAYS
async def test_a_refusal_is_an_answer_with_status_fields_and_body(is_used: bool) -> None:
    async def refuse(websocket: TextSocket) -> None:
        await websocket.refuse(401, b'{"code":"no"}', {"www-authenticate": "Bearer"})

    async with serving(refuse) as port:
        with pytest.raises((ConnectionRejected, BaseExceptionGroup)) as caught:
            async with dial(port, is_used=is_used):
                pass
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ConnectionRejected)
    assert (error.status_code, error.body) == (401, b'{"code":"no"}')
    assert (b"www-authenticate", b"Bearer") in [(name.lower(), value) for name, value in error.headers]


@pytest.mark.parametrize("message", [b"bytes", "x" * (LONGEST + 1)], ids=["bytes", "too long"])
async def test_what_is_no_text_or_too_long_is_malformed(message: str | bytes) -> None:
    errors: list[MalformedPacket] = []

    async def serve(websocket: TextSocket) -> None:
        await websocket.accept()
        try:
            await websocket.receive_text()
        except MalformedPacket as error:
            errors.append(error)

    async with serving(serve) as port, dial(port) as websocket:
        with suppress(ConnectionClosed):
            await websocket.send_message(message)
            await websocket.get_message()
    assert len(errors) == 1


@BOTH_WAYS
async def test_the_end_of_the_client_is_told_once_and_for_all(is_used: bool) -> None:
    ended = trio.Event()

    async def serve(websocket: TextSocket) -> None:
        await websocket.accept()
        with pytest.raises(WebSocketClosed):
            await websocket.receive_text()
        ended.set()

    async with serving(serve) as port:
        async with dial(port, is_used=is_used) as websocket:
            await websocket.aclose()
        await ended.wait()


async def test_the_last_word_arrives_though_the_client_is_still_talking() -> None:
    async def serve(websocket: TextSocket) -> None:
        await websocket.accept()
        await websocket.receive_text()
        await websocket.send_text("goodbye")
        await websocket.aclose()

    async with serving(serve) as port, dial(port) as websocket:
        with suppress(ConnectionClosed):
            for _ in range(100):
                await websocket.send_message("x" * 1000)
        assert await websocket.get_message() == "goodbye"


@BOTH_WAYS
async def test_a_greeting_comes_first(is_used: bool) -> None:
    async def serve(websocket: TextSocket) -> None:
        await websocket.accept("hello")
        await websocket.send_text(await websocket.receive_text())

    async with serving(serve) as port, dial(port, is_used=is_used) as websocket:
        await websocket.send_message("then")
        assert [await websocket.get_message() for _ in range(2)] == ["hello", "then"]


async def test_what_is_sent_without_waiting_arrives_whole_and_in_order() -> None:
    """The client reads nothing until the kernel takes no more: then it is the text that waits which brings the rest along."""
    texts, is_full = [f"{index} {'x' * 3000}" for index in range(10_000)], trio.Event()
    n_sent = 0

    async def serve(websocket: TextSocket) -> None:
        nonlocal n_sent
        await websocket.accept()
        while websocket.send_text_nowait(texts[n_sent]):
            n_sent += 1
        is_full.set()
        await websocket.flush()
        assert not websocket.is_behind
        await websocket.send_text("last")
        await websocket.receive_text()

    async with serving(serve) as port, dial(port) as websocket:
        await is_full.wait()
        arrived = [await websocket.get_message() for _ in range(n_sent + 1)]
        await websocket.send_message("enough")
    assert arrived == [*texts[:n_sent], "last"]
    assert n_sent > 0


async def test_through_the_app_nothing_is_sent_without_waiting() -> None:
    async def serve(websocket: TextSocket) -> None:
        await websocket.accept()
        assert not websocket.send_text_nowait("now")
        await websocket.send_text("then")

    async with serving(serve) as port, dial(port, is_used=True) as websocket:
        assert await websocket.get_message() == "then"


async def test_a_request_that_is_no_websocket_goes_to_the_app() -> None:
    async with serving(echo) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(b"GET /texts HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 404 ")
