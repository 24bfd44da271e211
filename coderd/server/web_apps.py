"""Web apps, assembled: the server's node, access to identities, and the site in front of everything else."""

from contextlib import AbstractContextManager
from functools import partial
from uuid import UUID

import trio
from starlette.applications import Starlette
from starlette.types import ASGIApp

from coderd.apps.address import Wildcard
from coderd.apps.io.app_site import AppSite
from coderd.browser.io.sign_in import SignIn
from coderd.config.server import ServerConfig
from coderd.config.url import ServerUrl
from coderd.derp.io.server import RelayServer
from coderd.http.relay_routes import relay_routes
from coderd.http.server import serve_http
from coderd.identity.apps import App
from coderd.identity.people import Node, User
from coderd.model.errors import UserError
from coderd.model.keys import NodePrivate, NodePublic
from coderd.server.access_log import AccessLog
from coderd.server.browser_sessions import BrowserSessions
from coderd.server.directory import Directory
from coderd.server.node.server_node import ServerNode, server_identity


class WebApps:
    """Web apps of one server.

    Args:
        config: the server's options.
        directory: the identities and connected nodes.
        sessions: the sessions of browsers.
        access_log: records which user used what.
        relay: the server's own relay.
        key: the server's coordination key; names its node, and seals cookies.
    """

    def __init__(
        self,
        config: ServerConfig,
        directory: Directory,
        sessions: BrowserSessions,
        access_log: AccessLog,
        relay: RelayServer,
        key: NodePrivate,
    ) -> None:
        self._config = config
        self._directory = directory
        self._sessions = sessions
        self._access_log = access_log
        self._relay = relay
        self._identity = server_identity(key.public())
        self._key = key.raw
        self._node: ServerNode | None = None

    @property
    def wildcard(self) -> Wildcard | None:
        """Hosts of web apps; None: they have none."""
        suffix = self._config.apps.wildcard
        return Wildcard(suffix) if suffix else None

    def is_apps_host(self, host: str) -> bool:
        """Returns whether a Host field names a host of web apps, where every path is the app's own."""
        wildcard = self.wildcard
        return wildcard is not None and wildcard.covers(host)

    @property
    def node(self) -> ServerNode | None:
        """Node of the server; None if web apps are switched off."""
        return self._node

    @property
    def problem(self) -> UserError | None:
        """Why web apps do not work, as a clause with a hint; None if they work or are switched off."""
        return self._node.problem if self._node is not None else None

    def admits(self, node_key: NodePublic) -> Node | None:
        """Returns the identity of the server's own node if this is its key, else None."""
        return self._identity if self._node is not None and node_key == self._node.node_key else None

    async def start(self, nursery: trio.Nursery, sign_in: SignIn, rest: ASGIApp) -> ASGIApp:
        """Starts what web apps need.

        Returns the app that serves them and passes all other requests to ``rest``.
        """
        options = self._config.apps
        if not options.has_apps:
            return rest
        self._node = ServerNode(
            self._directory.registry,
            self._identity,
            relay_url=await self._start_relay(nursery),
            embedded_region=self._config.derp.region_id if self._config.derp.has_relay else 0,
        )
        site = AppSite(
            self,
            sign_in,
            access_url=self._config.access_url,
            wildcard=self.wildcard,
            has_path_apps=options.has_path_apps,
            trusts_path_apps=options.trusts_path_apps,
            key=self._key,
            counters=self._directory.counters,
            rest=rest,
        )
        nursery.start_soon(self._node.run)
        nursery.start_soon(site.run)
        return site

    async def _start_relay(self, nursery: trio.Nursery) -> ServerUrl:
        """Serves the relay on loopback for the server's own node, which then needs no way through a proxy.

        Returns its URL.
        """
        if not self._config.derp.has_relay:
            return self._config.access_url
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        serve = partial(serve_http, derp=self._relay.handle_upgrade)
        await nursery.start(serve, listeners, Starlette(routes=relay_routes()))
        return ServerUrl("http", "127.0.0.1", listeners[0].socket.getsockname()[1])

    # What the site asks

    @property
    def n_changes(self) -> int:
        """Number that differs after any change in the store."""
        return self._directory.store.n_changes

    async def find_session(self, session_hash: bytes) -> User | None:
        """Returns the user of the session with this hash; None without one."""
        return await self._sessions.find_user(session_hash)

    async def find_workspace(self, owner: str, name: str) -> Node | None:
        """Finds a workspace by its owner's name and its own; None if there is none."""
        return await self._directory.find_workspace(owner, name)

    async def find_app(self, workspace_id: UUID, name: str) -> App | None:
        """Finds an app that has been set for a workspace; None if there is none."""
        store = self._directory.store
        return await self._directory.in_thread(lambda: store.apps.find(workspace_id, name))

    async def dial(self, workspace: Node, port: int) -> trio.SocketStream:
        """Connects to a service on a workspace's loopback. Raises UserError."""
        assert self._node is not None
        return await self._node.dial(workspace, port)

    def note_opened(self, viewer: User, workspace: Node, app: App) -> None:
        """Records that a user uses an app. Does not wait."""
        self._access_log.note_app(viewer, workspace, app)

    def visiting(self, viewer: User | None, workspace: Node, app: App) -> AbstractContextManager[None]:
        """Lists a user's use of an app among the open connections while the context lasts."""
        return self._directory.visits.during(viewer, workspace, app.name)

    def release(self, workspace: Node, stream: trio.SocketStream) -> None:
        """Closes a connection that ``dial`` returned."""
        if self._node is not None:
            self._node.release(workspace, stream)
