"""Handlers for users and sessions."""

from dataclasses import asdict

from msgspec.structs import replace

from coderd.api.io.routes import Call, Handler
from coderd.api.messages import (
    ChangeUser,
    CreateUser,
    Nothing,
    PageQuery,
    SignInGiven,
    Usage,
    UserCreated,
    UserInfo,
    UserList,
)
from coderd.api.paging import fit, page_of
from coderd.identity.people import User
from coderd.identity.policy import may_give_role
from coderd.identity.tokens import hash_token
from coderd.model import limits
from coderd.model.roles import UserRole
from coderd.server.directory import Directory
from coderd.server.handlers.reaching import actor_of, forbidden, reach_user, user_of


class UserHandlers:
    """Handlers for ``/users`` and ``/sessions``."""

    def __init__(self, directory: Directory, max_shares: int = limits.MAX_SHARES_GIVEN) -> None:
        self._directory = directory
        self._store = directory.store
        self._max_shares = max_shares

    def handlers(self) -> dict[str, Handler]:
        """Returns the handlers by operation."""
        return {
            "me": self._me,
            "end_session": self._end_session,
            "list_users": self._list,
            "create_user": self._create,
            "get_user": self._get,
            "change_user": self._change,
            "delete_user": self._delete,
            "give_sign_in": self._give_sign_in,
        }

    async def _me(self, call: Call) -> UserInfo:
        return await self._with_usage(user_of(call.caller))

    async def _end_session(self, call: Call) -> Nothing:
        token_hash, by = hash_token(call.token), actor_of(call.caller)
        await self._directory.change(lambda: self._store.sessions.sign_out(token_hash, by=by))
        return Nothing()

    async def _list(self, call: Call) -> UserList:
        query, found = call.asked(PageQuery), await self._directory.ask(self._store.users.everybody)
        page, keys, has_more = page_of(found, lambda user: user.name, query)
        users, after = fit([_info(user) for user in page], keys, query, has_more=has_more)
        return UserList(users=users, next=after)

    async def _create(self, call: Call) -> UserCreated:
        wish, by = call.body(CreateUser), actor_of(call.caller)
        role = wish.role
        if not may_give_role(user_of(call.caller), role):
            forbidden(f"only an owner may give the role {role}")
        made = await self._directory.change(lambda: self._store.users.create(wish.name, role=role, by=by))
        return UserCreated(id=made.user.user_id, name=made.user.name, token=made.token)

    async def _give_sign_in(self, call: Call) -> SignInGiven:
        user, by = await self._directory.ask(lambda: reach_user(self._store, call)), actor_of(call.caller)
        given = await self._directory.change(lambda: self._store.sessions.issue(user, by=by))
        return SignInGiven(id=user.user_id, name=user.name, token=given.token, expires_at=given.expires_at)

    async def _get(self, call: Call) -> UserInfo:
        return await self._with_usage(await self._directory.ask(lambda: reach_user(self._store, call)))

    async def _with_usage(self, user: User) -> UserInfo:
        used = asdict(await self._directory.ask(lambda: self._store.users.usage(user)))
        most = {**asdict(self._store.users.quotas), "shares": self._max_shares}
        usage = {kind: Usage(used=used[kind], most=most[kind]) for kind in used}
        return replace(_info(user), usage=usage)

    async def _change(self, call: Call) -> UserInfo:
        wish, by = call.body(ChangeUser), actor_of(call.caller)
        user = await self._directory.ask(lambda: reach_user(self._store, call))
        role = wish.role
        if role is not None and not may_give_role(user_of(call.caller), role):
            forbidden(f"only an owner may give the role {role}")
        return _info(
            await self._directory.change(
                lambda: self._store.users.change(user, name=wish.name, role=role, by=by)
            )
        )

    async def _delete(self, call: Call) -> Nothing:
        user = await self._directory.ask(lambda: reach_user(self._store, call))
        await self._directory.change(lambda: self._store.users.delete(user, by=actor_of(call.caller)))
        return Nothing()


def _info(user: User) -> UserInfo:
    is_admin = user.role is not UserRole.MEMBER
    return UserInfo(id=user.user_id, name=user.name, is_admin=is_admin, role=user.role)
