"""Connections to apps: dialled, reused for further requests, and closed.

A dial costs a round trip to the workspace, and one more from its node to the app. A connection that a
complete answer has left idle therefore waits a few seconds for the next request of its session. The app may
close it at any time, without a sign whether it has seen a request; idle connections therefore carry only
requests that may be repeated, which are repeated once, on a new connection.
"""

import select
from dataclasses import dataclass
from typing import Final, Protocol

import trio
from starlette.types import Receive, Scope, Send

from coderd.apps.exchange import BadAnswer
from coderd.apps.headers import Hop, has_body
from coderd.apps.idle import IdlePool, Route
from coderd.apps.io.relaying import Relaying
from coderd.browser.requests import header
from coderd.identity.people import Node
from coderd.metrics import Counters
from coderd.model import limits

SWEEP_INTERVAL: Final = 1.0
MAX_CARRIED: Final = limits.MAX_APP_CARRIED
"""Bytes of bodies after which a connection is not kept: the kernel's buffers of it have grown."""
_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Dialler(Protocol):
    """Who makes connections."""

    async def dial(self, workspace: Node, port: int) -> trio.SocketStream:
        """Connects to a service on a workspace's loopback. Raises UserError."""

    def release(self, workspace: Node, stream: trio.SocketStream) -> None:
        """Closes a connection that ``dial`` gave."""


@dataclass(slots=True, eq=False)
class Connection:
    """One to an app."""

    workspace: Node
    stream: trio.SocketStream
    n_carried: int = 0
    """Bytes of bodies, both ways."""

    @property
    def is_quiet(self) -> bool:
        """Whether the connection is open and no data has come on it.

        An app that sends something unasked is about to close.
        """
        fd = self.stream.socket.fileno()
        if fd < 0:
            return False
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return not poll.poll(0)


class Connections:
    """All of one server.

    Args:
        dialler: makes and closes them.
        counters: ``apps.dialled``, ``apps.reused``, ``apps.repeated``.
    """

    def __init__(self, dialler: Dialler, counters: Counters) -> None:
        self._dialler = dialler
        self._counters = counters
        self._idle: IdlePool[Connection] = IdlePool()

    async def run(self) -> None:
        """Closes what has been idle for too long, until cancelled; then all that is idle."""
        try:
            while True:
                await trio.sleep(SWEEP_INTERVAL)
                self._close(self._idle.expire(trio.current_time()))
        finally:
            self._close(self._idle.clear())

    async def dial(self, workspace: Node, port: int) -> Connection:
        """Opens a connection, to be ended with ``close``."""
        self._counters["apps.dialled"] += 1
        return Connection(workspace, await self._dialler.dial(workspace, port))

    def close(self, connection: Connection) -> None:
        """Closes a connection and gives its place up."""
        self._dialler.release(connection.workspace, connection.stream)

    async def relay(
        self,
        workspace: Node,
        port: int,
        session_hash: bytes | None,
        scope: Scope,
        target: bytes,
        hop: Hop,
        receive: Receive,
        send: Send,
    ) -> None:
        """Sends one request to an app and its answer back.

        Raises:
            UserError: the app cannot be reached.
            BadAnswer: the app does not answer with valid HTTP; nothing was sent to the browser.
            BadRequest: the request is not valid HTTP/1.1.
        """
        route = _route(workspace, port, session_hash, scope)
        used = self._take(route) if route is not None and _is_repeatable(scope) else None
        if used is not None:
            relaying = Relaying(scope, target, hop)
            try:
                await self._carry(used, route, relaying, receive, send)
                return
            except BadAnswer:
                if relaying.is_heard:
                    raise
                self._counters["apps.repeated"] += 1
        relaying = Relaying(scope, target, hop)
        fresh = await self.dial(workspace, port)
        await self._carry(fresh, route, relaying, receive, send)

    async def _carry(
        self,
        connection: Connection,
        route: Route | None,
        relaying: Relaying,
        receive: Receive,
        send: Send,
    ) -> None:
        is_in_order = False
        try:
            await relaying.run(connection.stream, receive, send)
            connection.n_carried += relaying.n_carried
            is_in_order = relaying.is_in_order and connection.n_carried <= MAX_CARRIED
        finally:
            if route is not None and is_in_order and connection.is_quiet:
                self._close(self._idle.put(route, connection, trio.current_time()))
            else:
                self.close(connection)

    def _take(self, route: Route) -> Connection | None:
        while (connection := self._idle.take(route)) is not None:
            if connection.is_quiet:
                self._counters["apps.reused"] += 1
                return connection
            self.close(connection)
        return None

    def _close(self, connections: list[Connection]) -> None:
        for connection in connections:
            self.close(connection)


def _is_repeatable(scope: Scope) -> bool:
    return scope["method"] in _REPEATABLE and not has_body(scope["headers"])


def _route(workspace: Node, port: int, session_hash: bytes | None, scope: Scope) -> Route | None:
    """Returns the pool key for a connection that may be reused, or None if it must be closed afterwards.

    It must be closed if an unauthenticated browser authenticates to the app itself, by an ``Authorization``
    field.
    """
    if session_hash is None and header(scope["headers"], b"authorization"):
        return None
    return Route(workspace.node_id, port, session_hash)
