"""Sessions of browsers in the store: opened with a token, found by their hash, revoked."""

import time
from typing import Final

from coderd.api.io.routes import ApiError, Caller
from coderd.browser.io.sign_in import NewSession
from coderd.identity.io.sessions import Session
from coderd.identity.people import Actor, NotFound, QuotaReached, User
from coderd.model import limits
from coderd.model.errors import sentence_of
from coderd.model.roles import Role, Scope
from coderd.server.directory import Directory
from coderd.server.handlers.reaching import actor_of

BROWSER_SESSION = "browser"
"""Name of a session that was opened by signing in with a browser."""
SESSION_LIFETIME: Final = limits.BROWSER_SESSION_LIFETIME

_PEOPLE = (Role.MEMBER, Role.ADMIN, Role.OWNER)


class BrowserSessions:
    """Access of the pages for browsers to sessions."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def unix_now(self) -> float:
        """Returns the current time in wall-clock seconds."""
        return time.time()

    async def find(self, session_hash: bytes) -> Session | None:
        """Returns the session with this hash; None if it is unknown, expired or revoked."""
        store = self._directory.store
        return await self._directory.in_thread(lambda: store.sessions.find(session_hash))

    async def find_user(self, session_hash: bytes) -> User | None:
        """Returns the user of the session with this hash; None without one."""
        session = await self.find(session_hash)
        return session.user if session is not None else None

    async def find_caller(self, session_hash: bytes, source: str) -> Caller | None:
        """Returns the caller that the API sees for the session with this hash, coming from this address.

        Returns None without one.
        """
        session = await self.find(session_hash)
        if session is None:
            return None
        user = session.user
        return Caller(
            Role(user.role),
            user.user_id,
            user.name,
            expires_at=session.expires_at,
            source=source,
            token_id=session.token_id,
            is_sign_in=session.is_sign_in,
        )

    async def sign_in(self, token: str, source: str) -> NewSession | str:
        """Opens a browser's session with a session token; returns a sentence instead if it is refused."""
        try:
            caller = await self._directory.identify(token, source)
        except ApiError as error:
            return sentence_of(error.body.message)
        if caller.role not in _PEOPLE or caller.user_id is None:
            return (
                "This token is unknown, has been revoked, or is not a user's: sign in with a session token."
            )
        if caller.scope is not Scope.ALL:
            return "This token cannot sign in here: use a session token of scope all."
        store, by = self._directory.store, actor_of(caller)
        try:
            opened = await self._directory.change_in_thread(
                lambda: store.sessions.open(token, BROWSER_SESSION, lifetime=SESSION_LIFETIME, by=by)
            )
        except NotFound as error:
            return f"{str(error).capitalize()}."
        except QuotaReached as error:
            return f"{error}. Revoke some with coderctl tokens revoke, or wait until one expires."
        return NewSession(opened.hash, opened.lifetime)

    async def sign_out(self, session_hash: bytes, source: str) -> None:
        """Revokes the session with this hash."""
        store, session = self._directory.store, await self.find(session_hash)
        by = Actor("unknown") if session is None else Actor(session.user.name, session.user.user_id, source)
        await self._directory.change_in_thread(lambda: store.sessions.sign_out(session_hash, by=by))
