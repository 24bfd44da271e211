"""Identities as coordination, relay and API ask for them: the store in threads, and what a change must end at once.

Deleting a node or replacing its key takes effect here and now: first in the store, which all three ask, then on the
connections that are already open.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar
from uuid import UUID

import trio

from coderd.api.io.routes import ApiError, Caller, Role
from coderd.api.messages import (
    CreateUser,
    CreateWorkspace,
    DeviceEnrolled,
    DeviceInfo,
    DeviceList,
    EnrolDevice,
    RelayClient,
    ServerCounters,
    UserCreated,
    WorkspaceCreated,
    WorkspaceInfo,
    WorkspaceList,
)
from coderd.coordination.registry import Registry
from coderd.derp.io.server import RelayServer
from coderd.identity.io.store import Store
from coderd.identity.people import BadName, IdentityError, KeyTaken, NameTaken, Node, NotFound, User, UserRole
from coderd.metrics import Counters
from coderd.model.keys import NodePublic
from coderd.model.netmap import NodeKind

MAX_THREADS = 8

T = TypeVar("T")

_STATUSES: dict[type[IdentityError], HTTPStatus] = {
    BadName: HTTPStatus.BAD_REQUEST,
    NameTaken: HTTPStatus.CONFLICT,
    KeyTaken: HTTPStatus.CONFLICT,
    NotFound: HTTPStatus.NOT_FOUND,
}


class Directory:
    """One server's identities.

    Args:
        store: the blocking store.
        counters: shared by all parts of the server, for the counters' route.
    """

    def __init__(self, store: Store, counters: Counters) -> None:
        self._store = store
        self._counters = counters
        self._limiter = trio.CapacityLimiter(MAX_THREADS)
        self._registry: Registry | None = None
        self._relay: RelayServer | None = None

    def attach(self, registry: Registry, relay: RelayServer) -> None:
        """Names those whose connections a change may end."""
        self._registry, self._relay = registry, relay

    # For coordination and the relay

    async def find_node(self, token: str) -> Node | None:
        """Whose node token this is."""
        return await self._in_thread(lambda: self._store.tokens.find_node(token))

    async def claim_node_key(self, node: Node, node_key: NodePublic) -> None:
        """Makes a proven key the node's own; the relay links of the one before are closed. Raises IdentityError."""
        old = await self._in_thread(lambda: self._store.nodes.claim_key(node, node_key))
        if old is not None:
            self._close_relay_links(old)

    async def partners(self, node: Node) -> list[Node]:
        """Everybody whom a node may meet."""
        return await self._in_thread(lambda: self._store.nodes.partners(node))

    async def admit(self, node_key: NodePublic, source: str = "") -> Node | None:
        """Whose node key this is, wherever it comes from: the relay serves nobody else."""
        return await self._in_thread(lambda: self._store.nodes.admit(node_key))

    # For the API

    async def identify(self, token: str) -> Caller:
        """Whose token this is."""
        user = await self._in_thread(lambda: self._store.tokens.find_user(token))
        if user is not None:
            return Caller(
                Role.ADMIN if user.role is not UserRole.MEMBER else Role.USER, user.user_id, user.name
            )
        node = await self._in_thread(lambda: self._store.tokens.find_node(token))
        if node is None:
            return Caller(Role.NOBODY)
        role = Role.DEVICE if node.kind is NodeKind.DEVICE else Role.WORKSPACE
        return Caller(role, node.owner.user_id, node.owner.name, node.node_id)

    async def create_user(self, caller: Caller, request: CreateUser) -> UserCreated:
        """A new user with a session."""
        user, token = await self._ask(lambda: self._store.users.create(request.name))
        return UserCreated(id=user.user_id, name=user.name, token=token)

    async def end_session(self, caller: Caller, token: str) -> None:
        """Revokes the session token."""
        await self._in_thread(lambda: self._store.tokens.forget(token))

    async def create_workspace(self, caller: Caller, request: CreateWorkspace) -> WorkspaceCreated:
        """A new workspace of the caller's."""
        node, token = await self._ask(lambda: self._store.nodes.create_workspace(_user(caller), request.name))
        assert self._registry is not None
        self._registry.introduce(node)
        return WorkspaceCreated(
            id=node.node_id, name=node.name, owner=node.owner.name, address=str(node.address), token=token
        )

    async def list_workspaces(self, caller: Caller) -> WorkspaceList:
        """The caller's workspaces."""
        nodes = await self._ask(lambda: self._store.nodes.of(_user(caller), NodeKind.WORKSPACE))
        return WorkspaceList(workspaces=[self._workspace(node) for node in nodes])

    async def get_workspace(self, caller: Caller, key: UUID | str) -> WorkspaceInfo:
        """One of them."""
        node = await self._ask(lambda: self._store.nodes.get(_user(caller), NodeKind.WORKSPACE, key))
        return self._workspace(node)

    async def delete_workspace(self, caller: Caller, key: UUID | str) -> None:
        """Deletes one of them, and ends its connections."""
        await self._delete(_user(caller), NodeKind.WORKSPACE, key)

    async def enrol_device(self, caller: Caller, request: EnrolDevice) -> DeviceEnrolled:
        """A machine becomes the caller's device."""
        try:
            node_key = NodePublic.parse(request.node_key)
        except ValueError as error:
            raise ApiError(
                HTTPStatus.BAD_REQUEST, "bad_key", f"the node key cannot be used: {error}"
            ) from None
        issued = await self._ask(
            lambda: self._store.nodes.enrol_device(_user(caller), request.name, node_key)
        )
        node = issued.node
        return DeviceEnrolled(
            id=node.node_id,
            name=node.name,
            owner=node.owner.name,
            address=str(node.address),
            token=issued.token,
        )

    async def list_devices(self, caller: Caller) -> DeviceList:
        """The caller's devices."""
        nodes = await self._ask(lambda: self._store.nodes.of(_user(caller), NodeKind.DEVICE))
        return DeviceList(devices=[self._device(node) for node in nodes])

    async def delete_device(self, caller: Caller, key: UUID | str) -> None:
        """Deletes one of the caller's devices, or the device that calls, and ends its connections."""
        if caller.role is Role.DEVICE and key != caller.node_id:
            raise ApiError(HTTPStatus.FORBIDDEN, "forbidden", "a device may remove itself, nobody else")
        await self._delete(_user(caller), NodeKind.DEVICE, key)

    async def counters(self) -> ServerCounters:
        """What was moved and refused."""
        assert self._registry is not None
        assert self._relay is not None
        clients = []
        for node_key, stats in self._relay.stats().items():
            node = await self.admit(node_key)
            clients.append(
                RelayClient(
                    node_key=node_key.text,
                    node=node.full_name if node is not None else "",
                    bytes_in=stats.bytes_in,
                    bytes_out=stats.bytes_out,
                    packets_in=stats.packets_in,
                    packets_out=stats.packets_out,
                )
            )
        return ServerCounters(
            counters=dict(self._counters),
            n_connections=self._registry.n_connections(),
            relay=clients,
            relay_bytes=self._counters["derp.relay.bytes"],
            relay_packets=self._counters["derp.relay.packets"],
        )

    # Inside

    async def _delete(self, owner: User, kind: NodeKind, key: UUID | str) -> None:
        node, node_key = await self._ask(lambda: self._store.nodes.delete(owner, kind, key))
        assert self._registry is not None
        self._registry.forget(node)
        if node_key is not None:
            self._close_relay_links(node_key)

    def _close_relay_links(self, node_key: NodePublic) -> None:
        assert self._relay is not None
        self._relay.close_client(node_key)

    def _workspace(self, node: Node) -> WorkspaceInfo:
        return WorkspaceInfo(
            id=node.node_id,
            name=node.name,
            owner=node.owner.name,
            address=str(node.address),
            online=self._is_online(node),
            created_at=node.created_at,
        )

    def _device(self, node: Node) -> DeviceInfo:
        return DeviceInfo(
            id=node.node_id,
            name=node.name,
            owner=node.owner.name,
            address=str(node.address),
            online=self._is_online(node),
            created_at=node.created_at,
        )

    def _is_online(self, node: Node) -> bool:
        return self._registry is not None and self._registry.is_online(node.node_id)

    async def _ask(self, question: Callable[[], T]) -> T:
        """Asks the store; its refusals become the API's."""
        try:
            return await self._in_thread(question)
        except IdentityError as error:
            status = _STATUSES.get(type(error), HTTPStatus.BAD_REQUEST)
            raise ApiError(status, error.code, str(error), error.hint) from None

    async def _in_thread(self, question: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(question, limiter=self._limiter)


def _user(caller: Caller) -> User:
    assert caller.user_id is not None
    return User(caller.user_id, caller.user_name)
