"""Tokens in SQL: whose they are, new ones, and join keys spent. Every method blocks: call it in a thread."""

from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from coderd.identity.effects import Change, Effects, expulsion
from coderd.identity.io.database import Database
from coderd.identity.io.nodes import Issued, add_workspace, free_name, partners_of
from coderd.identity.io.rows import (
    GOOD,
    Row,
    get_node,
    get_user,
    good,
    insert_token,
    is_good,
    key_of,
    load_node,
    record,
    select_nodes,
)
from coderd.identity.people import SERVER, Actor, Node, NotFound, User, device_label
from coderd.identity.schema import browser_sessions, node_keys, nodes, tokens, users
from coderd.identity.tokens import Bearer, Scope, TokenKind, TokenRecord, hash_token, make_token, token_kind
from coderd.model.keys import NodePublic
from coderd.model.netmap import NodeKind

# What every request and every join asks, made once: to make a statement costs more than to run it.
_GOOD = sa.select(tokens).where(*GOOD)
_BY_ID = select_nodes().where(nodes.c.id == sa.bindparam("node_id"))

_NODE_KINDS = (TokenKind.WORKSPACE, TokenKind.DEVICE)


class NewToken(NamedTuple):
    """A token, nowhere else to be had, and how it will be listed."""

    record: TokenRecord
    token: str


class Dossier(NamedTuple):
    """All that is known of a node that joins, read in one transaction."""

    node: Node
    node_key: NodePublic | None
    """That it has proven of late."""
    partners: list[Node]
    """Every node that policy lets it meet."""


class Session(NamedTuple):
    """A session that is good for anything."""

    user: User
    expires_at: float | None
    """Wall-clock seconds; None = never."""


class OpenedSession(NamedTuple):
    """A browser's session."""

    hash: bytes
    """That of its token, which nobody is ever given."""
    lifetime: float
    """Seconds that it has."""


