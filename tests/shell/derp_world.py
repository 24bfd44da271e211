"""A relay, an app and links on one loopback port, for the shell tests."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from coderd.derp.client_rate import ClientRate
from coderd.derp.io.client import DerpLink
from coderd.derp.io.server import RelayServer
from coderd.http.relay_routes import relay_routes
from coderd.http.server import Listener, serve_http
from coderd.http.web import note_known
from coderd.metrics import Counters
from coderd.model.derpmap import DerpNode, DerpRegion
from coderd.model.keys import NodePrivate, NodePublic, ServerPrivate

A, B = NodePrivate(b"a" * 32), NodePrivate(b"b" * 32)


async def admit_all(key: NodePublic, source: str) -> object | None:
    return key


async def _hello(request: Request) -> Response:
    return PlainTextResponse(f"hello {request.client.host if request.client else '?'}")


async def _fail(request: Request) -> Response:
    raise ZeroDivisionError


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    note_known(websocket.scope)
    while True:
        await websocket.send_text(await websocket.receive_text())


class _Unread:
    """Answers without reading the request's body."""

    async def __call__(
        self, scope: object, receive: object, send: Callable[[dict[str, object]], Awaitable[None]]
    ) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})


class _Endless:
    """Answers for ever."""

    async def __call__(
        self, scope: object, receive: object, send: Callable[[dict[str, object]], Awaitable[None]]
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})


def make_app() -> Starlette:
    routes = [
        Route("/hello", _hello),
        Route("/fail", _fail),
        Route("/endless", _Endless()),
        Route("/unread", _Unread()),
        WebSocketRoute("/echo", _echo),
    ]
    return Starlette(routes=[*routes, *relay_routes()])


@dataclass
class Server:
    """What runs on the port."""

    port: int
    relay: RelayServer
    counters: Counters
    scope: trio.CancelScope

    def region(self, **changes: object) -> DerpRegion:
        fields: dict[str, Any] = {"derp_port": self.port, "ipv4": "127.0.0.1", "force_http": True} | changes
        return DerpRegion(999, "coder", "Coder", (DerpNode("999b", 999, "localhost", **fields),))

    async def link(self, key: NodePrivate, **changes: object) -> DerpLink:
        return await DerpLink.connect(self.region(**changes), key, is_home=True, rng=os.urandom)

    async def dial(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)


@asynccontextmanager
async def serving(
    admit: Callable[[NodePublic, str], Awaitable[object | None]] = admit_all,
    wrap: Callable[[trio.SocketListener], Listener] = lambda listener: listener,
    client_rate: int = 0,
) -> AsyncIterator[Server]:
    """A server until the end of the block; its counters are the relay's and the port's."""
    counters = Counters()
    relay = RelayServer(
        ServerPrivate(b"s" * 32),
        admit,
        rng=os.urandom,
        counters=counters,
        client_rate=ClientRate.of(client_rate),
    )
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await serve_http(
            [wrap(listener)],
            make_app(),
            derp=relay.handle_upgrade,
            counters=counters,
            task_status=task_status,
        )

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        yield Server(port, relay, counters, nursery.cancel_scope)
        nursery.cancel_scope.cancel()


@dataclass
class Inbox:
    """A link's handler that remembers, and can be waited on."""

    packets: list[tuple[NodePublic, bytes]] = field(default_factory=list)
    gone: list[tuple[NodePublic, int]] = field(default_factory=list)
    _changed: trio.Event = field(default_factory=trio.Event)

    def has(self, n_packets: int) -> bool:
        return len(self.packets) == n_packets

    def on_packets(self, sender: NodePublic, packets: list[bytes]) -> None:
        self.packets += [(sender, packet) for packet in packets]
        self._note()

    def on_peer_gone(self, key: NodePublic, reason: int) -> None:
        self.gone.append((key, reason))
        self._note()

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Waits for news that make a condition true."""
        with trio.fail_after(10):
            while not condition():
                self._changed = trio.Event()
                await self._changed.wait()

    def _note(self) -> None:
        self._changed.set()
