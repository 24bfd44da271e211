"""Terminals by browser, assembled: their site's access to identities and to the server's node."""

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
    "This server runs without web apps, so browsers cannot reach workspaces through it.",
    "Its operator can switch web apps on: start it without --disable-path-apps, or with --wildcard-access-url.",
)
_TRUSTS_APPS = Problem(
    "This server trusts web apps as its own pages, so it offers no terminals.",
    "Its operator can start it without --dangerous-trust-path-apps; from your own machine use coderctl terminal.",
)


class WebTerminals:
    """Access of the terminal site to one server.

    Args:
        config: the server's options.
        directory: the identities and connected nodes.
        sessions: the sessions of browsers.
        access_log: records which user used what.
        node: returns the server's own node; None if it has none.
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
        """Makes the site: the page and its WebSocket; ``key`` seals the ids of shells."""
        return TerminalSite(self, sign_in, key=key.raw, rng=os.urandom, counters=self._directory.counters)

    async def find_session(self, session_hash: bytes) -> User | None:
        """Returns the user of the session with this hash; None without one."""
        return await self._sessions.find_user(session_hash)

    async def find_workspace(self, owner: str, name: str) -> Node | None:
        """Finds a workspace by its owner's name and its own; None if there is none."""
        return await self._directory.find_workspace(owner, name)

    async def find_workspace_by_id(self, node_id: UUID) -> Node | None:
        """Finds a workspace by its id; None if there is none."""
        store = self._directory.store
        return await self._directory.in_thread(lambda: store.nodes.find(NodeKind.WORKSPACE, node_id))

    async def open_terminal(self, workspace: Node) -> trio.SocketStream:
        """Opens a stream on which the workspace speaks terminal frames. Raises UserError."""
        node = self._node()
        if node is None or self._config.apps.trusts_path_apps:
            problem = _NO_NODE if node is None else _TRUSTS_APPS
            raise UserError(problem.message.rstrip("."), hint=problem.hint, code="no_web_terminal")
        return await node.open_terminal(workspace)

    def note_opened(self, viewer: User, workspace: Node) -> None:
        """Records that a user uses a terminal. Does not wait."""
        self._access_log.note_terminal(viewer, workspace)

    def visiting(self, viewer: User, workspace: Node) -> AbstractContextManager[None]:
        """Lists a user's terminal among the open connections while the context lasts."""
        return self._directory.visits.during(viewer, workspace)

    def release(self, workspace: Node, stream: trio.SocketStream) -> None:
        """Closes a stream that ``open_terminal`` returned."""
        if (node := self._node()) is not None:
            node.release(workspace, stream)

    def keep(self, workspace: Node) -> None:
        """Restarts the idle time of a workspace that the server's node has met."""
        if (node := self._node()) is not None:
            node.keep(workspace)

    def describe_path(self, workspace: Node) -> str:
        """Returns the current path as ``direct``, or ``relay`` and a region's name; empty without a path."""
        node = self._node()
        return node.describe_path(workspace) if node is not None else ""

    def terminal_problem(self) -> Problem | None:
        """Returns why this server offers no terminals; None if it does.

        An offline workspace is the page's concern.
        """
        if self._config.apps.trusts_path_apps:
            return _TRUSTS_APPS
        if (node := self._node()) is None:
            return _NO_NODE
        if (refusal := node.refusal()) is not None:
            return problem_of(refusal)
        return None
