"""Handlers for the web apps of workspaces, and with whom they are shared."""

from http import HTTPStatus

from coderd.api.io.routes import ApiError, Call, Handler
from coderd.api.messages import AppInfo, AppList, Nothing, SetApp
from coderd.apps.address import AppAddress, Wildcard, is_app_name, port_of
from coderd.identity.apps import App, AppShare
from coderd.identity.people import Node
from coderd.model.netmap import NodeKind
from coderd.server.directory import Directory
from coderd.server.handlers.reaching import actor_of, reach_node


class AppHandlers:
    """Handlers for ``/workspaces/{key}/apps``."""

    def __init__(self, directory: Directory, wildcard: Wildcard | None) -> None:
        self._directory = directory
        self._wildcard = wildcard
        self._store = directory.store

    def handlers(self) -> dict[str, Handler]:
        """Returns the handlers by operation."""
        return {"list_apps": self._list, "set_app": self._set, "delete_app": self._delete}

    async def _list(self, call: Call) -> AppList:
        node = await self._reach(call)
        found = await self._directory.ask(lambda: self._store.apps.of(node.node_id))
        return AppList(apps=[self._info(node, app) for app in found])

    async def _set(self, call: Call) -> AppInfo:
        wish, node, by = call.body(SetApp), await self._reach(call), actor_of(call.caller)
        app = App(wish.name, _port(wish), AppShare(wish.share))
        await self._directory.change(lambda: self._store.apps.set(node, app, by=by))
        return self._info(node, app)

    async def _delete(self, call: Call) -> Nothing:
        node, name, by = await self._reach(call), call.keys["app"], actor_of(call.caller)
        await self._directory.change(lambda: self._store.apps.delete(node, name, by=by))
        return Nothing()

    async def _reach(self, call: Call) -> Node:
        return await self._directory.ask(lambda: reach_node(self._store, call, NodeKind.WORKSPACE))

    def _info(self, node: Node, app: App) -> AppInfo:
        address = AppAddress(node.owner.name, node.name, app.name)
        host = self._wildcard.host_of(address) if self._wildcard is not None else None
        return AppInfo(
            name=app.name, port=app.port, share=app.share.value, path=f"{address.prefix}/", host=host or ""
        )


def _port(wish: SetApp) -> int:
    """Returns the port of an app. Raises ApiError if the name is invalid or names another port."""
    if not is_app_name(wish.name):
        raise ApiError(
            HTTPStatus.BAD_REQUEST,
            "bad_name",
            "the app's name is invalid: it must be its port or a DNS label without --",
            "Use lower-case letters, digits and single hyphens.",
        )
    named = port_of(wish.name)
    port = wish.port if wish.port is not None else named
    if port is None or (named is not None and port != named):
        raise ApiError(
            HTTPStatus.BAD_REQUEST,
            "bad_port",
            "the app's port is missing, or is not the one that its name says",
            "Give a port; an app named by a port has that port.",
        )
    return port
