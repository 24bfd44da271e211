"""Handlers for devices."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from uuid import UUID

from coderd.api.io.routes import ApiError, Call, Handler
from coderd.api.messages import (
    ChangeDevice,
    DeviceEnrolled,
    DeviceInfo,
    DeviceList,
    EnrolDevice,
    ListQuery,
    Nothing,
)
from coderd.api.paging import fit, page_of
from coderd.api.rules import MANAGERS
from coderd.identity.people import Node
from coderd.model.keys import NodePublic
from coderd.model.netmap import NodeKind
from coderd.model.roles import Role
from coderd.server.directory import Directory
from coderd.server.handlers.reaching import actor_of, as_key, forbidden, reach_node, user_of

KIND = NodeKind.DEVICE


class DeviceHandlers:
    """Handlers for ``/devices``."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._store = directory.store

    def handlers(self) -> dict[str, Handler]:
        """Returns the handlers by operation."""
        return {
            "list_devices": self._list,
            "enrol_device": self._enrol,
            "get_device": self._get,
            "change_device": self._change,
            "approve_device": self._approve,
            "delete_device": self._delete,
        }

    async def _list(self, call: Call) -> DeviceList:
        query, found = call.asked(ListQuery), await self._directory.ask(lambda: self._visible(call))
        page, keys, has_more = page_of(found, lambda node: node.full_name, query)
        ends = await self._ends(page)
        shown = [self._info(node, ends) for node in page]
        devices, after = fit(shown, keys, query, has_more=has_more)
        return DeviceList(devices=devices, next=after)

    async def _enrol(self, call: Call) -> DeviceEnrolled:
        wish, owner, by = call.body(EnrolDevice), user_of(call.caller), actor_of(call.caller)
        try:
            node_key = NodePublic.parse(wish.node_key)
        except ValueError as error:
            raise ApiError(HTTPStatus.BAD_REQUEST, "bad_key", f"the node key is invalid: {error}") from None
        issued = await self._directory.change(
            lambda: self._store.nodes.enrol_device(
                owner, wish.name, node_key, own_token=wish.device_token or "", by=by
            )
        )
        node = issued.node
        return DeviceEnrolled(
            id=node.node_id,
            name=node.name,
            owner=node.owner.name,
            address=str(node.address),
            token=issued.token,
            is_waiting=node.is_waiting,
        )

    async def _get(self, call: Call) -> DeviceInfo:
        return await self._one(await self._reach(call))

    async def _change(self, call: Call) -> DeviceInfo:
        node, name, by = await self._reach(call), call.body(ChangeDevice).name, actor_of(call.caller)
        return await self._one(
            await self._directory.change(
                lambda: self._store.nodes.rename(node.owner, KIND, node.node_id, name, by=by)
            )
        )

    async def _approve(self, call: Call) -> DeviceInfo:
        node, by = await self._reach(call), actor_of(call.caller)
        return await self._one(
            await self._directory.change(lambda: self._store.nodes.approve(node.owner, node.node_id, by=by))
        )

    async def _delete(self, call: Call) -> Nothing:
        if call.caller.role is Role.DEVICE and as_key(call.keys["key"]) != call.caller.node_id:
            forbidden("a device's token may delete only that device")
        node, by = await self._reach(call), actor_of(call.caller)
        await self._directory.change(lambda: self._store.nodes.delete(node.owner, KIND, node.node_id, by=by))
        return Nothing()

    async def _reach(self, call: Call) -> Node:
        return await self._directory.ask(lambda: reach_node(self._store, call, KIND))

    def _visible(self, call: Call) -> list[Node]:
        """Returns the caller's devices, or with ``all`` everyone's. Blocks.

        Raises ApiError if that is not permitted.
        """
        if not call.asked(ListQuery).all:
            return self._store.nodes.of(user_of(call.caller), KIND)
        if call.caller.role not in MANAGERS:
            forbidden("only an admin or an owner may list everyone's")
        return sorted(self._store.nodes.every(KIND), key=lambda node: node.full_name)

    async def _one(self, node: Node) -> DeviceInfo:
        return self._info(node, await self._ends([node]))

    async def _ends(self, devices: Sequence[Node]) -> Mapping[UUID, float]:
        """Returns when devices' tokens expire, in wall-clock seconds; those that never do are left out."""
        ids = [node.node_id for node in devices]
        return await self._directory.ask(lambda: self._store.tokens.ends_of(ids))

    def _info(self, node: Node, ends: Mapping[UUID, float]) -> DeviceInfo:
        return DeviceInfo(
            id=node.node_id,
            name=node.name,
            owner=node.owner.name,
            address=str(node.address),
            online=self._directory.registry.is_online(node.node_id),
            created_at=node.created_at,
            is_waiting=node.is_waiting,
            expires_at=ends.get(node.node_id),
        )
