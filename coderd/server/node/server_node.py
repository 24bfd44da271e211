"""The server as a node: a node's tunnel over the TUN of a namespace, and connections to services of workspaces through it.

A workspace is met when somebody wants one of its services, and left when nobody has for a while. What ends the namespace or
the tunnel costs the connections in it; both are made anew. Where the machine allows no namespace, ``problem`` says so.
"""

import errno
import hashlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import structlog
import trio

from coderd.config.url import ServerUrl
from coderd.coordination.registry import Registry
from coderd.coordination.viewer import NodeFacts
from coderd.engine.commands import NetMapChanged, OwnerCommand, TellServer
from coderd.engine.io.tunnel import Tunnel
from coderd.engine.node import CAPABILITIES
from coderd.identity.people import Node, User
from coderd.model.addresses import PORT_NODE_API
from coderd.model.backoff import Backoff
from coderd.model.errors import MalformedPacket, UserError, first_user_error
from coderd.model.keys import NodePrivate, NodePublic
from coderd.model.netmap import NetMap, NodeKind, Peer
from coderd.model.paths import PathInfo, PathKind
from coderd.peerapi.message import MAX_LINE, DialRequest, Request, TerminalRequest, encode, parse_dial_reply
from coderd.server.node.enclave import Enclave
from coderd.server.node.membership import Membership

NAME = "server"
MTU = 1280
ANY_PORT = 0
DIAL_TIMEOUT = 10.0
"""Seconds from the wish for a workspace that is not met yet to its service's first byte."""
IDLE_TIMEOUT = 600.0
"""Seconds after the last connection that a workspace is left."""
TERMINAL_GRACE = 60.0
"""Seconds in which browsers come back to their shells through a server that starts anew."""
SWEEP_INTERVAL = 60.0
LONGEST_WAIT = 60.0
"""Seconds between two attempts to be a node, at most."""
KEEPALIVE_IDLE = 15
USER_TIMEOUT_MS = 30_000
"""Milliseconds that a workspace may leave bytes unacknowledged: a path that is changed takes less."""

_TCP_USER_TIMEOUT = 18

log = structlog.get_logger(__name__)


def server_identity(coordination_key: NodePublic) -> Node:
    """Who the server is to its workspaces: the same at every start."""
    digest = hashlib.sha256(b"coderd server node" + bytes(coordination_key)).digest()
    node_id = UUID(bytes=digest[:16], version=4)
    return Node(node_id, NodeKind.SERVER, NAME, User(node_id, NAME), 0.0)


@dataclass(slots=True)
class _Met:
    """A workspace that the server has met, and the connections to it."""

    workspace: Node
    used_at: float
    streams: set[trio.SocketStream] = field(default_factory=set)


@dataclass(slots=True)
class _Life:
    """One namespace and one tunnel."""

    enclave: Enclave
    tunnel: Tunnel
    membership: Membership
    netmap: NetMap | None = None
    news: trio.Event = field(default_factory=trio.Event)


