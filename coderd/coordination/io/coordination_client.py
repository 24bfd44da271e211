"""The node's end of the WebSocket: dials, redials for ever, and hands over what it learns.

The tunnel never waits for any of this: a server that is down, slow or gone costs news, not connectivity. Only
the server's considered word (a refused token, another machine in our place) ends ``run``.
"""

import ssl
from collections.abc import Callable, Iterable, Set
from typing import cast
from uuid import UUID

import structlog
import trio
from trio_websocket import ConnectionRejected, WebSocketConnection
from trio_websocket import wrap_client_stream as wrap_websocket

from coderd.config.url import parse_server_url
from coderd.coordination.io.link_end import (
    LINK_ERRORS,
    ServerLeaves,
    explain,
    first_cause,
    judge,
    refused,
    wrong_kind,
)
from coderd.coordination.message import (
    ALIVE_INTERVAL,
    FINAL_CODES,
    MAX_SERVER_MESSAGE,
    PATH,
    SILENCE_TIMEOUT,
    VERSION,
    Alive,
    Challenge,
    Goodbye,
    Hello,
    Message,
    Peers,
    Reconnect,
    Refusal,
    ServerMessage,
    Welcome,
    encode_message,
    parse_server_message,
)
from coderd.coordination.netmap_client import NetMapClient
from coderd.coordination.outbox import Outbox
from coderd.coordination.proof import NONCE_SIZE, make_proof
from coderd.coordination.reporter import Reports
from coderd.coordination.server_state import ServerState
from coderd.http.dialer import dial
from coderd.http.pinned import server_context
from coderd.model import RandomBytes
from coderd.model.backoff import Backoff
from coderd.model.errors import MalformedPacket, UserError
from coderd.model.keys import DiscoPublic, NodePrivate, NodePublic
from coderd.model.netmap import NetMap, NodeKind
from coderd.model.reachability import NodeUpdate

JOIN_TIMEOUT = 15.0
"""Seconds from the first SYN to the welcome."""
GOODBYE_TIMEOUT = 1.0
LONGEST_WAIT = 10.0
"""Seconds between two attempts, at most."""

log = structlog.get_logger(__name__)


RECEIVE_SIZE = 4096
"""Bytes of one read: the library works off all frames of it in one go, and they may be tiny."""


