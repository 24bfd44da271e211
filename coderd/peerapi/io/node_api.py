"""The node API's listener: serves this node's loopback ports, terminals and facts to peers.

Listens on the tailnet address, port 4. One bounded line each way, then bytes are spliced both ways, each
direction closed on its own as its sender closes it. ``objection`` decides what a peer may have, when it asks
and again with every new map while it has it. Each user has a bounded share of two kinds of places: those of
callers until their request has come, and those of visits.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias
from uuid import UUID

import structlog
import trio

from coderd.metrics import Counters
from coderd.model import limits
from coderd.model.errors import MalformedPacket
from coderd.model.netmap import AbsentNode, Peer
from coderd.model.seats import NoSeat, Seats
from coderd.netcheck.facts import Facts
from coderd.peerapi.io.splice import splice
from coderd.peerapi.line_reader import LineReader
from coderd.peerapi.message import (
    MAX_LINE,
    NO_PROOF,
    NOT_ALLOWED,
    AnyRequest,
    DialError,
    DialReply,
    DialRequest,
    FactsReply,
    FactsRequest,
    TerminalRequest,
    encode,
    objection,
    parse_node_request,
)

REQUEST_TIMEOUT: Final = limits.NODE_API_REQUEST_TIMEOUT
DIAL_TIMEOUT = 5.0
LOOPBACKS = ("127.0.0.1", "::1")
"""In this order: where a service that listens on loopback only is looked for."""
MAX_CONNECTIONS: Final = limits.MAX_NODE_API_CONNECTIONS
MAX_CONNECTIONS_PER_PERSON: Final = limits.MAX_NODE_API_CONNECTIONS_PER_PERSON
MAX_STRANGERS: Final = limits.MAX_NODE_API_STRANGERS
MAX_STRANGERS_PER_PERSON: Final = limits.MAX_NODE_API_STRANGERS_PER_PERSON
LAST_WORDS = 1.0
"""Seconds that a terminal without access any more gets to notify its client."""

ServeTerminal: TypeAlias = Callable[[trio.SocketStream, bytes, Peer, float], Awaitable[None]]
"""Serves a terminal on a stream, from the bytes behind the request, for a peer, with a grace in seconds."""

log = structlog.get_logger()


class Host(Protocol):
    """The workspace, as its node API uses it."""

    @property
    def name(self) -> str:
        """The workspace's full name."""

    def peer_at(self, ip: str) -> Peer | None:
        """Returns the peer with this source address by the newest map, or None.

        WireGuard has proved the address.
        """

    def standing(self, node_id: UUID) -> Peer | AbsentNode | None:
        """Returns the newest map's entry for a node being served, or None if it is removed."""

    async def proves(self, peer: Peer, shown: str) -> bool:
        """Returns whether a secret proves that a connection comes by way of the peer's daemon.

        Waits a moment for secrets that are under way.
        """

    async def facts(self, peer: Peer) -> Facts:
        """Returns the facts of this node's network that a peer may have."""


@dataclass(eq=False, slots=True)
class _Visit:
    """A peer with what it asked for."""

    peer: Peer
    request: AnyRequest
    scope: trio.CancelScope


