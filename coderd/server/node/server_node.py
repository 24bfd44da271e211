"""The server as a node of its own network: a tunnel, and connections to workspaces through it.

The tunnel's TUN is in a network namespace. The server meets a workspace (both get each other as peer) when a
service of it is requested, and parts from it ``IDLE_TIMEOUT`` seconds after the last connection. If the
namespace or the tunnel ends, its connections are cut and both are made anew. If the machine permits no
namespace, ``problem`` says why.
"""

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
from coderd.peerapi.io.client import open_service
from coderd.peerapi.message import DialRequest, Request, TerminalRequest
from coderd.server.node.enclave import Enclave
from coderd.server.node.membership import Membership

NAME = "server"
"""Name of the server's node."""
MTU = 1280
"""MTU of the namespace's TUN in bytes: IPv6's least (RFC 8200 §5)."""
ANY_PORT = 0
"""UDP port of the tunnel: 0 lets the kernel choose."""
DIAL_TIMEOUT = 10.0
"""Seconds from a request for a workspace's service to the workspace's answer, meeting it included."""
IDLE_TIMEOUT = 600.0
"""Seconds after the last connection before the server parts from a workspace."""
TERMINAL_GRACE = 60.0
"""Seconds for which a workspace keeps a shell open for a browser to come back to through a restarted server.
"""
SWEEP_INTERVAL = 60.0
"""Seconds between two searches for idle workspaces."""
LONGEST_WAIT = 60.0
"""Longest pause in seconds between two attempts to start the node."""
KEEPALIVE_IDLE = 15
"""Seconds of silence before TCP sends a keepalive."""
USER_TIMEOUT_MS = 30_000
"""Milliseconds for which data may stay unacknowledged (TCP_USER_TIMEOUT); longer than a change of path takes.
"""

_TCP_USER_TIMEOUT = 18

log = structlog.get_logger(__name__)


def server_identity(coordination_key: NodePublic) -> Node:
    """Returns the server's identity as a node; derived from its key, so that it survives restarts."""
    digest = hashlib.sha256(b"coderd server node" + bytes(coordination_key)).digest()
    node_id = UUID(bytes=digest[:16], version=4)
    return Node(node_id, NodeKind.SERVER, NAME, User(node_id, NAME), 0.0)


@dataclass(slots=True)
class _Met:
    """Workspace that the server has met, and the connections to it."""

    workspace: Node
    used_at: float
    streams: set[trio.SocketStream] = field(default_factory=set)


@dataclass(slots=True)
class _Life:
    """Namespace and tunnel, which start and end together."""

    enclave: Enclave
    tunnel: Tunnel
    membership: Membership
    netmap: NetMap | None = None
    news: trio.Event = field(default_factory=trio.Event)


