from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from coderd.engine.io.node_api import ask_facts, serve_node_api
from coderd.engine.node_api import DialRequest, encode, parse_dial_reply, parse_facts_reply
from coderd.metrics import Counters
from coderd.model.errors import MalformedPacket, UserError
from coderd.netcheck.facts import Facts


def anybody(ip: str) -> object:
    return ip


@asynccontextmanager
async def node_api(
    authorise: Callable[[str], object | None] = anybody, counters: Counters | None = None
) -> AsyncIterator[trio.SocketStream]:
    """A node API, and a stream to it."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(partial(serve_node_api, listeners, authorise, counters=counters))
        with trio.fail_after(10):
            async with await trio.open_tcp_stream(*listeners[0].socket.getsockname()) as stream:
                yield stream
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def service(host: str) -> AsyncIterator[int]:
    """A service that reads to the end, then says in capitals what it has read; its port."""

    async def shout(stream: trio.SocketStream) -> None:
        heard = b""
        async for chunk in stream:
            heard += chunk
        await stream.send_all(heard.upper())
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=host)
        nursery.start_soon(trio.serve_listeners, shout, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def read_all(stream: trio.SocketStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_loopback_service_is_reached_and_each_direction_closes_on_its_own(host: str) -> None:
    async with service(host) as port, node_api() as stream:
        await stream.send_all(encode(DialRequest(port=port)) + b"hello ")
        await stream.send_all(b"world")
        await stream.send_eof()
        assert await read_all(stream) == b'{"ok":true}\nHELLO WORLD'


async def test_bytes_pass_whole_in_both_directions_at_once() -> None:
    sent = bytes(range(256)) * 4096

    async def echo(stream: trio.SocketStream) -> None:
        async for chunk in stream:
            await stream.send_all(chunk)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        async with node_api() as stream:

            async def pump() -> None:
                await stream.send_all(encode(DialRequest(port=listeners[0].socket.getsockname()[1])) + sent)
                await stream.send_eof()

            nursery.start_soon(pump)
            line, _, rest = (await read_all(stream)).partition(b"\n")
            parse_dial_reply(line)
            assert rest == sent
        nursery.cancel_scope.cancel()


async def test_where_nothing_listens_the_caller_reads_so() -> None:
    async with service("127.0.0.1") as port:
        pass
    counters = Counters()
    async with node_api(counters=counters) as stream:
        await stream.send_all(encode(DialRequest(port=port)))
        with pytest.raises(UserError, match=f"nothing listens on port {port}"):
            parse_dial_reply(await read_all(stream))
    assert counters["node_api.no_service"] == 1


async def test_a_stranger_is_refused() -> None:
    counters = Counters()
    async with node_api(lambda ip: None, counters) as stream:
        with pytest.raises(UserError) as caught:
            parse_dial_reply(await read_all(stream))
    assert caught.value.code == "not_allowed"
    assert counters["node_api.refused"] == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b'{"v":1,"method":"dial","port":0}\n',
        b'{"v":1,"method":"dial","port":70000}\n',
        b'{"v":1,"method":"exec","port":80}\n',
        b'{"v":2,"method":"dial","port":80}\n',
        b"\xff" * 10_000,
        b"x" * 10_000 + b"\n",
    ],
)
async def test_what_is_no_request_is_counted_and_answered(sent: bytes) -> None:
    counters = Counters()
    async with node_api(counters=counters) as stream:
        answer = b""
        with suppress(trio.BrokenResourceError):  # unread bytes reset the connection: so be it
            await stream.send_all(sent)
            answer = await read_all(stream)
        if answer:
            with pytest.raises(UserError) as caught:
                parse_dial_reply(answer)
            assert caught.value.code == "malformed"
    assert counters["node_api.drop.malformed"] == 1


async def test_a_silent_caller_is_let_go(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(serve_node_api, listeners, anybody)
        async with await trio.open_tcp_stream(*listeners[0].socket.getsockname()) as stream:
            with trio.fail_after(60), pytest.raises(UserError):
                parse_dial_reply(await read_all(stream))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("line", [b"", b"{}", b'{"ok":"yes"}', b"HTTP/1.1 200 OK"])
def test_what_is_no_reply_is_malformed(line: bytes) -> None:
    with pytest.raises(MalformedPacket):
        parse_dial_reply(line)


async def test_facts_are_told_to_those_who_may_ask_and_to_nobody_else() -> None:
    async def facts(caller: object) -> Facts:
        return Facts(udp=True, home=str(caller)[:9])

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        closed = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(partial(serve_node_api, listeners, anybody, facts=facts))
        nursery.start_soon(partial(serve_node_api, closed, lambda ip: None, facts=facts))
        with trio.fail_after(10):
            told = await ask_facts(*listeners[0].socket.getsockname())
            assert told == Facts(udp=True, home="127.0.0.1")
            with pytest.raises(MalformedPacket):
                await ask_facts(*closed[0].socket.getsockname())
        nursery.cancel_scope.cancel()


def test_facts_that_would_steer_a_terminal_are_no_facts() -> None:
    with pytest.raises(MalformedPacket):
        parse_facts_reply(b'{"ok":true,"facts":{"home":"\\u001b[2J"}}')
    assert parse_facts_reply(b'{"ok":true,"facts":{"home":"coder"}}').home == "coder"
