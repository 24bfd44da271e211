"""The server's end of the WebSocket: admits a node, then moves messages between it and the registry."""

import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog
import trio
from starlette.websockets import WebSocket

from coderd.coordination.farewell import farewells
from coderd.coordination.io.admission import Admission, Applicant, Directory, Refused
from coderd.coordination.io.keepalive import KeepaliveMonitor
from coderd.coordination.io.node_link import CLOSE_TIMEOUT, Bell, NodeLink, finish, send
from coderd.coordination.message import (
    Alive,
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
)
from coderd.coordination.registry import Registry
from coderd.coordination.resume import make_resume_token
from coderd.coordination.viewer import NodeFacts, Viewer
from coderd.http.turns import Turn
from coderd.http.websocket import AppSocket, TextSocket, WebSocketClosed
from coderd.identity.people import AwaitsApproval, IdentityError, Node, TimeIsUp
from coderd.metrics import Counters
from coderd.model import RandomBytes
from coderd.model.derpmap import EMBEDDED_REGION
from coderd.model.errors import MalformedPacket
from coderd.model.keys import NodePrivate, ServerPublic

_STATUSES: dict[type[IdentityError], tuple[int, dict[str, str]]] = {
    AwaitsApproval: (403, {"retry-after": "15"}),
    TimeIsUp: (401, {"www-authenticate": "Bearer"}),
}
UNKNOWN_TOKEN = "this token is unknown or has been revoked"

log = structlog.get_logger(__name__)


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
        self._admission = Admission(directory, private, rng, registry)
        self._private = private
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
        try:
            applicant = await self._admission.find(websocket)
        except IdentityError as error:
            self._counters[f"coordination.refused.{error.code}"] += 1
            log.info("node_refused", reason=error.code)
            status, headers = _STATUSES.get(type(error), (429, {"retry-after": "60"}))
            await _refuse(websocket, status, error.code, str(error), error.hint, headers)
            return
        if applicant is None:
            self._counters["coordination.refused.unauthorized"] += 1
            log.info("node_refused", reason="unauthorized")
            await _refuse(websocket, 401, "unauthorized", UNKNOWN_TOKEN, "", {"www-authenticate": "Bearer"})
            return
        self._n_open += 1
        self._idle = trio.Event()
        try:
            await self._serve(websocket, applicant)
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

    async def _serve(self, websocket: TextSocket, applicant: Applicant) -> None:
        node = applicant.node
        bound = log.bind(node_id=str(node.node_id), kind=node.kind.value)
        try:
            facts, resumed = await self._admission.admit(websocket, applicant)
            await self._converse(websocket, applicant, facts, resumed)
        except Refused as refused:
            self._counters[f"coordination.refused.{refused.refusal.code}"] += 1
            bound.warning("node_refused", reason=refused.refusal.code)
            await finish(websocket, refused.refusal)
        except MalformedPacket as error:
            self._counters["coordination.refused.malformed"] += 1
            bound.warning("node_refused", reason="malformed", error=str(error))
            await finish(websocket, Refusal("malformed", "the message does not follow the protocol"))
        except trio.TooSlowError:
            self._counters["coordination.drop.silent"] += 1
            bound.info("node_lost", reason="silent")
            await finish(websocket, Refusal("silent", "nothing was heard for too long"))
        except (WebSocketClosed, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            bound.info("node_lost", reason=type(error).__name__)

    # A node that is admitted

    async def _converse(
        self, websocket: TextSocket, applicant: Applicant, facts: NodeFacts, resumed: bool
    ) -> None:
        """Registers a node that has proven its key, and serves it until either end has had enough."""
        node, partners = applicant.node, await self._admission.partners(applicant)
        bell = Bell()
        viewer = self.registry.connect(node, facts, partners=partners, resumed=resumed, wake=bell.ring)
        log.info("node_joined", node_id=str(node.node_id), kind=node.kind.value, resumed=resumed)
        try:
            await self._admission.look_again(websocket, applicant)
            websocket.note_known()
            await send(websocket, self._welcome(viewer.node, facts))
            link = NodeLink(websocket, viewer, bell)
            with self._keepalive.watching(link), link.scope:
                await _race(lambda: self._read(link), lambda: self._write(link))
            if link.is_silent:
                raise trio.TooSlowError
        finally:
            self.registry.lost(viewer)

    def _welcome(self, node: Node, facts: NodeFacts) -> Welcome:
        return Welcome(
            self=SelfEntry(node.node_id, node.kind.value, node.full_name, str(node.address)),
            derp_map=self.registry.derp_map,
            resume_token=make_resume_token(self._private, node.node_id, facts.node_key, time.time()),
            server_key=self._relay_key.text if self._embedded_region else "",
            embedded_region=self._embedded_region,
        )

    async def _read(self, link: NodeLink) -> None:
        while True:
            message = await link.receive()
            if not link.allowance.take(1, link.heard_at):
                raise Refused(Refusal("too_fast", "the node sends too many messages"))
            if isinstance(message, Goodbye):
                self.registry.goodbye(link.viewer)
                log.info("node_left", node_id=str(link.viewer.node.node_id))
                return
            self._handle(link.viewer, message)

    def _handle(self, viewer: Viewer, message: NodeMessage) -> None:
        match message:
            case Update():
                self._counters["coordination.updates.received"] += 1
                now = trio.current_time()
                if (refusal := self.registry.update(viewer, message, now)) is not None:
                    raise Refused(refusal)
                self.registry.path_reports.take(viewer, message, now)
            case Ready():
                self.registry.ready(viewer, message.ids)
            case Hello():
                raise MalformedPacket("a second hello")

    async def _write(self, link: NodeLink) -> None:
        """Sends what is owed; ends with the connection's last message."""
        viewer, turn = link.viewer, Turn()
        while viewer.end is None:
            await turn.count()  # what leaves without waiting lets no other task run
            message: Message | None = self.registry.poll(viewer, trio.current_time())
            if message is None and link.is_alive_owed:
                message = Alive()
            if message is not None:
                link.is_alive_owed = False
                await link.send(message)
                if isinstance(message, Peers):
                    self._counters["coordination.updates.sent"] += 1
                    link.allowance.give(1, link.said_at)
                continue
            hold = self.registry.poll_timeout(viewer)
            await link.bell.wait(None if hold is None else hold.when)
        await finish(link.websocket, viewer.end)


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


async def _refuse(
    websocket: TextSocket, status: int, code: str, message: str, hint: str, fields: Mapping[str, str]
) -> None:
    body = msgspec.json.encode({"code": code, "message": message, "hint": hint})
    await websocket.refuse(status, body, fields)
