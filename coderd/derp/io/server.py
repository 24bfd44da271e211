"""The relay's shell: deadlines, admission, and a reader and a writer per client, by upgrade or WebSocket."""

import resource
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import structlog
import trio

from coderd.derp.client_rate import ClientRate
from coderd.derp.connection import CloseReason, Connection
from coderd.derp.gate import Gate
from coderd.derp.handshake import ClientInfo
from coderd.derp.io.websocket import WebSocketStream
from coderd.derp.relay import ClientStats, Relay
from coderd.derp.upgrade import (
    SUBPROTOCOL,
    upgrade_response,
    websocket_refusal,
)
from coderd.http import ws_handshake
from coderd.http.head import RequestHead
from coderd.http.streams import ServerStream, WriteTimeout
from coderd.metrics import Counters
from coderd.model import RandomBytes, limits
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePublic, ServerPrivate, ServerPublic
from coderd.model.origins import Origin

HANDSHAKE_TIMEOUT: Final = limits.DERP_HANDSHAKE_TIMEOUT
"""Seconds for ServerKey to be sent, and as many again for ClientInfo to come."""
ADMIT_TIMEOUT: Final = limits.DERP_ADMIT_TIMEOUT
WRITE_TIMEOUT: Final = limits.DERP_WRITE_TIMEOUT
"""Seconds without progress of a write after which a client's connection is closed."""
REFUSAL_TIMEOUT: Final = limits.DERP_REFUSAL_TIMEOUT
RESTART_TIMEOUT: Final = 0.5
"""Seconds for writing Restarting to all clients."""
RECONNECT_IN: Final = 0.1
TRY_FOR: Final = 30.0
"""Seconds in Restarting: clients reconnect after RECONNECT_IN, and try for TRY_FOR."""
READ_SIZE: Final = 256 * 1024
WRITE_AHEAD: Final = 128 * 1024

Admit: TypeAlias = Callable[[NodePublic, str], Awaitable[object | None]]
"""Lookup of the identity of a key, given the key and the client's IP address; None refuses the client.

An exception, or no answer within ADMIT_TIMEOUT seconds, refuses it, too.
"""

_Introduced: TypeAlias = tuple[NodePublic, ClientInfo, bytes]
"""A client's proved key, its ClientInfo, and the bytes that it sent behind that."""
_TOO_MANY: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
)
_UPGRADE: Final = "upgrade"
_WEBSOCKET: Final = "websocket"

_log = structlog.get_logger(__name__)


