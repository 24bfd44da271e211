"""Handlers for tokens, and for joining with a join key."""

import time
from http import HTTPStatus
from uuid import UUID

from coderd.api.io.routes import ApiError, Call, Handler
from coderd.api.messages import (
    CreateToken,
    JoinWorkspace,
    PageQuery,
    RevokeQuery,
    TokenCreated,
    TokenInfo,
    TokenList,
    WorkspaceCreated,
)
from coderd.api.paging import fit, page_of
from coderd.identity.people import NotFound, User, check_label
from coderd.identity.tokens import TokenKind, TokenRecord
from coderd.server.directory import Directory
from coderd.server.handlers.reaching import actor_of, as_key, not_found, reach_user, user_of
from coderd.server.handlers.workspaces import created


class TokenHandlers:
    """Handlers for ``/tokens`` and ``/join``."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._store = directory.store

    def handlers(self) -> dict[str, Handler]:
        """Returns the handlers by operation."""
        return {
            "list_tokens": self._list,
            "create_token": self._create,
            "token_descent": self._descent,
            "revoke_token": self._revoke,
            "list_user_tokens": self._list_users,
            "user_token_descent": self._descent,
            "revoke_user_token": self._revoke,
            "join": self._join,
        }

    async def _list(self, call: Call) -> TokenList:
        query = call.asked(PageQuery)
        found = await self._directory.ask(lambda: self._store.tokens.of(user_of(call.caller)))
        page, keys, has_more = page_of(found, _place, query)
        tokens, after = fit(_listed(page).tokens, keys, query, has_more=has_more)
        return TokenList(tokens=tokens, next=after)

    async def _create(self, call: Call) -> TokenCreated:
        wish, user, by = call.body(CreateToken), user_of(call.caller), actor_of(call.caller)
        is_join = wish.kind == "join"
        if (is_join and wish.scope != "all") or (
            not is_join and (wish.reusable or wish.workspace is not None)
        ):
            raise ApiError(
                HTTPStatus.BAD_REQUEST,
                "bad_request",
                "only a session token has a scope, and only a join key can be reusable or for a workspace",
            )
        wanted = None if wish.lifetime is None else time.time() + wish.lifetime
        made = await self._directory.change(
            lambda: self._store.tokens.create(
                user,
                TokenKind.JOIN if is_join else TokenKind.SESSION,
                check_label(wish.name) if wish.name else "",
                scope=wish.scope,
                expires_at=wanted,
                uses=1 if is_join and not wish.reusable else None,
                workspace=wish.workspace,
                by=by,
            )
        )
        return TokenCreated(token=made.token, info=_info(made.record))

    async def _list_users(self, call: Call) -> TokenList:
        user = await self._user(call)
        return _listed(await self._directory.ask(lambda: self._store.tokens.of(user)))

    async def _descent(self, call: Call) -> TokenList:
        user, token_id, is_whole = await self._user(call), _token_id(call), call.asked(RevokeQuery).nodes
        descent = self._store.tokens.descent
        return _listed(await self._directory.ask(lambda: descent(user, token_id, is_whole=is_whole)))

    async def _revoke(self, call: Call) -> TokenList:
        user, token_id, by = await self._user(call), _token_id(call), actor_of(call.caller)
        is_whole = call.asked(RevokeQuery).nodes
        return _listed(
            await self._directory.change(
                lambda: self._store.tokens.revoke(user, token_id, is_whole=is_whole, by=by)
            )
        )

    async def _user(self, call: Call) -> User:
        """Returns the user whose tokens the path is about: the named one, else the caller."""
        if "key" not in call.keys:
            return user_of(call.caller)
        return await self._directory.ask(lambda: reach_user(self._store, call))

    async def _join(self, call: Call) -> WorkspaceCreated:
        name, by = call.body(JoinWorkspace).name, actor_of(call.caller)
        try:
            issued = await self._directory.change_in_thread(
                lambda: self._store.tokens.redeem(call.token, name, by=by)
            )
        except NotFound as error:
            raise ApiError(HTTPStatus.UNAUTHORIZED, "unauthorized", str(error)) from None
        return created(issued)


def _token_id(call: Call) -> UUID:
    token_id = as_key(call.keys["id"])
    if not isinstance(token_id, UUID):
        not_found("there is no such token")
    return token_id


def _place(record: TokenRecord) -> str:
    """Returns a token's sort key in pages: creation time and id, as text that sorts as the number does."""
    return f"{record.created_at:020.6f} {record.token_id}"


def _listed(found: list[TokenRecord]) -> TokenList:
    return TokenList(tokens=[_info(record) for record in found])


def _info(record: TokenRecord) -> TokenInfo:
    return TokenInfo(
        id=record.token_id,
        kind=record.kind.name.lower(),
        name=record.name,
        scope=record.scope.value,
        created_at=record.created_at,
        expires_at=record.expires_at,
        uses_left=record.uses_left,
        node=record.node,
        made_with=record.parent_id,
        is_sign_in=record.is_sign_in,
    )
