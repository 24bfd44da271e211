"""Sessions in SQL: sign-ins as they are given out, browsers' sessions, and signing out.

Every method blocks: call it in a thread.
"""

from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from coderd.identity.effects import Change
from coderd.identity.io.database import Database
from coderd.identity.io.expiry import leave_outside
from coderd.identity.io.lineage import end_all, end_alone, write_as
from coderd.identity.io.rows import get_user, insert_token, is_good, record
from coderd.identity.people import SERVER, Actor, NotFound, User
from coderd.identity.schema import nodes, tokens
from coderd.identity.tokens import TokenKind, hash_token, make_token
from coderd.model.quotas import Quotas
from coderd.model.roles import Scope

_KIND = TokenKind.SESSION


class Session(NamedTuple):
    """A session that is good for anything."""

    user: User
    expires_at: float | None
    """Wall-clock seconds; None = never."""
    token_id: UUID
    is_sign_in: bool


class OpenedSession(NamedTuple):
    """A browser's session."""

    hash: bytes
    """Hash of the session's token, which is never sent."""
    lifetime: float
    """Seconds until the session expires."""


class SignIn(NamedTuple):
    """A sign-in's token, which the store does not keep, and its expiry."""

    token: str
    expires_at: float
    """Wall-clock seconds."""


class Reset(NamedTuple):
    """A new sign-in, and the number of tokens that the reset deleted."""

    token: str
    n_ended: int


class Sessions:
    """All sessions of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, token_hash: bytes) -> Session | None:
        """Returns the session of scope ``all`` with this token hash, None if there is none.

        Serves what stands for a session without being its token.
        """
        query = sa.select(tokens).where(
            tokens.c.hash == token_hash,
            tokens.c.kind == _KIND.name.lower(),
            tokens.c.scope == Scope.ALL.value,
            sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > self._database.now()),
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            return Session(get_user(connection, row.user_id), row.expires_at, row.id, row.is_sign_in)

    def issue(self, user: User, *, by: Actor = SERVER) -> Change[SignIn]:
        """Creates a sign-in for a user; one for oneself counts against one's quota.

        Raises NotFound, QuotaReached, and what ``write_as`` does.
        """
        now = self._database.now()
        with write_as(self._database, by, on=user.user_id) as connection:
            user = get_user(connection, user.user_id)
            quotas = self._database.quotas if by.user_id == user.user_id else None
            made, token_id = add_sign_in(connection, self._database, user, by, quotas)
            record(connection, now, by, "session.issue", user.name, str(token_id))
        return Change(made)

    def reset(self, name: str, *, with_nodes: bool = False, by: Actor) -> Change[Reset]:
        """Creates a sign-in for a user and ends all their sessions and join keys.

        Meant for a program beside the server that runs.

        What it ends is left to that server, in the same transaction. Raises NotFound.

        Args:
            name: the user's.
            with_nodes: the tokens of their devices and workspaces end, too.
            by: for the audit log.
        """
        with self._database.write() as connection:
            user = get_user(connection, name)
            theirs = sa.select(nodes.c.id).where(nodes.c.owner_id == user.user_id)
            whose = [tokens.c.user_id == user.user_id] + (
                [tokens.c.node_id.in_(theirs)] if with_nodes else []
            )
            ended = connection.execute(sa.select(tokens).where(sa.or_(*whose))).all()
            effects = end_all(connection, ended)
            leave_outside(connection, effects)
            made, token_id = add_sign_in(connection, self._database, user, by)
            detail = f"{token_id}; {len(ended)} tokens ended"
            record(connection, self._database.now(), by, "user.reset", user.name, detail)
        return Change(Reset(made.token, len(ended)), effects)

    def open(self, token: str, name: str, *, lifetime: float, by: Actor = SERVER) -> Change[OpenedSession]:
        """Opens a browser's session with a session token: a sign-in if that is one, and revoked with it.

        Raises NotFound where the token is not good any more, QuotaReached where its user has too many.

        Args:
            token: the session token that was shown.
            name: for people, to know the new session again.
            lifetime: seconds; less where the token itself ends sooner.
            by: for the audit log.
        """
        now, session = self._database.now(), make_token(_KIND, self._database.rng)
        with self._database.write() as connection:
            shown = connection.execute(sa.select(tokens).where(*is_good(token, _KIND, now))).one_or_none()
            if shown is None:
                raise NotFound("this token is unknown or has been revoked")
            expires_at = min(now + lifetime, shown.expires_at or float("inf"))
            token_id = insert_token(
                connection,
                session,
                _KIND,
                now=now,
                user_id=shown.user_id,
                expires_at=expires_at,
                name=name,
                scope=Scope(shown.scope),
                parent_id=shown.id,
                is_sign_in=shown.is_sign_in,
                quotas=self._database.quotas,
            )
            user = get_user(connection, shown.user_id)
            record(connection, now, by, "session.open", f"{user.name}:{name}", str(token_id))
        return Change(OpenedSession(hash_token(session), expires_at - now))

    def sign_out(self, token_hash: bytes, *, by: Actor = SERVER) -> Change[bool]:
        """Ends the session with this token hash, without the tokens that were created with it.

        Returns whether the session was there.

        Of concurrent calls, exactly one returns True.
        """
        is_it = (tokens.c.hash == token_hash, tokens.c.kind == _KIND.name.lower())
        with self._database.write() as connection:
            row = connection.execute(sa.select(tokens).where(*is_it)).one_or_none()
            if row is None:
                return Change(False)
            end_alone(connection, row)
            user = get_user(connection, row.user_id)
            record(
                connection, self._database.now(), by, "session.end", f"{user.name}:{row.name}", str(row.id)
            )
        return Change(True)


def add_sign_in(
    connection: Connection, database: Database, user: User, by: Actor, quotas: Quotas | None = None
) -> tuple[SignIn, UUID]:
    """Creates a sign-in inside a transaction; returns it with the id by which it is listed.

    With ``quotas`` raises QuotaReached.
    """
    token, now = make_token(_KIND, database.rng), database.now()
    expires_at = now + database.terms.session_lifetime
    token_id = insert_token(
        connection,
        token,
        _KIND,
        now=now,
        user_id=user.user_id,
        expires_at=expires_at,
        parent_id=by.token_id,
        is_sign_in=True,
        quotas=quotas,
    )
    return SignIn(token, expires_at), token_id