class RelayServer:
    """A relay that serves clients on streams which ``serve_http`` accepts.

    Args:
        private: the relay's key.
        admit: called once per connection, after the client has proved its key.
        rng: randomness for nonces and jitter.
        counters: ``derp.accept.*`` by kind of upgrade, ``derp.relay.*``, ``derp.drop.*``, ``derp.close.*`` by
            reason.
        client_rate: the limit of each connection's bytes; None for no limit.
    """

    def __init__(
        self,
        private: ServerPrivate,
        admit: Admit,
        *,
        rng: RandomBytes,
        counters: Counters | None = None,
        client_rate: ClientRate | None = None,
    ) -> None:
        self._relay = Relay(private, rng=rng, counters=counters, client_rate=client_rate)
        # One read must not be followed by a pause in which a limited client would take its relay for dead.
        self._read_size = READ_SIZE if client_rate is None else min(READ_SIZE, client_rate.bytes_per_second)
        self._admit = admit
        self._gate: Gate | None = None
        self._links: dict[Connection, _Link] = {}
        self._questions: set[_Question] = set()

    @property
    def public(self) -> ServerPublic:
        """The relay's public key."""
        return self._relay.public

    @property
    def counters(self) -> Counters:
        """Counters of relayed and dropped packets and of connections; only the relay increments them."""
        return self._relay.counters

    def stats(self) -> dict[NodePublic, ClientStats]:
        """Returns the counters of each connected key."""
        return self._relay.stats()

    def queued(self) -> tuple[int, int]:
        """Returns the numbers of packets and bytes that wait, for all clients together."""
        return self._relay.queued()

    def close_client(self, key: NodePublic) -> int:
        """Ends all connections of a key that was replaced or revoked; returns how many there were.

        An admission of the key that is in progress fails, as its answer may be older than the change.
        """
        for question in self._questions:
            question.is_void |= question.key == key
        n_connections = self._relay.close_client(key)
        self._drain()
        return n_connections

    async def announce_restart(self) -> None:
        """Sends Restarting to every client, within RESTART_TIMEOUT seconds."""
        self._relay.announce_restart(RECONNECT_IN, TRY_FOR)
        with trio.move_on_after(RESTART_TIMEOUT):
            async with trio.open_nursery() as nursery:
                for link in self._links.values():
                    nursery.start_soon(link.flush)

    async def handle_upgrade(self, stream: ServerStream, head: RequestHead, leftover: bytes) -> None:
        """Serves a request for an upgrade to DERP, or to a WebSocket with DERP in it. A ``DerpHandler``."""
        stream.set_write_ahead(WRITE_AHEAD)
        if not head.wants_derp_in_websocket():
            is_fast = head.field("derp-fast-start") == "1"
            self.counters["derp.accept.fast_start" if is_fast else "derp.accept.upgrade"] += 1
            await self.serve(stream, fast_start=is_fast, leftover=leftover)
            return
        self.counters["derp.accept.websocket"] += 1
        key = head.field("sec-websocket-key")
        if head.field("sec-websocket-version") != ws_handshake.VERSION or not ws_handshake.is_key(key):
            await self._refuse(stream, websocket_refusal(), CloseReason.MALFORMED)
            return
        carrier = WebSocketStream(stream, is_client=False, leftover=leftover)
        await self._serve(stream, carrier, ws_handshake.response(key, SUBPROTOCOL))

    async def serve(self, stream: ServerStream, *, fast_start: bool, leftover: bytes = b"") -> None:
        """Serves one client until its connection ends, and leaves the stream closed.

        Args:
            stream: just past the HTTP request.
            fast_start: whether the client knows the relay's key, and expects no HTTP response.
            leftover: the bytes that were read past the request.
        """
        stream.replay(leftover)
        await self._serve(stream, stream, b"" if fast_start else upgrade_response(self._relay.public))

    async def _serve(self, stream: ServerStream, carrier: trio.abc.Stream, response: bytes) -> None:
        """Serves a client until its connection ends: gate, handshake, packets.

        Args:
            stream: the client's connection.
            carrier: carries DERP's bytes: the stream itself, or a WebSocket on it.
            response: the HTTP response, empty for a fast start.
        """
        gate = self._open_gate()
        origin = Origin.of(stream.remote[0])
        if not gate.enter(origin, trio.current_time()):
            await self._refuse(stream, _TOO_MANY, CloseReason.TOO_MANY)
            return
        try:
            try:
                client = await self._receive(stream, carrier, response)
            finally:
                gate.settle(origin)
            if isinstance(client, CloseReason):
                reason = client
            else:
                gate.admit(origin, client[0], trio.current_time())
                reason = await self._run(stream, carrier, *client)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            reason = CloseReason.LEFT
        finally:
            gate.leave()
            stream.abort()
        self.counters[f"derp.close.{reason.value}"] += 1

    def _open_gate(self) -> Gate:
        """Returns the gate, made for the first client: its buckets need trio's clock."""
        if self._gate is None:
            max_connections = resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4
            self._gate = Gate(max_connections)
        return self._gate

    async def _refuse(self, stream: ServerStream, response: bytes, reason: CloseReason) -> None:
        self.counters[f"derp.close.{reason.value}"] += 1
        with trio.move_on_after(REFUSAL_TIMEOUT):
            await stream.send_all(response)
        await stream.aclose()

    async def _receive(
        self, stream: ServerStream, carrier: trio.abc.Stream, response: bytes
    ) -> _Introduced | CloseReason:
        """Does the handshake. Returns the admitted client, or why it is refused."""
        try:
            key, info, rest = await self._introduce(stream, carrier, response)
        except trio.TooSlowError:
            return CloseReason.SLOW_HANDSHAKE
        except MalformedPacket:
            return CloseReason.MALFORMED
        except trio.EndOfChannel:
            return CloseReason.LEFT
        if not await self._is_admitted(key, stream.remote[0]):
            _log.info("derp.refused", key=key.short)
            return CloseReason.NOT_ADMITTED
        return key, info, rest

    async def _introduce(
        self, stream: ServerStream, carrier: trio.abc.Stream, response: bytes
    ) -> _Introduced:
        """Sends response and ServerKey, and receives ClientInfo.

        Raises: trio.TooSlowError, MalformedPacket; trio.EndOfChannel where the client leaves.
        """
        with trio.fail_after(HANDSHAKE_TIMEOUT):
            if carrier is stream:
                await stream.send_all(response + self._relay.greeting())
            else:
                await stream.send_all(response)
                await carrier.send_all(self._relay.greeting())
        introduction = self._relay.introduction()
        with trio.fail_after(HANDSHAKE_TIMEOUT):
            while True:
                data = await carrier.receive_some(READ_SIZE)
                if not data:
                    raise trio.EndOfChannel
                if (client := introduction.handle_data(data)) is not None:
                    return *client, introduction.leftover()

    async def _is_admitted(self, key: NodePublic, source: str) -> bool:
        """Returns whether a key is admitted; False on an error, or without an answer in ADMIT_TIMEOUT."""
        identity: object | None = None
        question = _Question(key)
        self._questions.add(question)
        try:
            with trio.move_on_after(ADMIT_TIMEOUT) as scope:
                identity = await self._admit(key, source)
        except Exception as error:
            self.counters["derp.admit.failed"] += 1
            _log.warning("derp.admit_failed", error=type(error).__name__)
        finally:
            self._questions.discard(question)
        if scope.cancelled_caught:
            self.counters["derp.admit.timed_out"] += 1
        return identity is not None and not question.is_void

    async def _run(
        self, stream: ServerStream, carrier: trio.abc.Stream, key: NodePublic, info: ClientInfo, rest: bytes
    ) -> CloseReason:
        connection = self._relay.connect(key, info, trio.current_time())
        link = _Link(connection, carrier)
        self._links[connection] = link
        stream.write_timeout = WRITE_TIMEOUT
        stream.note_known()
        _log.info(
            "derp.connected",
            key=key.short,
            app=info.app_name,
            by=_UPGRADE if carrier is stream else _WEBSOCKET,
        )
        try:
            async with trio.open_nursery() as nursery:
                link.scope = nursery.cancel_scope
                self._drain()
                nursery.start_soon(link.write)
                await self._read(link, rest)
                nursery.cancel_scope.cancel()
        finally:
            del self._links[connection]
            self._relay.disconnect(connection)
            self._drain()
            _log.info("derp.disconnected", key=key.short)
        return connection.closing or CloseReason.LEFT

    async def _read(self, link: "_Link", rest: bytes) -> None:
        """Handles the client's bytes until it leaves, at the rate that it is granted.

        Receivers of its packets are woken, not waited for.
        """
        data: bytes | bytearray = rest
        while True:
            if data:
                await self._work_off(link, data)
                if pause := link.connection.throttle(len(data), trio.current_time()):
                    self.counters["derp.paused"] += 1
                    await trio.sleep(pause)
            try:
                data = await link.stream.receive_some(self._read_size)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return

    async def _work_off(self, link: "_Link", data: bytes | bytearray) -> None:
        """Handles the frames of one read, with a checkpoint between turns: they may be tiny and many."""
        is_more = self._relay.handle_data(link.connection, data, trio.current_time())
        self._drain()
        while is_more:
            await trio.lowlevel.checkpoint()
            is_more = self._relay.handle_data(link.connection, b"", trio.current_time())
            self._drain()

    def _drain(self) -> None:
        while (connection := self._relay.poll_woken()) is not None:
            link = self._links.get(connection)
            if link is not None:
                link.wake()