class Tokens:
    """All tokens of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Whose is it?

    def find(self, token: str) -> Bearer | None:
        """Whom a token speaks for, None for any other text, and for a join key that is used up."""
        kind = token_kind(token)
        if kind is None:
            return None
        with self._database.read() as connection:
            row = connection.execute(_GOOD, good(token, kind, self._database.now())).one_or_none()
            if row is None or row.uses_left == 0:
                return None
            return _bearer(connection, row)

    def find_user(self, token: str) -> User | None:
        """Whose session token this is."""
        bearer = self.find(token) if token_kind(token) is TokenKind.SESSION else None
        return bearer.user if bearer is not None else None

    def open_session(
        self, token: str, name: str, *, lifetime: float, by: Actor = SERVER
    ) -> Change[OpenedSession]:
        """A browser's session for whoever shows a session token. It ends with that token, whatever ends it.

        Raises NotFound where the token is not good any more.

        Args:
            token: the session token that was shown.
            name: for people, to know the new session again.
            lifetime: seconds; less where the token itself ends sooner.
            by: for the audit log.
        """
        kind, now = TokenKind.SESSION, self._database.now()
        session = make_token(kind, self._database.rng)
        with self._database.write() as connection:
            row = connection.execute(_GOOD, good(token, kind, now)).one_or_none()
            if row is None:
                raise NotFound("this token is unknown or has been revoked")
            expires_at = min(now + lifetime, row.expires_at or float("inf"))
            token_id = insert_token(
                connection, session, kind, now=now, user_id=row.user_id, expires_at=expires_at, name=name
            )
            opened = {"hash": hash_token(session), "opened_by": hash_token(token)}
            connection.execute(browser_sessions.insert().values(**opened))
            user = get_user(connection, row.user_id)
            record(connection, now, by, "session.open", f"{user.name}:{name}", str(token_id))
        return Change(OpenedSession(hash_token(session), expires_at - now))

    def find_session(self, token_hash: bytes) -> Session | None:
        """The session, good for anything, whose token has this hash: for what stands for a session without being one."""
        query = sa.select(tokens).where(
            tokens.c.hash == token_hash,
            tokens.c.kind == TokenKind.SESSION.name.lower(),
            tokens.c.scope == Scope.ALL.value,
            sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > self._database.now()),
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
            return Session(get_user(connection, row.user_id), row.expires_at) if row is not None else None

    def forget_session(self, token_hash: bytes) -> Change[None]:
        """Forgets a session by its token's hash."""
        with self._database.write() as connection:
            connection.execute(
                tokens.delete().where(
                    tokens.c.hash == token_hash, tokens.c.kind == TokenKind.SESSION.name.lower()
                )
            )
        return Change(None)

    def find_node(self, token: str) -> Node | None:
        """Whose node token this is."""
        bearer = self.find(token) if token_kind(token) in _NODE_KINDS else None
        return bearer.node if bearer is not None else None

    def find_dossier(self, token: str) -> Dossier | None:
        """Whose node token this is, and whatever else it takes to let that node in."""
        kind = token_kind(token)
        if kind not in _NODE_KINDS:
            return None
        with self._database.read() as connection:
            row = connection.execute(_GOOD, good(token, kind, self._database.now())).one_or_none()
            node = load_node(connection, _BY_ID, {"node_id": row.node_id}) if row is not None else None
            if node is None:
                return None
            return Dossier(node, key_of(connection, node.node_id), partners_of(connection, node))

    # A user's own

    def create(
        self,
        user: User,
        kind: TokenKind,
        name: str,
        *,
        scope: Scope = Scope.ALL,
        expires_at: float | None = None,
        uses: int | None = None,
        workspace: str | None = None,
        by: Actor = SERVER,
    ) -> Change[NewToken]:
        """A session token or a join key. Raises NotFound where the user, or the workspace to join, is not there.

        Args:
            user: whose it is.
            kind: SESSION or JOIN.
            name: for people, to know it again.
            scope: of a session.
            expires_at: wall-clock seconds; None = never.
            uses: of a join key; None = any number.
            workspace: the user's workspace that a join key joins; None = a new one at each use.
            by: for the audit log.
        """
        token, now = make_token(kind, self._database.rng), self._database.now()
        with self._database.write() as connection:
            get_user(connection, user.user_id)
            joins = None
            if workspace is not None:
                joins = get_node(connection, user, NodeKind.WORKSPACE, workspace)
            token_id = insert_token(
                connection,
                token,
                kind,
                now=now,
                user_id=user.user_id,
                workspace_id=joins.node_id if joins is not None else None,
                expires_at=expires_at,
                name=name,
                scope=scope,
                uses_left=uses,
            )
            record(
                connection, now, by, "token.create", f"{user.name}:{name}", f"{kind.name.lower()} {token_id}"
            )
        full_name = joins.full_name if joins is not None else ""
        return Change(
            NewToken(TokenRecord(token_id, kind, name, scope, now, expires_at, uses, full_name), token)
        )

    def of(self, user: User) -> list[TokenRecord]:
        """A user's tokens and those of their nodes, in the order in which they were made; none that has expired."""
        speaks_for = sa.func.coalesce(tokens.c.node_id, tokens.c.workspace_id)
        query = (
            sa.select(tokens, nodes.c.name.label("node_name"))
            .outerjoin(nodes, nodes.c.id == speaks_for)
            .where(
                sa.or_(tokens.c.user_id == user.user_id, nodes.c.owner_id == user.user_id),
                sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > self._database.now()),
            )
            .order_by(tokens.c.created_at, tokens.c.id)
        )
        with self._database.read() as connection:
            return [_record(row, _full_name(user, row.node_name)) for row in connection.execute(query)]

    def revoke(self, user: User, token_id: UUID, *, by: Actor = SERVER) -> Change[TokenRecord]:
        """Forgets one of them; with a node's token goes the key that the node had proven. Raises NotFound."""
        mine = sa.select(nodes.c.id).where(nodes.c.owner_id == user.user_id)
        whose = sa.or_(tokens.c.user_id == user.user_id, tokens.c.node_id.in_(mine))
        with self._database.write() as connection:
            row = connection.execute(sa.select(tokens).where(tokens.c.id == token_id, whose)).one_or_none()
            if row is None:
                raise NotFound("there is no such token")
            node = load_node(connection, _BY_ID, {"node_id": row.node_id})
            node_key = key_of(connection, node.node_id) if node is not None else None
            _delete(connection, row.hash)
            connection.execute(node_keys.delete().where(node_keys.c.node_id == row.node_id))
            target = node.full_name if node is not None else f"{user.name}:{row.name}"
            record(connection, self._database.now(), by, "token.revoke", target, f"{row.kind} {token_id}")
        ended = Effects() if node is None else expulsion(node, node_key)
        return Change(_record(row, node.full_name if node is not None else ""), ended)

    def forget(self, token: str) -> Change[bool]:
        """Forgets the token itself; whether it was there. Of any number of racers one is told True."""
        with self._database.write() as connection:
            return Change(_delete(connection, hash_token(token)))

    # Join keys

    def redeem(self, token: str, host_name: str, *, by: Actor = SERVER) -> Change[Issued]:
        """Exchanges a join key for a workspace's token: a new workspace, or the one that the key names.

        One conditional UPDATE takes the use; of any number of racers for a single-use key one is served.

        Args:
            token: the join key.
            host_name: what the machine calls itself; names a new workspace.
            by: for the audit log.

        Raises:
            NotFound: the key is unknown, expired or used up.
        """
        kind, now = TokenKind.JOIN, self._database.now()
        use = (
            tokens.update()
            .where(*is_good(token, kind, now), sa.or_(tokens.c.uses_left.is_(None), tokens.c.uses_left > 0))
            .values(uses_left=tokens.c.uses_left - 1)
        )
        with self._database.write() as connection:
            if connection.execute(use).rowcount != 1:
                raise NotFound("this join key is unknown, expired or used up")
            row = connection.execute(sa.select(tokens).where(*is_good(token, kind, now))).one()
            owner = get_user(connection, row.user_id)
            record(connection, now, by, "token.redeem", f"{owner.name}:{row.name}", str(row.id))
            if row.workspace_id is None:
                name = free_name(connection, owner, NodeKind.WORKSPACE, device_label(host_name))
                issued = add_workspace(connection, self._database, owner, name, by)
                return Change(issued, Effects(introduced=(issued.node,)))
            node = get_node(connection, owner, NodeKind.WORKSPACE, row.workspace_id)
            return self._renew(connection, node, now)

    def _renew(self, connection: Connection, node: Node, now: float) -> Change[Issued]:
        """A workspace's new token instead of any old; the machine that had that is served no more, nor is its key."""
        token = make_token(TokenKind.WORKSPACE, self._database.rng)
        connection.execute(tokens.delete().where(tokens.c.node_id == node.node_id))
        insert_token(connection, token, TokenKind.WORKSPACE, now=now, node_id=node.node_id)
        ended = expulsion(node, key_of(connection, node.node_id))
        connection.execute(node_keys.delete().where(node_keys.c.node_id == node.node_id))
        return Change(Issued(node, token), ended + Effects(introduced=(node,)))


def _delete(connection: Connection, token_hash: bytes) -> bool:
    """Deletes a token and the browsers' sessions that it opened; whether it was there."""
    opened = sa.select(browser_sessions.c.hash).where(browser_sessions.c.opened_by == token_hash)
    connection.execute(tokens.delete().where(tokens.c.hash.in_(opened)))
    return connection.execute(tokens.delete().where(tokens.c.hash == token_hash)).rowcount == 1


def _bearer(connection: Connection, row: Row) -> Bearer:
    if row.node_id is None:
        found = connection.execute(sa.select(users.c.id).where(users.c.id == row.user_id)).scalar_one()
        return Bearer(_record(row, ""), get_user(connection, found))
    node = load_node(connection, _BY_ID, {"node_id": row.node_id})
    assert node is not None
    return Bearer(_record(row, node.full_name), node.owner, node)


def _record(row: Row, node: str) -> TokenRecord:
    return TokenRecord(
        row.id,
        TokenKind[row.kind.upper()],
        row.name,
        Scope(row.scope),
        row.created_at,
        row.expires_at,
        row.uses_left,
        node,
    )


def _full_name(owner: User, node_name: str | None) -> str:
    return f"{owner.name}/{node_name}" if node_name else ""
