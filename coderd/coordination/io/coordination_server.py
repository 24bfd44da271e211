"""The server's end of the WebSocket: lets a node in, then moves messages between it and the registry."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol

import msgspec
import structlog
import trio
from starlette.websockets import WebSocket

from coderd.coordination.farewell import farewells
from coderd.coordination.io.keepalive import KeepaliveMonitor
from coderd.coordination.message import (
    VERSION,
    Alive,
    Challenge,
    Goodbye,
    Hello,
    Message,
    NodeMessage,
    Peers,
    Ready,
    Refusal,
    SelfEntry,
    Update,
    Welcome,
    encode_message,
    parse_node_message,
)
from coderd.coordination.proof import NONCE_SIZE, is_proof
from coderd.coordination.registry import DELETED, Registry
from coderd.coordination.resume import is_resume_token, make_resume_token
from coderd.coordination.shown_entry import refuse_claim
from coderd.coordination.viewer import NodeFacts, Viewer
from coderd.http.turns import Turn
from coderd.http.websocket import AppSocket, TextSocket, WebSocketClosed
from coderd.identity.people import AwaitsApproval, IdentityError, Node, NotFound, TimeIsUp
from coderd.identity.tokens import hash_token
from coderd.metrics import Counters
from coderd.model import RandomBytes, limits
from coderd.model.derpmap import EMBEDDED_REGION
from coderd.model.errors import MalformedPacket
from coderd.model.keys import DiscoPublic, NodePrivate, NodePublic, ServerPublic
from coderd.model.token_bucket import TokenBucket

HELLO_TIMEOUT: Final = limits.HELLO_TIMEOUT
WRITE_TIMEOUT: Final = limits.COORDINATION_WRITE_TIMEOUT
"""Seconds that one message may take to leave: a slower node is dropped, and learns all anew when it
returns."""
CLOSE_TIMEOUT: Final = limits.COORDINATION_CLOSE_TIMEOUT

MESSAGE_RATE: Final = limits.NODE_MESSAGE_RATE
MESSAGE_BURST: Final = limits.NODE_MESSAGE_BURST
"""Messages per second that a node may send in the long run, and at once."""

ALIVE = encode_message(Alive())

_STATUSES: dict[type[IdentityError], tuple[int, dict[str, str]]] = {
    AwaitsApproval: (403, {"retry-after": "15"}),
    TimeIsUp: (401, {"www-authenticate": "Bearer"}),
}
UNKNOWN_TOKEN = "this token is unknown or has been revoked"

log = structlog.get_logger(__name__)


class NodeRecord(Protocol):
    """All that the identities know of a node that joins, as of one moment."""

    @property
    def node(self) -> Node:
        """Who it is."""

    @property
    def node_key(self) -> NodePublic | None:
        """The key that it has proven of late."""

    @property
    def partners(self) -> list[Node]:
        """Everybody whom it may meet."""


class Directory(Protocol):
    """What coordination asks of the identities. Its answers may take a thread."""

    async def find_node_record(self, token: str, source: str = "") -> NodeRecord | None:
        """Returns the record of the node with this token, None for an unknown token.

        Raises IdentityError for an address that has tried too many unknown ones, and for a device that may
        not join now.
        """

    async def claim_node_key(self, node: Node, node_key: NodePublic) -> None:
        """Makes a proven key the node's own. Raises IdentityError if it is somebody else's."""

    async def partners(self, node: Node) -> list[Node]:
        """Returns every node that this one may meet."""


class _Refused(Exception):
    """The connection must end with this message."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class CoordinationServer:
    """Serves ``/api/v1/coordinate``.

    Args:
        directory: the identities.
        private: the server's coordination key.
        relay_key: the embedded relay's public key, for the welcome.
        rng: randomness for challenges.
        counters: what was refused and dropped.
        registry: who is connected.
        embedded_region: the map's region that is this server itself; 0 where it has no relay.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        private: NodePrivate,
        relay_key: ServerPublic,
        rng: RandomBytes,
        counters: Counters,
        registry: Registry,
        embedded_region: int = EMBEDDED_REGION,
    ) -> None:
        self.registry = registry
        self._directory = directory
        self._private = private
        self._public = private.public()
        self._relay_key = relay_key
        self._embedded_region = embedded_region
        self._rng = rng
        self._counters = counters
        self._idle = trio.Event()
        self._idle.set()
        self._n_open = 0
        self._keepalive = KeepaliveMonitor(trio.current_time())

    async def run(self) -> None:
        """Watches all links, for ever."""
        await self._keepalive.run()

    def set_derp_map(self, derp_map: dict[str, object]) -> None:
        """Takes the relay map in JSON.

        Connected nodes learn of a change at once, others with their welcome.
        """
        self.registry.set_derp_map(derp_map)

    async def endpoint(self, websocket: WebSocket) -> None:
        """Serves a WebSocket that the web framework has accepted, on a connection that was used before."""
        await self.serve(AppSocket(websocket))

    async def serve(self, websocket: TextSocket) -> None:
        """Serves one connection, from the bearer token to its end."""
        token, n_changes = _bearer(websocket), self.registry.n_changes
        try:
            record = await self._directory.find_node_record(token, websocket.source)
        except IdentityError as error:
            self._counters[f"coordination.refused.{error.code}"] += 1
            log.info("node_refused", reason=error.code)
            status, headers = _STATUSES.get(type(error), (429, {"retry-after": "60"}))
            await _refuse(websocket, status, error.code, str(error), error.hint, headers)
            return
        if record is None:
            self._counters["coordination.refused.unauthorized"] += 1
            log.info("node_refused", reason="unauthorized")
            await _refuse(websocket, 401, "unauthorized", UNKNOWN_TOKEN, "", {"www-authenticate": "Bearer"})
            return
        self._n_open += 1
        self._idle = trio.Event()
        try:
            await self._serve(websocket, record, hash_token(token), n_changes)
            await websocket.aclose()
        finally:
            self._n_open -= 1
            if self._n_open == 0:
                self._idle.set()

    async def close(self) -> None:
        """Tells every node to come back shortly and waits, for a moment, until they have heard it."""
        self.registry.close(farewells(self._n_open, self._rng))
        with trio.move_on_after(CLOSE_TIMEOUT):
            await self._idle.wait()

    async def _serve(
        self, websocket: TextSocket, record: NodeRecord, token_hash: bytes, n_changes: int
    ) -> None:
        node = record.node
        bound = log.bind(node_id=str(node.node_id), kind=node.kind.value)
        try:
            facts, resumed = await self._admit(websocket, record, token_hash, n_changes)
            await self._converse(websocket, record, facts, resumed, n_changes)
        except _Refused as refused:
            self._counters[f"coordination.refused.{refused.refusal.code}"] += 1
            bound.warning("node_refused", reason=refused.refusal.code)
            await _finish(websocket, refused.refusal)
        except MalformedPacket as error:
            self._counters["coordination.refused.malformed"] += 1
            bound.warning("node_refused", reason="malformed", error=str(error))
            await _finish(websocket, Refusal("malformed", "the message does not follow the protocol"))
        except trio.TooSlowError:
            self._counters["coordination.drop.silent"] += 1
            bound.info("node_lost", reason="silent")
            await _finish(websocket, Refusal("silent", "nothing was heard for too long"))
        except (WebSocketClosed, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            bound.info("node_lost", reason=type(error).__name__)

    # Letting a node in

    async def _admit(
        self, websocket: TextSocket, record: NodeRecord, token_hash: bytes, n_changes: int
    ) -> tuple[NodeFacts, bool]:
        node = record.node
        nonce = self._rng(NONCE_SIZE)
        with trio.fail_after(HELLO_TIMEOUT):
            await websocket.accept(encode_message(Challenge(self._public.text, nonce.hex())))
            hello = await _receive(websocket)
        if not isinstance(hello, Hello):
            raise MalformedPacket("a node begins with a hello")
        if hello.version != VERSION:
            raise _Refused(Refusal("version", f"this server speaks version {VERSION} of the protocol"))
        facts = _facts(hello)
        if not is_proof(hello.proof, facts.node_key, self._private, nonce, token_hash):
            raise _Refused(Refusal("bad_proof", "the node did not prove that it holds its node key"))
        if (refusal := refuse_claim(node, hello.allowed_ips)) is not None:
            raise _Refused(refusal)
        if facts.node_key != record.node_key or n_changes != self.registry.n_changes:
            await self._claim(node, facts.node_key)
        resumed = is_resume_token(
            hello.resume_token, self._private, node.node_id, facts.node_key, time.time()
        )
        return facts, resumed

    async def _claim(self, node: Node, node_key: NodePublic) -> None:
        try:
            await self._directory.claim_node_key(node, node_key)
        except IdentityError as error:
            raise _Refused(Refusal(_claim_code(error), str(error))) from None

    async def _converse(
        self, websocket: TextSocket, record: NodeRecord, facts: NodeFacts, resumed: bool, n_changes: int
    ) -> None:
        node, partners = record.node, record.partners
        if n_changes != self.registry.n_changes:
            partners = await self._directory.partners(node)
        bell = _Bell()
        connection = self.registry.connect(node, facts, partners=partners, resumed=resumed, wake=bell.ring)
        log.info("node_joined", node_id=str(node.node_id), kind=node.kind.value, resumed=resumed)
        try:
            if n_changes != self.registry.n_changes:
                await self._look_again(websocket, node)
            websocket.note_known()
            await _send(websocket, self._welcome(connection.node, facts))
            link = _Link(websocket, connection, bell)
            with self._keepalive.watching(link), link.scope:
                await _race(lambda: self._read(link), lambda: self._write(link))
            if link.is_silent:
                raise trio.TooSlowError
        finally:
            self.registry.lost(connection)

    async def _look_again(self, websocket: TextSocket, node: Node) -> None:
        """Some identity has changed while this node joined, before the registry knew it and could be told."""
        try:
            fresh = await self._directory.find_node_record(_bearer(websocket), websocket.source)
        except IdentityError as error:
            raise _Refused(Refusal(error.code, str(error))) from None
        if fresh is None:
            raise _Refused(DELETED)
        if fresh.node != node:
            self.registry.amend(fresh.node)

    def _welcome(self, node: Node, facts: NodeFacts) -> Welcome:
        return Welcome(
            self=SelfEntry(node.node_id, node.kind.value, node.full_name, str(node.address)),
            derp_map=self.registry.derp_map,
            resume_token=make_resume_token(self._private, node.node_id, facts.node_key, time.time()),
            server_key=self._relay_key.text if self._embedded_region else "",
            embedded_region=self._embedded_region,
        )

    # A node that is in

    async def _read(self, link: "_Link") -> None:
        while True:
            message = await _receive(link.websocket)
            link.heard_at = trio.current_time()
            if not link.allowance.take(1, link.heard_at):
                raise _Refused(Refusal("too_fast", "the node says more than anybody needs to know"))
            if isinstance(message, Goodbye):
                self.registry.goodbye(link.connection)
                log.info("node_left", node_id=str(link.connection.node.node_id))
                return
            self._handle(link.connection, message)

    def _handle(self, connection: Viewer, message: NodeMessage) -> None:
        match message:
            case Update():
                self._counters["coordination.updates.received"] += 1
                now = trio.current_time()
                if (refusal := self.registry.update(connection, message, now)) is not None:
                    raise _Refused(refusal)
                self.registry.path_reports.take(connection, message, now)
            case Ready():
                self.registry.ready(connection, message.ids)
            case Hello():
                raise MalformedPacket("a second hello")

    async def _write(self, link: "_Link") -> None:
        """Sends what is owed; ends with the connection's last word."""
        connection, turn = link.connection, Turn()
        while connection.end is None:
            await turn.count()  # what leaves without waiting lets nobody else run
            message: Message | None = self.registry.poll(connection, trio.current_time())
            if message is None and link.is_alive_owed:
                message = Alive()
            if message is not None:
                link.is_alive_owed = False
                await _send(link.websocket, message)
                link.said_at = trio.current_time()
                if isinstance(message, Peers):
                    self._counters["coordination.updates.sent"] += 1
                    link.allowance.give(1, link.said_at)
                continue
            hold = self.registry.poll_timeout(connection)
            await link.bell.wait(None if hold is None else hold.when)
        await _finish(link.websocket, connection.end)