class CoordinationClient:
    """One node's link to its server.

    Args:
        url: the server's access URL, as this node was given it.
        token: the node's bearer token; goes to this origin and nowhere else.
        node_key: proves to the server who we are.
        disco_key: this start's public disco key.
        generation: random per process start, below 2**64.
        rng: randomness for nonces and jitter.
        kind: what this machine is by its person's doing; the server's welcome must say the same. None:
            whatever it says.
        capabilities: what this program can do that earlier releases could not; peers are told.
        resume_token: of an earlier connection, from the state file.
        netmap: the last NetMap, from the state file.
        on_netmap: called with each new NetMap, never twice with the same; must not block or raise.
        on_state: called when the link comes, goes, or fails once more.
        tls: trust for https; the URL's when None.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        node_key: NodePrivate,
        disco_key: DiscoPublic,
        generation: int,
        rng: RandomBytes,
        kind: NodeKind | None = None,
        capabilities: Iterable[str] = (),
        resume_token: str | None = None,
        netmap: NetMap | None = None,
        on_netmap: Callable[[NetMap], None],
        on_state: Callable[[ServerState], None],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = parse_server_url(url)
        self._token = token
        self._node_key = node_key
        self._disco_key = disco_key
        self._generation = generation
        self._rng = rng
        self._kind = kind
        self._capabilities = sorted(capabilities)
        self._resume_token = resume_token or ""
        self._on_netmap = on_netmap
        self._on_state = on_state
        self._tls = tls
        self._core = NetMapClient(self._url, netmap)
        self._backoff = Backoff(rng, longest=LONGEST_WAIT)
        self._outbox = Outbox(generation)
        self._welcomed_at: float | None = None
        self._is_leaving = False
        self._wake = trio.Event()
        self._scope = trio.CancelScope()
        self._connection = trio.CancelScope()
        self._left = trio.Event()

    @property
    def resume_token(self) -> str:
        """The latest resume token, for the state file; empty before the first welcome."""
        return self._resume_token

    def update(self, update: NodeUpdate) -> None:
        """Tells the server where this node is reachable.

        The latest state wins and is said again after a reconnect.
        """
        if self._outbox.update(update):
            self._wake.set()

    def report(self, reports: Reports) -> None:
        """Tells the server, on this connection alone, by which paths this node reaches its peers."""
        if self._welcomed_at is not None:
            self._outbox.report(reports)
            self._wake.set()

    def forget_peers(self, node_ids: Set[UUID]) -> None:
        """Drops peers that the server lost and whose tunnels have died since; ``on_netmap`` hears of it."""
        netmap = self._core.forget(node_ids)
        if netmap is not None:
            self._on_netmap(netmap)

    def break_connection(self) -> None:
        """Cuts the link as a network would; it is dialled again."""
        self._connection.cancel()

    async def goodbye(self) -> None:
        """Leaves on purpose, so that peers drop this node at once; ``run`` then returns.

        Takes at most a second.
        """
        self._is_leaving = True
        self._wake.set()
        with trio.move_on_after(GOODBYE_TIMEOUT):
            if self._welcomed_at is not None:
                await self._left.wait()
        self._scope.cancel()

    async def run(self) -> None:
        """Keeps the link up until ``goodbye``.

        Raises:
            UserError: with Exit.REFUSED, if the server refuses the token, the key or the version, another
                machine has taken this node's place, or the server takes this one for another kind of node.
        """
        if not (self._token.isascii() and self._token.isprintable()) or " " in self._token:
            raise refused("the token contains characters that no token has")
        with self._scope:
            while not self._is_leaving:
                delay = await self._attempt()
                await trio.sleep(delay)

    async def _attempt(self) -> float:
        """One connection's life; returns the seconds to wait before the next one."""
        error: BaseException | None = None
        try:
            await self._connect()
        except* LINK_ERRORS as group:
            error = first_cause(group)
        except* UserError as group:
            error = first_cause(group)  # the last word, whatever broke beside it
        if isinstance(error, ConnectionRejected):
            error = judge(error)
        if isinstance(error, UserError):
            self._on_state(ServerState(False, error.message, self._backoff.attempts))
            raise error
        return self._after_attempt(error)

    def _after_attempt(self, error: BaseException | None) -> float:
        if self._welcomed_at is not None:
            self._backoff.handle_connection_ended(trio.current_time() - self._welcomed_at)
            self._welcomed_at = None
        self._core.handle_disconnected()
        delay = self._backoff.next_delay()
        if isinstance(error, ServerLeaves):
            delay = max(delay, error.delay)
        reason = "the node leaves" if self._is_leaving else explain(error)
        log.info("server_lost", reason=reason, attempts=self._backoff.attempts, retry_in=round(delay, 3))
        self._on_state(ServerState(False, reason, self._backoff.attempts))
        return 0.0 if self._is_leaving else delay

    async def _connect(self) -> None:
        join_deadline = trio.current_time() + JOIN_TIMEOUT
        with trio.fail_at(join_deadline):
            stream = await dial(
                self._url.host, self._url.port, tls=self._tls_context(), server_name=self._url.host
            )
        self._left = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                self._connection = nursery.cancel_scope
                with trio.fail_at(join_deadline):
                    websocket = await self._upgrade(nursery, stream)
                    await self._join(websocket)
                nursery.start_soon(self._write, websocket, nursery.cancel_scope)
                await self._read(websocket)
        finally:
            await trio.aclose_forcefully(stream)
            self._left.set()

    def _tls_context(self) -> ssl.SSLContext | None:
        if not self._url.is_tls:
            return None
        return self._tls or server_context(self._url)

    async def _upgrade(self, nursery: trio.Nursery, stream: trio.abc.Stream) -> WebSocketConnection:
        websocket: WebSocketConnection = await wrap_websocket(
            nursery,
            cast(trio.SocketStream, stream),  # any stream will do, whatever the annotation says
            self._url.authority,
            PATH,
            extra_headers=[(b"authorization", b"Bearer " + self._token.encode("ascii"))],
            max_message_size=MAX_SERVER_MESSAGE,
            receive_buffer_size=RECEIVE_SIZE,
        )
        return websocket

    async def _join(self, websocket: WebSocketConnection) -> None:
        """Challenge, hello, welcome; then everything that the server should know is owed again."""
        challenge = await self._next_message(websocket)
        if not isinstance(challenge, Challenge):
            raise MalformedPacket("the server did not begin with a challenge")
        await websocket.send_message(encode_message(self._hello(challenge)))
        welcome = await self._next_message(websocket)
        if not isinstance(welcome, Welcome):
            raise MalformedPacket("the server did not answer with a welcome")
        self._resume_token = welcome.resume_token
        self._welcomed_at = trio.current_time()
        self._outbox.handle_joined()
        self._take(welcome)
        log.info("server_joined")
        self._on_state(ServerState(True, resume_token=self._resume_token))

    def _hello(self, challenge: Challenge) -> Hello:
        try:
            server_key = NodePublic.parse(challenge.server_key)
            nonce = bytes.fromhex(challenge.nonce)
            if len(nonce) != NONCE_SIZE:
                raise ValueError(f"a nonce has {NONCE_SIZE} bytes")
            proof = make_proof(self._node_key, server_key, nonce, self._token, self._rng)
        except ValueError as error:
            raise MalformedPacket(f"the server's challenge is unusable: {error}") from None
        return Hello(
            version=VERSION,
            node_key=self._node_key.public().text,
            disco_key=self._disco_key.text,
            generation=self._generation,
            proof=proof,
            resume_token=self._resume_token,
            capabilities=self._capabilities,
        )

    async def _read(self, websocket: WebSocketConnection) -> None:
        while True:
            with trio.fail_after(SILENCE_TIMEOUT):
                message = await self._next_message(websocket)
            if isinstance(message, Reconnect):
                raise ServerLeaves(message.after_ms / 1000)
            self._take(message)
            if isinstance(message, Peers) and self._outbox.confirm(message):
                self._wake.set()

    async def _next_message(self, websocket: WebSocketConnection) -> ServerMessage:
        message = parse_server_message(await websocket.get_message())
        if isinstance(message, Refusal):
            log.warning("server_refuses", code=message.code, reason=message.message)
            if message.code in FINAL_CODES:
                raise refused(message.message, message.code)
            raise ServerLeaves(0.0, message.message)
        return message

    def _take(self, message: ServerMessage) -> None:
        if isinstance(message, Welcome) and self._kind is not None and message.self.kind != self._kind.value:
            raise wrong_kind(self._kind)
        netmap = self._core.handle_message(message)
        if netmap is not None:
            self._on_netmap(netmap)

    async def _write(self, websocket: WebSocketConnection, connection: trio.CancelScope) -> None:
        """Sends what is owed, ``alive`` when nothing is, and the goodbye last."""
        while not self._is_leaving:
            message: Message | None = self._outbox.take()
            if message is None:
                self._wake = trio.Event()
                with trio.move_on_after(ALIVE_INTERVAL) as waited:
                    await self._wake.wait()
                message = Alive() if waited.cancelled_caught else None
            if message is not None:
                with trio.fail_after(SILENCE_TIMEOUT):
                    await websocket.send_message(encode_message(message))
        await self._say_goodbye(websocket)
        connection.cancel()

    async def _say_goodbye(self, websocket: WebSocketConnection) -> None:
        with trio.move_on_after(GOODBYE_TIMEOUT):
            await websocket.send_message(encode_message(Goodbye()))
            await websocket.aclose()
