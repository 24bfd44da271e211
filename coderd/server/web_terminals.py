"""Terminals by browser, assembled: what their site asks of identities and of the server's node."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from uuid import UUID

import trio

from coderd.browser.io.sign_in import SignIn
from coderd.config.server import ServerConfig
from coderd.identity.people import Node, User
from coderd.model.errors import UserError
from coderd.model.keys import NodePrivate
from coderd.model.netmap import NodeKind
from coderd.server.access_log import AccessLog
from coderd.server.browser_sessions import BrowserSessions
from coderd.server.directory import Directory
from coderd.server.node.server_node import ServerNode
from coderd.webterminal.io.terminal_site import TerminalSite, problem_of
from coderd.webterminal.page import Problem

_NO_NODE = Problem(
    "This server is no node of its own network, so that browsers reach no workspace through it.",
    "Whoever runs it may start it with web apps: without --disable-path-apps, or with --wildcard-access-url.",
)
_TRUSTS_APPS = Problem(
    "This server lets web apps act as its own pages do, so that it offers no terminals.",
    "Whoever runs it may start it without --dangerous-trust-path-apps. From your own machine: coderctl terminal.",
)


class WebTerminals:
    """What terminals by browser ask of the server.

    Args:
        config: the server's options.
        directory: identities, and who is connected.
        sessions: those of browsers.
        access_log: notes which user used what.
        node: the server's own, None where it is none.
    """

    def __init__(
        self,
        config: ServerConfig,
        directory: Directory,
        sessions: BrowserSessions,
        access_log: AccessLog,
        node: Callable[[], ServerNode | None],
    ) -> None:
        self._config = config
        self._directory = directory
        self._sessions = sessions
        self._access_log = access_log
        self._node = node

    def site(self, sign_in: SignIn, key: NodePrivate) -> TerminalSite:
        """The page and its WebSocket; ``key`` seals the ids of shells."""
        return TerminalSite(self, sign_in, key=key.raw, rng=os.urandom, counters=self._directory.counters)

    async def find_session(self, session_hash: bytes) -> User | None:
        """Whose session has this hash."""
        return await self._sessions.find_user(session_hash)

    async def find_workspace(self, owner: str, name: str) -> Node | None:
        """A workspace by its names."""
        return await self._directory.find_workspace(owner, name)

    async def find_workspace_by_id(self, node_id: UUID) -> Node | None:
        """A workspace by its id."""
        store = self._directory.store
        return await self._directory.in_thread(lambda: store.nodes.find(NodeKind.WORKSPACE, node_id))

    async def open_terminal(self, workspace: Node) -> trio.SocketStream:
        """A stream on which the workspace speaks terminal frames. Raises UserError."""
        node = self._node()
        if node is None or self._config.apps.trusts_path_apps:
            problem = _NO_NODE if node is None else _TRUSTS_APPS
            raise UserError(problem.message.rstrip("."), hint=problem.hint, code="no_web_terminal")
        return await node.open_terminal(workspace)

    def note_opened(self, viewer: User, workspace: Node) -> None:
        """Somebody has a terminal: for the record, without waiting."""
        self._access_log.note_terminal(viewer, workspace)

    def visiting(self, viewer: User, workspace: Node) -> AbstractContextManager[None]:
        """While somebody has a terminal open."""
        return self._directory.visits.during(viewer, workspace)

    def release(self, workspace: Node, stream: trio.SocketStream) -> None:
        """Closes a stream that ``open_terminal`` gave."""
        if (node := self._node()) is not None:
            node.release(workspace, stream)

    def keep(self, workspace: Node) -> None:
        """A workspace is still wanted, though nothing is open there."""
        if (node := self._node()) is not None:
            node.keep(workspace)

    def describe_path(self, workspace: Node) -> str:
        """``direct``, or ``relay`` and a region's name; empty while unknown."""
        node = self._node()
        return node.describe_path(workspace) if node is not None else ""

    def terminal_problem(self) -> Problem | None:
        """Why this server offers no terminals; a workspace that is away is waited for by the page."""
        if self._config.apps.trusts_path_apps:
            return _TRUSTS_APPS
        if (node := self._node()) is None:
            return _NO_NODE
        if (refusal := node.refusal()) is not None:
            return problem_of(refusal)
        return None