class _Bell:
    """Wakes one waiter, also when it was rung before the wait."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self, until: float | None) -> None:
        if until is None:
            await self._event.wait()
        else:
            with trio.move_on_at(until):
                await self._event.wait()
        self._event = trio.Event()


class _Link:
    """A node that is in, for the pulse to watch."""

    def __init__(self, websocket: TextSocket, connection: Viewer, bell: _Bell) -> None:
        self.websocket = websocket
        self.connection = connection
        self.bell = bell
        self.scope = trio.CancelScope()
        self.heard_at = self.said_at = trio.current_time()
        self.allowance = TokenBucket(MESSAGE_RATE, MESSAGE_BURST)
        """Messages that the node may still send. One that asks for a confirmation gives one token back: a
        device that may meet thousands of workspaces hears of each of them when they all come back."""
        self.is_alive_owed = False
        self.is_silent = False

    def say_alive(self, now: float) -> None:
        """Says it here and now, as nearly always works; or else the task that sends does."""
        if not self.websocket.send_text_nowait(ALIVE):
            self.is_alive_owed = True
            self.bell.ring()

    def give_up(self) -> None:
        """Ends the link."""
        self.is_silent = True
        self.scope.cancel()


async def _race(first: Callable[[], Awaitable[None]], *others: Callable[[], Awaitable[None]]) -> None:
    """Runs tasks, one of them in this very task, until any of them ends; raises what it raised."""
    errors: list[Exception] = []

    async def run(task: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            await task()
        except Exception as error:
            errors.append(error)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for task in others:
            nursery.start_soon(run, task, nursery.cancel_scope)
        await run(first, nursery.cancel_scope)
    if errors:
        raise errors[0]


def _bearer(websocket: TextSocket) -> str:
    scheme, _, token = websocket.field("authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


async def _refuse(
    websocket: TextSocket, status: int, code: str, message: str, hint: str, fields: Mapping[str, str]
) -> None:
    body = msgspec.json.encode({"code": code, "message": message, "hint": hint})
    await websocket.refuse(status, body, fields)


def _facts(hello: Hello) -> NodeFacts:
    try:
        node_key, disco_key = NodePublic.parse(hello.node_key), DiscoPublic.parse(hello.disco_key)
    except ValueError as error:
        raise MalformedPacket(str(error)) from None
    return NodeFacts(node_key, disco_key, hello.generation, tuple(hello.capabilities))


def _claim_code(error: IdentityError) -> str:
    return "unauthorized" if isinstance(error, NotFound) else error.code


async def _send(websocket: TextSocket, message: Message) -> None:
    text = encode_message(message)
    if not websocket.send_text_nowait(text):
        with trio.fail_after(WRITE_TIMEOUT):
            await websocket.send_text(text)
    elif websocket.is_behind:
        with trio.fail_after(WRITE_TIMEOUT):
            await websocket.flush()


async def _receive(websocket: TextSocket) -> NodeMessage:
    return parse_node_message(await websocket.receive_text())


async def _finish(websocket: TextSocket, message: Message) -> None:
    """Says the last word and closes, as far as the other end still listens."""
    with (
        trio.move_on_after(CLOSE_TIMEOUT),
        suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError),
    ):
        await websocket.send_text(encode_message(message))
        await websocket.send_close()
