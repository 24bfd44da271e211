from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pytest
import trio
import trio.testing

from coderd.metrics import Counters
from coderd.model.errors import Exit, MalformedPacket, UserError
from coderd.model.netmap import NodeKind, Peer, PeerAccess
from coderd.model.ports import parse_ports
from coderd.netcheck.facts import Facts
from coderd.peerapi.io.client import ask_facts
from coderd.peerapi.io.node_api import (
    MAX_CONNECTIONS_PER_PERSON,
    MAX_STRANGERS_PER_PERSON,
    NodeApi,
    ServeTerminal,
)
from coderd.peerapi.message import (
    DialRequest,
    FactsRequest,
    TerminalRequest,
    encode,
    parse_dial_reply,
    parse_facts_reply,
)
from tests.shell.daemon_world import make_peer
from tests.shell.node_api_world import Host

GUEST = make_peer("bob/laptop", 8, kind=NodeKind.DEVICE)
GUEST_AT = "127.0.0.2"


def guest(ports: str, *, terminal: bool = False) -> Peer:
    return replace(GUEST, access=PeerAccess(parse_ports(ports), terminal))


class Workspace:
    """A node API that listens, and whom it knows."""

    def __init__(self, terminal: ServeTerminal | None = None) -> None:
        self.counters = Counters()
        self.host = Host()
        self.api = NodeApi(self.host, terminal=terminal, counters=self.counters)
        self.port = 0
        self._streams: list[trio.SocketStream] = []

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await self.api.run(listeners)

    async def come(self, ip: str = "127.0.0.1") -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port, local_address=ip)
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        for stream in self._streams:
            stream.socket.close()

    async def dial(self, port: int, ip: str = "127.0.0.1") -> trio.SocketStream:
        """A stream to a service. Raises UserError."""
        stream = await self.come(ip)
        await stream.send_all(encode(DialRequest(port=port)))
        line = await stream.receive_some(4096)
        parse_dial_reply(line)
        return stream

    def set_guest(self, peer: Peer | None) -> None:
        """The newest map has the guest so."""
        self.host.known[GUEST_AT] = peer
        self.api.review()


@asynccontextmanager
async def workspace(terminal: ServeTerminal | None = None) -> AsyncIterator[Workspace]:
    dev = Workspace(terminal)
    async with trio.open_nursery() as nursery:
        await nursery.start(dev.run)
        try:
            with trio.fail_after(20):
                yield dev
        finally:
            dev.close()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def node_api(*, is_stranger: bool = False) -> AsyncIterator[tuple[trio.SocketStream, Counters]]:
    """A stream to a node API, and what that one counts."""
    async with workspace() as dev:
        if is_stranger:
            dev.host.otherwise = None
        async with await dev.come() as stream:
            yield stream, dev.counters


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
    async with service(host) as port, node_api() as (stream, _):
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
        async with node_api() as (stream, _):

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
    async with node_api() as (stream, counters):
        await stream.send_all(encode(DialRequest(port=port)))
        with pytest.raises(UserError, match=f"nothing listens on port {port}"):
            parse_dial_reply(await read_all(stream))
    assert counters["node_api.no_service"] == 1


async def test_a_stranger_is_refused() -> None:
    async with node_api(is_stranger=True) as (stream, counters):
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
    async with node_api() as (stream, counters):
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
    async with node_api() as (stream, _):
        with pytest.raises(UserError):
            parse_dial_reply(await read_all(stream))


@pytest.mark.parametrize("line", [b"", b"{}", b'{"ok":"yes"}', b"HTTP/1.1 200 OK"])
def test_what_is_no_reply_is_malformed(line: bytes) -> None:
    with pytest.raises(MalformedPacket):
        parse_dial_reply(line)


async def test_facts_are_told_to_those_who_may_ask_and_to_nobody_else() -> None:
    async with workspace() as dev:
        assert await ask_facts("127.0.0.1", dev.port) == Facts(udp=True, home="ann/phone")
        dev.host.otherwise = None
        with pytest.raises(MalformedPacket):
            await ask_facts("127.0.0.1", dev.port)


def test_facts_that_would_steer_a_terminal_are_no_facts() -> None:
    with pytest.raises(MalformedPacket):
        parse_facts_reply(b'{"ok":true,"facts":{"home":"\\u001b[2J"}}')
    assert parse_facts_reply(b'{"ok":true,"facts":{"home":"coder"}}').home == "coder"


# What a share names


async def test_a_guest_dials_what_the_share_names_and_nothing_else() -> None:
    async with service("127.0.0.1") as port, workspace() as dev:
        dev.set_guest(guest(str(port)))
        async with await dev.dial(port, GUEST_AT):
            pass
        dev.set_guest(guest("22"))
        with pytest.raises(UserError) as caught:
            await dev.dial(port, GUEST_AT)
        assert caught.value.message == f"ann has shared port 22 of dev with you, not {port}; ask ann"
        assert (caught.value.code, caught.value.exit_code) == ("not_shared", Exit.REFUSED)
        async with await dev.dial(port):  # the owner's own
            pass
    assert dev.counters["node_api.not_shared"] == 1


async def test_a_guest_opens_a_terminal_only_where_the_share_says_so() -> None:
    async def terminal(stream: trio.SocketStream, rest: bytes, caller: Peer, grace: float) -> None:
        await stream.send_all(f"{caller.name} {grace}".encode())

    async with workspace(terminal) as dev:
        for peer, wanted in (
            (guest("all"), b'{"ok":false,"error":{"code":"not_shared"'),
            (guest("none", terminal=True), b'{"ok":true}\nbob/laptop 0.0'),
            (
                replace(GUEST, access=PeerAccess(parse_ports("none"), False, is_server=True)),
                b'{"ok":true}\nbob/laptop 9.0',
            ),
        ):
            dev.set_guest(peer)
            async with await dev.come(GUEST_AT) as stream:
                await stream.send_all(encode(TerminalRequest(grace=9.0)))
                assert (await read_all(stream)).startswith(wanted), peer


