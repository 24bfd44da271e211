"""The node API: lets the peers that may reach this node reach the TCP services on its loopback too, and ask how it is.

Listens on the tailnet address, port 4. One bounded line each way, then bytes are spliced both ways, each direction closed
on its own as its sender closes it.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import structlog
import trio

from coderd.engine.node_api import (
    MAX_LINE,
    DialError,
    DialReply,
    DialRequest,
    FactsReply,
    FactsRequest,
    TerminalRequest,
    encode,
    parse_facts_reply,
    parse_node_request,
)
from coderd.metrics import Counters
from coderd.model.errors import MalformedPacket
from coderd.netcheck.facts import Facts

REQUEST_TIMEOUT = 10.0
DIAL_TIMEOUT = 5.0
CONNECT_RETRY = 1.0
"""Seconds after which a peer is called anew: a path that was lost meanwhile swallows what opens a stream."""
LOOPBACKS = ("127.0.0.1", "::1")
"""In this order: where a service that listens on loopback only is looked for."""
MAX_CONNECTIONS = 512
CHUNK = 1 << 18

FactsOf: TypeAlias = Callable[[object], Awaitable[Facts]]
"""What to tell whoever was authorised."""
ServeTerminal: TypeAlias = Callable[[trio.SocketStream, bytes, object, float], Awaitable[None]]
"""Speaks with whoever was authorised, from the bytes on that have come behind the request; then the grace that it asks for."""

log = structlog.get_logger()


async def serve_node_api(
    listeners: Sequence[trio.SocketListener],
    authorise: Callable[[str], object | None],
    *,
    facts: FactsOf | None = None,
    terminal: ServeTerminal | None = None,
    counters: Counters | None = None,
) -> None:
    """Serves the node API until cancelled.

    Args:
        listeners: on the node's tailnet address, port 4.
        authorise: who has this source address, None for whoever may not use it; WireGuard has proved the address.
        facts: this node's network, for those who may ask; None tells nobody.
        terminal: serves terminals; None refuses them.
        counters: ``node_api.*``.
    """
    server = _NodeApi(authorise, facts, terminal, counters if counters is not None else Counters())
    await trio.serve_listeners(server.serve, list(listeners))


class _NodeApi:
    """Serves connections. Owns the number of open ones."""

    def __init__(
        self,
        authorise: Callable[[str], object | None],
        facts: FactsOf | None,
        terminal: ServeTerminal | None,
        counters: Counters,
    ) -> None:
        self._authorise = authorise
        self._facts = facts
        self._terminal = terminal
        self._counters = counters
        self._n_open = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        stream.setsockopt(
            socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
        )  # a caller that vanished must not stay for ever
        self._n_open += 1
        try:
            async with stream:
                await self._serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            self._counters["node_api.drop.broken"] += 1
        finally:
            self._n_open -= 1

    async def _serve(self, stream: trio.SocketStream) -> None:
        caller = self._authorise(stream.socket.getpeername()[0])
        if caller is None:
            self._counters["node_api.refused"] += 1
            await _refuse(stream, "not_allowed", "this machine may not use the workspace's services")
        elif self._n_open > MAX_CONNECTIONS:
            self._counters["node_api.drop.too_many_connections"] += 1
            await _refuse(stream, "busy", "the workspace serves too many connections at once")
        else:
            await self._answer(stream, caller)

    async def _answer(self, stream: trio.SocketStream, caller: object) -> None:
        line = rest = b""
        with trio.move_on_after(REQUEST_TIMEOUT):
            line, rest = await _read_line(stream)
        try:
            request = parse_node_request(line)
        except MalformedPacket as error:
            self._counters["node_api.drop.malformed"] += 1
            await _refuse(stream, "malformed", str(error))
            return
        match request:
            case DialRequest():
                await self._dial(stream, request, rest)
            case FactsRequest():
                await self._tell(stream, caller)
            case TerminalRequest():
                await self._open_terminal(stream, caller, rest, request.grace)

    async def _tell(self, stream: trio.SocketStream, caller: object) -> None:
        if self._facts is None:
            await _refuse(stream, "no_facts", "the workspace tells nothing of its network")
            return
        self._counters["node_api.facts"] += 1
        reply = FactsReply(ok=True, facts=await self._facts(caller))
        with trio.move_on_after(REQUEST_TIMEOUT):
            await stream.send_all(encode(reply))

    async def _open_terminal(
        self, stream: trio.SocketStream, caller: object, rest: bytes, grace: float
    ) -> None:
        if self._terminal is None:
            self._counters["node_api.no_terminal"] += 1
            await _refuse(stream, "no_terminal", "the workspace offers no terminal")
            return
        self._counters["node_api.terminals"] += 1
        await stream.send_all(encode(DialReply(ok=True)))
        await self._terminal(stream, rest, caller, grace)

    async def _dial(self, stream: trio.SocketStream, request: DialRequest, rest: bytes) -> None:
        service = await _dial_loopback(request.port)
        if service is None:
            self._counters["node_api.no_service"] += 1
            await _refuse(stream, "no_service", f"nothing listens on port {request.port} of the workspace")
            return
        self._counters["node_api.dials"] += 1
        async with service:
            await stream.send_all(encode(DialReply(ok=True)))
            await splice(stream, service, rest)


async def _read_line(stream: trio.SocketStream) -> tuple[bytes, bytes]:
    """A line of at most ``MAX_LINE`` bytes, and what came behind it; an empty line where there is none."""
    data = b""
    while b"\n" not in data:
        chunk = await stream.receive_some(MAX_LINE)
        data += chunk
        if not chunk or (len(data) > MAX_LINE and b"\n" not in data[:MAX_LINE]):
            return b"", b""
    line, _, rest = data.partition(b"\n")
    return line, rest


async def _dial_loopback(port: int) -> trio.SocketStream | None:
    for host in LOOPBACKS:
        with trio.move_on_after(DIAL_TIMEOUT):
            try:
                return await trio.open_tcp_stream(host, port)
            except OSError:
                continue
    return None


async def _refuse(stream: trio.SocketStream, code: str, message: str) -> None:
    with trio.move_on_after(REQUEST_TIMEOUT):
        await stream.send_all(encode(DialReply(ok=False, error=DialError(code=code, message=message))))


async def ask_facts(address: str, port: int) -> Facts:
    """A peer's facts, asked through the tunnel for as long as the caller waits.

    Raises:
        OSError: the peer closed the connection, or refused it.
        MalformedPacket: it answered something else.
    """
    while True:
        with trio.move_on_after(CONNECT_RETRY):
            stream = await trio.open_tcp_stream(address, port)
            break
    async with stream:
        try:
            await stream.send_all(encode(FactsRequest()))
            line, _ = await _read_line(stream)
        except trio.BrokenResourceError:
            raise ConnectionResetError("the peer closed the connection") from None
    return parse_facts_reply(line)


async def splice(one: trio.SocketStream, other: trio.SocketStream, from_one: bytes = b"") -> None:
    """Copies both ways until both directions have ended; a broken stream ends both.

    Args:
        one: a connected stream.
        other: another one.
        from_one: bytes already read from ``one``, to be sent first.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_copy, other, one, b"", nursery.cancel_scope)
        nursery.start_soon(_copy, one, other, from_one, nursery.cancel_scope)


async def _copy(
    source: trio.SocketStream, target: trio.SocketStream, first: bytes, both: trio.CancelScope
) -> None:
    try:
        if first:
            await target.send_all(first)
        while chunk := await source.receive_some(CHUNK):
            await target.send_all(chunk)
        await target.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        both.cancel()
