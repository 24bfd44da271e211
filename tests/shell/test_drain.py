"""A server that ends lets what it is answering be answered, within a bound, and nobody new in."""

import os
from functools import partial
from pathlib import Path

import pytest
import trio
from starlette.types import Receive, Scope, Send

from coderd.http.dialer import read_response_head
from coderd.http.drain import Drain
from coderd.http.relay_routes import refuse_derp
from coderd.http.server import open_tcp_listeners, serve_http
from coderd.model.keys import NodePrivate
from tests.shell.server_world import JoinedNode, serving

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class SlowApp:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.asked = trio.Event()
        self.go_on = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.set()
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})


async def test_a_request_that_is_being_answered_is_answered_and_a_new_one_is_not_let_in() -> None:
    app, drain = SlowApp(), Drain()
    (listener,) = await open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_http, derp=refuse_derp, drain=drain), [listener], app)
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(REQUEST)
            await app.asked.wait()
            drain.ask()
            assert not await drain.wait_idle(0.01)
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream("127.0.0.1", port)
            app.go_on.set()
            assert await drain.wait_idle(5)
            head, _ = await read_response_head(stream)
            assert head.status == 200
        nursery.cancel_scope.cancel()


async def test_a_node_of_a_server_that_ends_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as world, trio.open_nursery() as nursery:
        key = NodePrivate.generate(os.urandom)
        node = JoinedNode(await world.enrol(key), key)
        nursery.start_soon(node.client(world.url).run)
        await node.until(lambda node: node.is_connected)
        world.stop.set()
        await node.until(lambda node: not node.is_connected)
        nursery.cancel_scope.cancel()