class ServerNode:
    """Node of the server, by which it reaches TCP services on the loopback of workspaces.

    Args:
        registry: the registry of connected nodes.
        identity: the result of ``server_identity``.
        relay_url: the server's own relay, as reached from the server itself.
        embedded_region: that relay's region; 0 = there is none.
    """

    def __init__(
        self, registry: Registry, identity: Node, *, relay_url: ServerUrl, embedded_region: int
    ) -> None:
        self.identity = identity
        self.problem: UserError | None = None
        """Why the server is no node now, as a clause with a hint; None while it is one."""
        self.node_key: NodePublic | None = None
        """Public key of the node; new at each start."""
        self._registry = registry
        self._relay_url = relay_url
        self._embedded_region = embedded_region
        self._life: _Life | None = None
        self._met: dict[UUID, _Met] = {}
        self._task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs the node until cancelled, and starts it anew whenever it ends."""
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
        """Connects to a TCP service on a workspace's loopback. ``release`` closes the connection.

        Raises:
            UserError: the service cannot be reached; its code is ``no_web_apps``, ``offline``,
                ``unreachable`` or one
                of the node API's.
        """
        return await self._open(workspace, lambda secret: DialRequest(port=port, secret=secret))

    async def open_terminal(self, workspace: Node) -> trio.SocketStream:
        """Opens a connection on which the workspace speaks terminal frames.

        Raises UserError as ``dial`` does. ``release`` closes the connection.
        """
        return await self._open(
            workspace, lambda secret: TerminalRequest(grace=TERMINAL_GRACE, secret=secret)
        )

    async def _open(self, workspace: Node, request: Callable[[str], Request]) -> trio.SocketStream:
        """Meets a workspace, connects to its node API and sends a request. Raises UserError."""
        if (life := self._life) is None:
            raise self._refusal()
        met = self._meet(workspace)
        try:
            with trio.fail_after(DIAL_TIMEOUT):
                peer = await self._find(life, workspace)
                sock = await life.enclave.make_socket()
                secret = life.tunnel.secret_for(peer.node_key)
                stream = await _connect(sock, peer, request(secret))
        except (OSError, MalformedPacket, trio.TooSlowError) as error:
            log.info("workspace_unreachable", workspace=workspace.full_name, error=type(error).__name__)
            raise UserError(f"{workspace.full_name} does not answer", code="unreachable") from None
        met.streams.add(stream)
        return stream

    def release(self, workspace: Node, stream: trio.SocketStream) -> None:
        """Closes a connection that ``dial`` or ``open_terminal`` returned."""
        stream.socket.close()
        if (met := self._met.get(workspace.node_id)) is not None:
            met.streams.discard(stream)
            met.used_at = trio.current_time()

    def keep(self, workspace: Node) -> None:
        """Restarts the idle time of a workspace that the server has met."""
        if (met := self._met.get(workspace.node_id)) is not None:
            met.used_at = trio.current_time()

    def path(self, workspace: Node) -> PathInfo | None:
        """Returns the current path to a workspace; None if the server has not met it."""
        life = self._life
        peer = (
            life.netmap.peers.get(workspace.node_id) if life is not None and life.netmap is not None else None
        )
        return life.tunnel.path(peer.node_key) if life is not None and peer is not None else None

    def describe_path(self, workspace: Node) -> str:
        """Returns the current path to a workspace as text: ``direct``, or ``relay`` and the region's name.

        Returns an empty text without a path.
        """
        path, life = self.path(workspace), self._life
        if path is None or path.kind is PathKind.NONE or life is None or life.netmap is None:
            return ""
        region = life.netmap.derp_map.regions.get(path.via) if isinstance(path.via, int) else None
        return f"{path.kind.value} {region.name}" if region is not None else path.kind.value

    def refusal(self) -> UserError | None:
        """Returns why no workspace can be reached; None if the node runs."""
        return self._refusal() if self._life is None else None

    def _refusal(self) -> UserError:
        if self.problem is None:
            return UserError("the server is still starting", hint="Try again.", code="no_web_apps")
        return UserError(
            f"web apps are off: {self.problem.message}", hint=self.problem.hint, code="no_web_apps"
        )

    # One life

    async def _live(self) -> None:
        """Makes namespace and tunnel and runs them until one ends."""
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
        """Tells ``run``'s caller once that the node runs or cannot."""
        self._task_status.started()
        self._task_status = trio.TASK_STATUS_IGNORED

    def _note_problem(self, problem: UserError) -> None:
        if self.problem is None or self.problem.message != problem.message:
            log.warning("server_no_node", reason=problem.message, hint=problem.hint)
        self.problem = problem

    def _begin(self, enclave: Enclave) -> _Life:
        """Makes tunnel and membership over a namespace, with a new key."""
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
        """Closes the tunnel, cuts all connections and parts from all workspaces."""
        if self._life is not None:
            self._life.tunnel.close()
        self._life = self.node_key = None
        for met in self._met.values():
            self._registry.part(met.workspace)
            _cut(met)
        self._met.clear()

    def _handle_command(self, command: OwnerCommand) -> None:
        """Carries out what the tunnel's node asks of its owner.

        Three commands need nothing: the workspace at the other end reports the path, the next start has
        another key and no mark, and the link to the server itself does not break.
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
        """Waits until the NetMap has a workspace as peer, and returns it."""
        while life.netmap is None or (peer := life.netmap.peers.get(workspace.node_id)) is None:
            await life.news.wait()
        return peer

    async def _sweep(self) -> None:
        """Parts from workspaces without connections for ``IDLE_TIMEOUT`` seconds, until cancelled."""
        while True:
            await trio.sleep(SWEEP_INTERVAL)
            now = trio.current_time()
            for node_id, met in list(self._met.items()):
                if not met.streams and now - met.used_at > IDLE_TIMEOUT:
                    self._registry.part(met.workspace)
                    del self._met[node_id]


async def _connect(sock: trio.socket.SocketType, peer: Peer, request: Request) -> trio.SocketStream:
    """Connects to a workspace's node API and asks for a service, whose bytes follow on the stream returned.

    Raises:
        OSError: the workspace cannot be reached.
        MalformedPacket: its reply is invalid.
        UserError: the workspace refuses, in its words.
    """
    try:
        await sock.connect((str(peer.address), PORT_NODE_API))
        stream = trio.SocketStream(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        await open_service(stream, request)
    except BaseException:
        sock.close()
        raise
    return stream


def _cut(met: _Met) -> None:
    """Closes all connections to a workspace."""
    for stream in met.streams:
        stream.socket.close()
    met.streams.clear()