class _Question:
    """An admission in progress of a key; ``is_void`` once the key was closed meanwhile."""

    def __init__(self, key: NodePublic) -> None:
        self.key = key
        self.is_void = False


class _Link:
    """A client's connection, its stream, and the wake-ups of its writer."""

    def __init__(self, connection: Connection, stream: trio.abc.Stream) -> None:
        self.connection = connection
        self.stream = stream
        self.scope = trio.CancelScope()
        self._woken = trio.Event()
        self._flushed = trio.Event()

    def wake(self) -> None:
        if self.connection.closing is not None:
            self.scope.cancel()
        self._woken.set()

    async def flush(self) -> None:
        """Waits until all frames that wait have been written, or the writer has ended."""
        self._flushed = trio.Event()
        self._woken.set()
        await self._flushed.wait()

    async def write(self) -> None:
        """Writes the frames that wait, and a KeepAlive when it is due, until the stream breaks."""
        try:
            while True:
                data = self.connection.poll_transmit()
                if data is None:
                    await self._wait()
                else:
                    await self.stream.send_all(data)
        except WriteTimeout:
            self.connection.closing = CloseReason.SLOW_READER
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._flushed.set()
        self.scope.cancel()

    async def _wait(self) -> None:
        self._flushed.set()
        self._woken = trio.Event()
        with trio.move_on_at(self.connection.poll_timeout().when):
            await self._woken.wait()
        self.connection.handle_timeout(trio.current_time())
