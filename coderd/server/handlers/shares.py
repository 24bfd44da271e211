"""Handlers for sharing: the owner offers and withdraws shares, the guest accepts and leaves them."""

from uuid import UUID

from coderd.api.io.routes import Call, Handler
from coderd.api.messages import (
    ConnectionList,
    Nothing,
    OfferInfo,
    OfferList,
    OfferShare,
    WorkspaceInfo,
)
from coderd.config.sharing import SharingOptions
from coderd.identity.people import Node
from coderd.identity.shares import Wish
from coderd.model.netmap import NodeKind
from coderd.server.directory import Directory
from coderd.server.handlers.describing import describe_connections, describe_offer, describe_one
from coderd.server.handlers.reaching import SEPARATOR, actor_of, as_key, not_found, reach_node, user_of


class ShareHandlers:
    """Handlers for ``/workspaces/{key}/shares``, ``/workspaces/{key}/connections`` and ``/shares``."""

    def __init__(self, directory: Directory, options: SharingOptions) -> None:
        self._directory = directory
        self._store = directory.store
        self._options = options

    def handlers(self) -> dict[str, Handler]:
        """Returns the handlers by operation."""
        return {
            "share_workspace": self._share,
            "unshare_workspace": self._unshare,
            "list_connections": self._connections,
            "list_shares": self._list,
            "accept_share": self._accept,
            "leave_share": self._leave,
        }

    # The giver

    async def _share(self, call: Call) -> WorkspaceInfo:
        """Offers a workspace to a user, or changes a share's terms.

        An unknown user's name gets the same answer, so that the answer does not reveal which names exist.
        """
        asked, node, by = call.body(OfferShare), await self._reach(call), actor_of(call.caller)
        wish = Wish(asked.ports, asked.terminal, asked.lifetime, asked.endless)
        node = await self._directory.change(
            lambda: self._store.shares.offer(
                node.owner,
                node.node_id,
                call.keys["user"],
                wish,
                accepts=self._options.accepts,
                max_given=self._options.max_given,
                by=by,
            )
        )
        return await describe_one(self._directory, call.caller, node)

    async def _unshare(self, call: Call) -> WorkspaceInfo:
        node, guest, by = await self._reach(call), call.keys["user"], actor_of(call.caller)
        node = await self._directory.change(
            lambda: self._store.shares.withdraw(node.owner, node.node_id, guest, by=by)
        )
        return await describe_one(self._directory, call.caller, node)

    async def _connections(self, call: Call) -> ConnectionList:
        node = await self._reach(call)
        return ConnectionList(connections=describe_connections(self._directory, node))

    async def _reach(self, call: Call) -> Node:
        return await self._directory.ask(lambda: reach_node(self._store, call, NodeKind.WORKSPACE))

    # The guest

    async def _list(self, call: Call) -> OfferList:
        guest = user_of(call.caller)
        found = await self._directory.ask(lambda: self._store.shares.offered_to(guest))
        return OfferList(offers=[describe_offer(offered) for offered in found])

    async def _accept(self, call: Call) -> OfferInfo:
        guest, key, by = user_of(call.caller), _key(call), actor_of(call.caller)
        accepted = await self._directory.change(lambda: self._store.shares.accept(guest, key, by=by))
        return describe_offer(accepted)

    async def _leave(self, call: Call) -> Nothing:
        guest, key, by = user_of(call.caller), _key(call), actor_of(call.caller)
        await self._directory.change(lambda: self._store.shares.leave(guest, key, by=by))
        return Nothing()


def _key(call: Call) -> UUID | tuple[str, str]:
    """Returns another user's workspace: its id, or owner and name. Raises ApiError for a bare name."""
    text = call.keys["key"]
    key = as_key(text)
    if isinstance(key, UUID):
        return key
    owner, separator, name = key.partition(SEPARATOR)
    if not separator:
        not_found(f"there is no offer or share {text}: name its owner too, as in ann/{text}")
    return owner, name