async def test_what_a_share_names_no_longer_ends_at_once_and_only_that(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def terminal(stream: trio.SocketStream, rest: bytes, caller: Peer, grace: float) -> None:
        await trio.sleep_forever()

    async with AsyncExitStack() as stack:
        dev = await stack.enter_async_context(workspace(terminal))
        ports = [await stack.enter_async_context(hold_open()) for _ in range(2)]
        dev.set_guest(guest("all", terminal=True))
        kept, cut = [await dev.dial(port, GUEST_AT) for port in ports]
        own = await dev.dial(ports[1])
        shell = await dev.come(GUEST_AT)
        await shell.send_all(encode(TerminalRequest()))
        assert await shell.receive_some(100) == b'{"ok":true}\n'
        started = trio.current_time()
        dev.set_guest(guest(str(ports[0])))
        assert await ended(cut)
        assert await ended(shell)
        assert trio.current_time() - started <= 2
        for stream in (kept, own):
            await stream.send_all(b"still there")
            assert await stream.receive_some(100) == b"still there"
        dev.set_guest(None)
        assert await ended(kept)
        assert dev.counters["node_api.ended"] == 3


async def test_whose_daemon_restarts_keeps_what_is_open() -> None:
    async with hold_open() as port, workspace() as dev:
        dev.set_guest(guest("all"))
        stream = await dev.dial(port, GUEST_AT)
        dev.host.away.add(GUEST.node_id)
        dev.api.review()
        await stream.send_all(b"still there")
        assert await stream.receive_some(100) == b"still there"


async def test_a_share_that_ends_while_a_request_comes_is_not_given() -> None:
    async with hold_open() as port, workspace() as dev:
        dev.set_guest(guest("all"))
        stream = await dev.come(GUEST_AT)
        request = encode(DialRequest(port=port))
        await stream.send_all(request[:9])
        await trio.testing.wait_all_tasks_blocked(0.01)
        dev.set_guest(None)
        await stream.send_all(request[9:])
        assert b"not_allowed" in await read_all(stream)


# Who comes by way of the peer's daemon


@pytest.mark.parametrize("shown", ["", "00" * 32, "no hex at all"])
async def test_whoever_does_not_show_what_the_peers_daemon_told_is_refused(shown: str) -> None:
    secret = "5e" * 32
    async with service("127.0.0.1") as port, workspace() as dev:
        dev.host.secrets["ann/phone"] = secret
        for request in (
            DialRequest(port=port, secret=shown),
            TerminalRequest(secret=shown),
            FactsRequest(secret=shown),
        ):
            stream = await dev.come()
            await stream.send_all(encode(request))
            with pytest.raises(UserError) as caught:
                parse_dial_reply(await read_all(stream))
            assert (caught.value.code, caught.value.exit_code) == ("no_proof", Exit.REFUSED)
            assert secret not in caught.value.message
        stream = await dev.come()
        await stream.send_all(encode(DialRequest(port=port, secret=secret)))
        parse_dial_reply(await stream.receive_some(100))
        assert await ask_facts("127.0.0.1", dev.port, secret) == Facts(udp=True, home="ann/phone")


def test_a_request_does_not_show_its_secret() -> None:
    for request in (
        DialRequest(port=1, secret="5e5e"),
        TerminalRequest(secret="5e5e"),
        FactsRequest(secret="5e5e"),
    ):
        assert "5e5e" not in f"{request} {request!r}"


# Shares of the places


async def test_a_guest_with_all_the_dials_that_there_are_keeps_nobody_out() -> None:
    async with hold_open() as port, workspace() as dev, AsyncExitStack() as stack:
        dev.set_guest(guest("all"))
        n_open = 0
        for _ in range(2):
            with suppress(UserError):
                while n_open < 400:
                    await stack.enter_async_context(await dev.dial(port, GUEST_AT))
                    n_open += 1
        assert n_open == MAX_CONNECTIONS_PER_PERSON
        async with await dev.dial(port) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some(100) == b"hello"


async def test_connections_that_are_opened_at_once_are_all_served() -> None:
    """A browser and a port-forward open dozens within one round trip, and each says what it wants a round trip later."""
    async with hold_open() as port, workspace() as dev, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await dev.come()) for _ in range(48)]
        for stream in streams:
            await stream.send_all(encode(DialRequest(port=port)))
        for stream in streams:
            assert await stream.receive_some(100) == b'{"ok":true}\n'


async def test_connections_that_say_nothing_keep_nobody_out_and_the_oldest_goes() -> None:
    async with hold_open() as port, workspace() as dev, AsyncExitStack() as stack:
        dev.set_guest(guest("all"))
        slow = await dev.come()
        silent = [await stack.enter_async_context(await dev.come(GUEST_AT)) for _ in range(100)]
        assert await ended(silent[0])
        await slow.send_all(encode(DialRequest(port=port)))
        assert await slow.receive_some(100) == b'{"ok":true}\n'
        async with await dev.dial(port), await dev.dial(port, GUEST_AT):
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert dev.counters["node_api.drop.too_many_strangers"] == 101 - MAX_STRANGERS_PER_PERSON


@asynccontextmanager
async def hold_open() -> AsyncIterator[int]:
    """A service that sends back what it hears; its port."""

    async def echo(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async for chunk in stream:
                await stream.send_all(chunk)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def ended(stream: trio.SocketStream) -> bool:
    """Waits until the other end has closed."""
    with suppress(trio.BrokenResourceError):
        return not await stream.receive_some(1)
    return True