class NodeApi:
    """Server of the node API. Owns the visits of peers, and ends those that the newest map does not allow.

    Args:
        host: knows the newest map.
        terminal: serves terminals; None refuses them.
        counters: ``node_api.*``.
    """

    def __init__(self, host: Host, *, terminal: ServeTerminal | None = None, counters: Counters) -> None:
        self._host = host
        self._terminal = terminal
        self._counters = counters
        self._strangers = Seats[trio.CancelScope](
            limit=MAX_STRANGERS, limit_each=MAX_STRANGERS_PER_PERSON, displaces_own=True
        )
        self._seats = Seats[_Visit](limit=MAX_CONNECTIONS, limit_each=MAX_CONNECTIONS_PER_PERSON)
        self._visits: set[_Visit] = set()

    async def run(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Serves until cancelled, on the node's tailnet address, port 4."""
        await trio.serve_listeners(self.serve, list(listeners))

    def review(self) -> None:
        """Ends visits that are no longer allowed; called with every new map."""
        for visit in self._visits:
            standing = self._host.standing(visit.peer.node_id)
            if isinstance(standing, AbsentNode) or (
                standing is not None and objection(standing, visit.request, self._host.name) is None
            ):
                continue
            self._counters["node_api.ended"] += 1
            if isinstance(visit.request, TerminalRequest):
                visit.scope.deadline = min(visit.scope.deadline, trio.current_time() + LAST_WORDS)
            else:
                visit.scope.cancel()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serves one connection until it ends."""
        stream.setsockopt(
            socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
        )  # a caller that vanished must not stay for ever
        try:
            async with stream:
                await self._serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            self._counters["node_api.drop.broken"] += 1

    async def _serve(self, stream: trio.SocketStream) -> None:
        ip = stream.socket.getpeername()[0]
        if (caller := self._host.peer_at(ip)) is None:
            await self._refuse_stranger(stream)
            return
        if (heard := await self._hear(stream, caller)) is None:
            return
        request, rest, is_proved = heard
        if not is_proved:
            self._counters["node_api.no_proof"] += 1
            await _refuse(
                stream,
                NO_PROOF,
                f"the daemon of {caller.name} has not authorised this connection; use coderctl there",
            )
        elif (caller := self._host.peer_at(ip)) is None:  # it may have become so meanwhile
            await self._refuse_stranger(stream)
        elif (why := objection(caller, request, self._host.name)) is not None:
            self._counters["node_api.not_shared"] += 1
            await _refuse(stream, why.code, why.message)
        else:
            await self._welcome(stream, caller, request, rest)

    async def _refuse_stranger(self, stream: trio.SocketStream) -> None:
        self._counters["node_api.refused"] += 1
        await _refuse(stream, NOT_ALLOWED, "this machine may not use the workspace's services")

    async def _hear(self, stream: trio.SocketStream, caller: Peer) -> tuple[AnyRequest, bytes, bool] | None:
        """Reads a request.

        Returns:
            The request, the bytes behind it, and whether it proved the secret; None if it is refused already.
        """
        rest = b""
        request: AnyRequest | None = None
        why, is_proved = "", False
        with trio.move_on_after(REQUEST_TIMEOUT) as waiting:
            try:
                displaced = self._strangers.take(caller.person, waiting)
            except NoSeat:
                self._counters["node_api.drop.too_many_strangers"] += 1
                return None
            if displaced is not None:
                displaced.cancel()
            try:
                line, rest = await _read_line(stream)
                request = parse_node_request(line)
                is_proved = await self._host.proves(caller, request.secret)
            except MalformedPacket as error:
                why = str(error)
            finally:
                self._strangers.leave(waiting)
        if waiting.cancel_called and trio.current_time() < waiting.deadline:
            self._counters["node_api.drop.too_many_strangers"] += 1
            return None
        if request is None:
            self._counters["node_api.drop.malformed"] += 1
            await _refuse(stream, "malformed", why or "not a request to the node API: nothing was asked")
            return None
        return request, rest, is_proved

    async def _welcome(
        self, stream: trio.SocketStream, caller: Peer, request: AnyRequest, rest: bytes
    ) -> None:
        with trio.CancelScope() as scope:
            visit = _Visit(caller, request, scope)
            try:
                displaced = self._seats.take(caller.person, visit)
            except NoSeat:
                self._counters["node_api.drop.too_many_connections"] += 1
                await _refuse(stream, "busy", "the workspace serves too many connections at once")
                return
            if displaced is not None:
                self._counters["node_api.displaced"] += 1
                displaced.scope.cancel()
            self._visits.add(visit)
            try:
                await self._answer(stream, caller, request, rest)
            finally:
                self._visits.remove(visit)
                self._seats.leave(visit)

    async def _answer(
        self, stream: trio.SocketStream, caller: Peer, request: AnyRequest, rest: bytes
    ) -> None:
        match request:
            case DialRequest():
                await self._dial(stream, request, rest)
            case FactsRequest():
                await self._tell(stream, caller)
            case TerminalRequest():
                await self._open_terminal(stream, caller, rest, request.grace)

    async def _tell(self, stream: trio.SocketStream, caller: Peer) -> None:
        self._counters["node_api.facts"] += 1
        reply = FactsReply(ok=True, facts=await self._host.facts(caller))
        with trio.move_on_after(REQUEST_TIMEOUT):
            await stream.send_all(encode(reply))

    async def _open_terminal(
        self, stream: trio.SocketStream, caller: Peer, rest: bytes, grace: float
    ) -> None:
        if self._terminal is None:
            self._counters["node_api.no_terminal"] += 1
            await _refuse(stream, "no_terminal", "the workspace offers no terminal")
            return
        self._counters["node_api.terminals"] += 1
        await stream.send_all(encode(DialReply(ok=True)))
        await self._terminal(stream, rest, caller, grace if caller.access.is_server else 0.0)

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
    """Returns the first line and the bytes behind it. Raises MalformedPacket if it is no line."""
    reader = LineReader()
    while True:
        chunk = await stream.receive_some(MAX_LINE)
        n_taken = reader.take(chunk)
        if reader.line is not None:
            return reader.line, bytes(chunk[n_taken:])


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
