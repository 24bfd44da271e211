"""Workspaces and their sharing."""

from coderd.api.io.routes import Call, Caller, Handler
from coderd.api.messages import (
    ChangeWorkspace,
    CreateWorkspace,
    ListQuery,
    Nothing,
    WorkspaceCreated,
    WorkspaceInfo,
    WorkspaceList,
)
from coderd.api.rules import MANAGERS
from coderd.identity.io.nodes import Issued
from coderd.identity.people import Node, PathRule
from coderd.identity.policy import may_manage
from coderd.model.netmap import NodeKind
from coderd.server.answers.reaching import actor_of, forbidden, reach_node, user_of
from coderd.server.directory import Directory

KIND = NodeKind.WORKSPACE


class WorkspaceAnswers:
    """Handlers for ``/workspaces``."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._store = directory.store

    def handlers(self) -> dict[str, Handler]:
        """By operation."""
        return {
            "list_workspaces": self._list,
            "create_workspace": self._create,
            "get_workspace": self._get,
            "change_workspace": self._change,
            "delete_workspace": self._delete,
            "share_workspace": self._share,
            "unshare_workspace": self._unshare,
        }

    async def _list(self, call: Call) -> WorkspaceList:
        found = await self._directory.ask(lambda: self._visible(call))
        return WorkspaceList(workspaces=[self._info(call.caller, node) for node in found])

    async def _create(self, call: Call) -> WorkspaceCreated:
        wish, owner, by = call.body(CreateWorkspace), user_of(call.caller), actor_of(call.caller)
        issued = await self._directory.change(
            lambda: self._store.nodes.create_workspace(owner, wish.name, by=by)
        )
        return created(issued)

    async def _get(self, call: Call) -> WorkspaceInfo:
        return self._info(call.caller, await self._reach(call))

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
        return self._info(call.caller, node)

    async def _delete(self, call: Call) -> Nothing:
        node = await self._reach(call)
        by = actor_of(call.caller)
        await self._directory.change(lambda: self._store.nodes.delete(node.owner, KIND, node.node_id, by=by))
        return Nothing()

    async def _share(self, call: Call) -> WorkspaceInfo:
        node, guest, by = await self._reach(call), call.keys["user"], actor_of(call.caller)
        node = await self._directory.change(
            lambda: self._store.nodes.share(node.owner, node.node_id, guest, by=by)
        )
        return self._info(call.caller, node)

    async def _unshare(self, call: Call) -> WorkspaceInfo:
        node, guest, by = await self._reach(call), call.keys["user"], actor_of(call.caller)
        node = await self._directory.change(
            lambda: self._store.nodes.unshare(node.owner, node.node_id, guest, by=by)
        )
        return self._info(call.caller, node)

    async def _reach(self, call: Call) -> Node:
        return await self._directory.ask(lambda: reach_node(self._store, call, KIND))

    def _visible(self, call: Call) -> list[Node]:
        user = user_of(call.caller)
        if not call.asked(ListQuery).all:
            found = self._store.nodes.of(user, KIND) + self._store.nodes.shared_with(user)
        elif call.caller.role in MANAGERS:
            found = self._store.nodes.every(KIND)
        else:
            forbidden("only an admin or an owner may list everybody's")
        return sorted(found, key=lambda node: node.full_name)

    def _info(self, caller: Caller, node: Node) -> WorkspaceInfo:
        is_manager = may_manage(user_of(caller), node.owner)
        return WorkspaceInfo(
            id=node.node_id,
            name=node.name,
            owner=node.owner.name,
            address=str(node.address),
            online=self._directory.registry.is_online(node.node_id),
            created_at=node.created_at,
            path=node.path.value,
            shared_with=[user.name for user in node.shared_with] if is_manager else [],
        )


def created(issued: Issued) -> WorkspaceCreated:
    """A new workspace, or an old one with a new token."""
    node = issued.node
    return WorkspaceCreated(
        id=node.node_id,
        name=node.name,
        owner=node.owner.name,
        address=str(node.address),
        token=issued.token,
    )
