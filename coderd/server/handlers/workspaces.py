"""Handlers for workspaces."""

from coderd.api.io.routes import Call, Handler
from coderd.api.messages import (
    ChangeWorkspace,
    CreateWorkspace,
    ListQuery,
    Nothing,
    WorkspaceCreated,
    WorkspaceInfo,
    WorkspaceList,
)
from coderd.api.paging import fit, page_of
from coderd.api.rules import MANAGERS
from coderd.identity.io.nodes import Issued
from coderd.identity.people import Node
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathRule
from coderd.server.directory import Directory
from coderd.server.handlers.describing import describe, describe_one
from coderd.server.handlers.reaching import actor_of, forbidden, reach_node, user_of

KIND = NodeKind.WORKSPACE


class WorkspaceHandlers:
    """Handlers for ``/workspaces``."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._store = directory.store

    def handlers(self) -> dict[str, Handler]:
        """Returns the handlers by operation."""
        return {
            "list_workspaces": self._list,
            "create_workspace": self._create,
            "get_workspace": self._get,
            "change_workspace": self._change,
            "delete_workspace": self._delete,
        }

    async def _list(self, call: Call) -> WorkspaceList:
        query, found = call.asked(ListQuery), await self._directory.ask(lambda: self._visible(call))
        page, keys, has_more = page_of(found, lambda node: node.full_name, query)
        shown = await describe(self._directory, call.caller, page)
        workspaces, after = fit(shown, keys, query, has_more=has_more)
        return WorkspaceList(workspaces=workspaces, next=after)

    async def _create(self, call: Call) -> WorkspaceCreated:
        wish, owner, by = call.body(CreateWorkspace), user_of(call.caller), actor_of(call.caller)
        issued = await self._directory.change(
            lambda: self._store.nodes.create_workspace(owner, wish.name, by=by)
        )
        return created(issued)

    async def _get(self, call: Call) -> WorkspaceInfo:
        return await describe_one(self._directory, call.caller, await self._reach(call))

    async def _change(self, call: Call) -> WorkspaceInfo:
        wish, by = call.body(ChangeWorkspace), actor_of(call.caller)
        node = await self._reach(call)
        owner, node_id = node.owner, node.node_id
        if (name := wish.name) is not None:
            node = await self._directory.change(
                lambda: self._store.nodes.rename(owner, KIND, node_id, name, by=by)
            )
        if wish.path is not None:
            path = PathRule(wish.path)
            node = await self._directory.change(
                lambda: self._store.nodes.set_path(owner, node_id, path, by=by)
            )
        return await describe_one(self._directory, call.caller, node)

    async def _delete(self, call: Call) -> Nothing:
        node = await self._reach(call)
        by = actor_of(call.caller)
        await self._directory.change(lambda: self._store.nodes.delete(node.owner, KIND, node.node_id, by=by))
        return Nothing()

    async def _reach(self, call: Call) -> Node:
        return await self._directory.ask(lambda: reach_node(self._store, call, KIND))

    def _visible(self, call: Call) -> list[Node]:
        """Returns the caller's workspaces and those shared with the caller, or with ``all`` everyone's.

        Blocks. Raises ApiError if everyone's are not permitted.
        """
        user = user_of(call.caller)
        if not call.asked(ListQuery).all:
            found = self._store.nodes.of(user, KIND) + self._store.nodes.shared_with(user)
        elif call.caller.role in MANAGERS:
            found = self._store.nodes.every(KIND)
        else:
            forbidden("only an admin or an owner may list everyone's")
        return found


def created(issued: Issued) -> WorkspaceCreated:
    """Describes a workspace with its token, issued now."""
    node = issued.node
    return WorkspaceCreated(
        id=node.node_id,
        name=node.name,
        owner=node.owner.name,
        address=str(node.address),
        token=issued.token,
    )
