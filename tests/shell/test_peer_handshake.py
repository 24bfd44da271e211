"""Both forms of the caller's handshake, the one for tasks and the one for commands, against a node of a few bytes."""

import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import pytest
import trio
import trio.lowlevel

from coderd.model.errors import MalformedPacket, UserError
from coderd.peerapi.io import blocking, client
from coderd.peerapi.message import MAX_LINE, DialRequest, encode

REQUEST = DialRequest(port=22, secret="5e" * 32)

Ask: TypeAlias = Callable[[trio.SocketStream], Awaitable[bytes]]


async def ask_blocking(stream: trio.SocketStream) -> bytes:
    """Asks by the form for commands, in a thread, on a duplicate of the stream's socket."""
    with socket.socket(fileno=socket.dup(stream.socket.fileno())) as sock:
        try:
            return await trio.to_thread.run_sync(partial(blocking.ask, sock, REQUEST, 10.0))
        finally:
            sock.setblocking(False)  # duplicates share it


async def ask_in_task(stream: trio.SocketStream) -> bytes:
    return await client.ask(stream, REQUEST)


every_form = pytest.mark.parametrize("ask", [ask_in_task, ask_blocking], ids=["task", "command"])


async def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """The caller's end and the node's of one connection."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        caller = await trio.open_tcp_stream(*listener.socket.getsockname())
        return caller, await listener.accept()


@every_form
@pytest.mark.parametrize("cut", [1, 5, 12, 14])
async def test_what_comes_behind_the_reply_is_left_to_the_service(ask: Ask, cut: int) -> None:
    caller, node = await pair()
    sent = b'{"ok":true}\nSSH-2.0-x\n'
    async with caller, node, trio.open_nursery() as nursery:

        async def serve() -> None:
            assert await node.receive_some(MAX_LINE) == encode(REQUEST)
            await node.send_all(sent[:cut])
            await trio.lowlevel.checkpoint()
            await node.send_all(sent[cut:])

        nursery.start_soon(serve)
        assert await ask(caller) == b'{"ok":true}'
        rest = b""
        while len(rest) < 10:
            rest += await caller.receive_some(64)
        assert rest == b"SSH-2.0-x\n"


@every_form
@pytest.mark.parametrize("sent", [b"", b'{"ok":', b"x" * MAX_LINE], ids=["nothing", "half", "endless"])
async def test_a_reply_that_is_no_line_is_malformed(ask: Ask, sent: bytes) -> None:
    caller, node = await pair()
    async with caller, node:
        await node.send_all(sent)
        await node.send_eof()
        with pytest.raises(MalformedPacket):
            await ask(caller)


@every_form
async def test_a_connection_that_breaks_is_an_error_of_the_system(ask: Ask) -> None:
    caller, node = await pair()
    async with caller:
        node.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset, do not close
        node.socket.close()
        with pytest.raises(ConnectionError):
            await ask(caller)


async def test_a_command_waits_for_a_reply_no_longer_than_it_said() -> None:
    caller, node = await pair()
    async with caller, node:
        with (
            socket.socket(fileno=socket.dup(caller.socket.fileno())) as sock,
            pytest.raises(TimeoutError),
        ):
            await trio.to_thread.run_sync(partial(blocking.ask, sock, REQUEST, 0.05))


async def test_a_service_that_is_refused_leaves_no_stream_open() -> None:
    caller, node = await pair()
    async with node:
        await node.send_all(b'{"ok":false,"error":{"code":"no_service","message":"nothing listens"}}\n')
        with pytest.raises(UserError, match="nothing listens"):
            await client.open_service(caller, REQUEST)
        assert caller.socket.fileno() == -1