class ServerNode:
    """Reaches services on the loopback of workspaces.

    Args:
        registry: who is there.
        identity: see ``server_identity``.
        relay_url: where the server's own relay is reached from the server itself.
        embedded_region: that relay's region; 0 = there is none.
    """

    def __init__(
        self, registry: Registry, identity: Node, *, relay_url: ServerUrl, embedded_region: int
    ) -> None:
        self.identity = identity
        self.problem: UserError | None = None
        """Why the server is no node now: a clause, and a fix as its hint."""
        self.node_key: NodePublic | None = None
        """What relays know it by; another at each start."""
        self._registry = registry
        self._relay_url = relay_url
        self._embedded_region = embedded_region
        self._life: _Life | None = None
        self._met: dict[UUID, _Met] = {}
        self._task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Is a node until cancelled, as far as the machine allows it."""
        self._task_status = task_status
        backoff = Backoff(os.urandom, longest=LONGEST_WAIT)
        while True:
            begun_at = trio.current_time()
            try:
                await self._live()
            except* UserError as group:
                self._note_problem(first_user_error(group))
            self._note_started()
            backoff.handle_connection_ended(trio.current_time() - begun_at)
            await trio.sleep(backoff.next_delay())

    async def dial(self, workspace: Node, port: int) -> trio.SocketStream:
        """A connection to a TCP service on a workspace's loopback. Closed with ``release``.

        Raises:
            UserError: a sentence on why there is none; its code is ``no_web_apps``, ``offline``, ``unreachable`` or
                the node API's own.
        """
        return await self._open(workspace, lambda secret: DialRequest(port=port, secret=secret))

    async def open_terminal(self, workspace: Node) -> trio.SocketStream:
        """A connection on which the workspace speaks terminal frames. Closed with ``release``. Raises UserError as ``dial`` does."""
        return await self._open(
            workspace, lambda secret: TerminalRequest(grace=TERMINAL_GRACE, secret=secret)
        )

    async def _open(self, workspace: Node, request: Callable[[str], Request]) -> trio.SocketStream:
        if (life := self._life) is None:
            raise self._refusal()
        met = self._meet(workspace)
        try:
            with trio.fail_after(DIAL_TIMEOUT):
                peer = await self._find(life, workspace)
                sock = await life.enclave.make_socket()
                secret = life.tunnel.secret_for(peer.node_key)
                stream = await _ask(sock, peer, request(secret))
        except (OSError, MalformedPacket, trio.TooSlowError) as error:
            log.info("workspace_unreachable", workspace=workspace.full_name, error=type(error).__name__)
            raise UserError(f"{workspace.full_name} does not answer", code="unreachable") from None
        met.streams.add(stream)
        return stream

    def release(self, workspace: Node, stream: trio.SocketStream) -> None:
        """Closes a connection that ``dial`` gave."""
        stream.socket.close()
        if (met := self._met.get(workspace.node_id)) is not None:
            met.streams.discard(stream)
            met.used_at = trio.current_time()

    def keep(self, workspace: Node) -> None:
        """A workspace that has been met is not left yet, though nothing is open there."""
        if (met := self._met.get(workspace.node_id)) is not None:
            met.used_at = trio.current_time()

    def path(self, workspace: Node) -> PathInfo | None:
        """How a workspace is reached now; None where it has not been met."""
        life = self._life
        peer = (
            life.netmap.peers.get(workspace.node_id) if life is not None and life.netmap is not None else None
        )
        return life.tunnel.path(peer.node_key) if life is not None and peer is not None else None

    def describe_path(self, workspace: Node) -> str:
        """How a workspace is reached now, in words: ``direct``, or ``relay`` and the region's name; empty where it is not."""
        path, life = self.path(workspace), self._life
        if path is None or path.kind is PathKind.NONE or life is None or life.netmap is None:
            return ""
        region = life.netmap.derp_map.regions.get(path.via) if isinstance(path.via, int) else None
        return f"{path.kind.value} {region.name}" if region is not None else path.kind.value

    def refusal(self) -> UserError | None:
        """Why no workspace can be reached at all."""
        return self._refusal() if self._life is None else None

    def _refusal(self) -> UserError:
        if self.problem is None:
            return UserError("the server is still starting", hint="Try again.", code="no_web_apps")
        return UserError(
            f"web apps are off: {self.problem.message}", hint=self.problem.hint, code="no_web_apps"
        )

    # One life

    async def _live(self) -> None:
        enclave = await Enclave.open(self.identity.address, MTU)
        try:
            async with trio.open_nursery() as nursery:
                life = self._life = self._begin(enclave)
                await nursery.start(life.tunnel.run, self._handle_command)
                life.tunnel.set_server_connected(True)
                nursery.start_soon(life.membership.run)
                nursery.start_soon(self._sweep)
                nursery.start_soon(enclave.watch)
                self.problem = None
                self._note_started()
                log.info("server_is_node", address=str(self.identity.address))
        finally:
            self._end()
            enclave.close()

    def _note_started(self) -> None:
        """It is known whether the server is a node."""
        self._task_status.started()
        self._task_status = trio.TASK_STATUS_IGNORED

    def _note_problem(self, problem: UserError) -> None:
        if self.problem is None or self.problem.message != problem.message:
            log.warning("server_no_node", reason=problem.message, hint=problem.hint)
        self.problem = problem

    def _begin(self, enclave: Enclave) -> _Life:
        key = NodePrivate.generate(os.urandom)
        self.node_key = key.public()
        tunnel = Tunnel(
            key,
            enclave.tun,
            mtu=MTU,
            listen_port=ANY_PORT,
            tai64n_mark=None,  # a new key has no earlier life
        )
        membership = Membership(
            self._registry,
            self.identity,
            NodeFacts(self.node_key, tunnel.disco_key, tunnel.generation, CAPABILITIES),
            relay_url=self._relay_url,
            embedded_region=self._embedded_region,
            on_netmap=self._set_netmap,
        )
        return _Life(enclave, tunnel, membership)

    def _end(self) -> None:
        if self._life is not None:
            self._life.tunnel.close()
        self._life = self.node_key = None
        for met in self._met.values():
            self._registry.part(met.workspace)
            _cut(met)
        self._met.clear()

    def _handle_command(self, command: OwnerCommand) -> None:
        """Carries out what the tunnel's node asks of its owner.

        Three commands need nothing: the workspace at the other end reports the path, the next start has another key and
        so no mark, and the link to the server itself does not break.
        """
        if (life := self._life) is None:
            return
        if isinstance(command, TellServer):
            life.membership.update(command.update)
        elif isinstance(command, NetMapChanged):
            self._take_netmap(life, command.netmap)

    def _set_netmap(self, netmap: NetMap) -> None:
        life = self._life
        assert life is not None
        self._take_netmap(life, life.tunnel.set_netmap(netmap))

    def _take_netmap(self, life: _Life, netmap: NetMap) -> None:
        life.netmap = netmap
        life.news.set()
        life.news = trio.Event()
        for node_id in self._met.keys() - netmap.peers.keys():
            _cut(self._met[node_id])

    # Whom it meets

    def _meet(self, workspace: Node) -> _Met:
        if not self._registry.is_online(workspace.node_id):
            raise UserError(f"{workspace.full_name} is not connected", code="offline")
        met = self._met.setdefault(workspace.node_id, _Met(workspace, 0.0))
        met.used_at = trio.current_time()
        self._registry.meet(workspace)
        return met

    async def _find(self, life: _Life, workspace: Node) -> Peer:
        while life.netmap is None or (peer := life.netmap.peers.get(workspace.node_id)) is None:
            await life.news.wait()
        return peer

    async def _sweep(self) -> None:
        while True:
            await trio.sleep(SWEEP_INTERVAL)
            now = trio.current_time()
            for node_id, met in list(self._met.items()):
                if not met.streams and now - met.used_at > IDLE_TIMEOUT:
                    self._registry.part(met.workspace)
                    del self._met[node_id]


async def _ask(sock: trio.socket.SocketType, peer: Peer, request: Request) -> trio.SocketStream:
    """Connects to the node API and asks for something. Raises OSError, MalformedPacket, or UserError with the node's words."""
    stream = None
    try:
        await sock.connect((str(peer.address), PORT_NODE_API))
        stream = trio.SocketStream(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        await sock.send(encode(request))
        parse_dial_reply(await _read_line(sock))
    except BaseException:
        sock.close()
        raise
    return stream


async def _read_line(sock: trio.socket.SocketType) -> bytes:
    """Exactly one line: what comes behind it is the service's."""
    line = b""
    while len(line) <= MAX_LINE:
        seen = await sock.recv(MAX_LINE, socket.MSG_PEEK)
        if not seen:
            raise ConnectionResetError(errno.ECONNRESET, "the workspace closed the connection")
        end = seen.find(b"\n") + 1
        line += await sock.recv(end or len(seen))
        if end:
            return line
    raise MalformedPacket("the workspace's line has no end")


def _cut(met: _Met) -> None:
    for stream in met.streams:
        stream.socket.close()
    met.streams.clear()
