"""Tokens in SQL: lookup, creation, revocation, redeeming. Every method blocks: call it in a thread."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from coderd.identity.effects import Change, Effects
from coderd.identity.io.database import Database
from coderd.identity.io.lineage import descent_of, end_descent, expel, maker_of, name_of, write_as
from coderd.identity.io.nodes import Issued, add_workspace, free_name, partners_of
from coderd.identity.io.rows import (
    GOOD,
    MAX_LISTED,
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
from coderd.identity.people import SERVER, Actor, AwaitsApproval, Node, NotFound, TimeIsUp, User, device_label
from coderd.identity.policy import end_of_made
from coderd.identity.schema import nodes, tokens, users
from coderd.identity.tokens import Bearer, TokenKind, TokenRecord, make_token, token_kind
from coderd.model.keys import NodePublic
from coderd.model.netmap import NodeKind
from coderd.model.roles import Scope

# What every request and every join asks, made once: to make a statement costs more than to run it.
_GOOD = sa.select(tokens).where(*GOOD)
_EVER_GOOD = sa.select(tokens).where(GOOD[0], GOOD[1])
"""Statement that finds a token, expired or not."""
_BY_ID = select_nodes().where(nodes.c.id == sa.bindparam("node_id"))

_NODE_KINDS = (TokenKind.WORKSPACE, TokenKind.DEVICE)


class NewToken(NamedTuple):
    """A new token, which the store does not keep, and its record."""

    record: TokenRecord
    token: str


class NodeRecord(NamedTuple):
    """A joining node's record, proven key and partners, read in one transaction."""

    node: Node
    node_key: NodePublic | None
    """The node's proven key; None where it has none."""
    partners: list[Node]
    """Every node that policy lets it meet."""


class Tokens:
    """All tokens of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Lookup

    def find(self, token: str) -> Bearer | None:
        """Returns who a token speaks for, None for any other text, and for a join key that is used up."""
        kind = token_kind(token)
        if kind is None:
            return None
        with self._database.read() as connection:
            row = connection.execute(_GOOD, good(token, kind, self._database.now())).one_or_none()
            if row is None or row.uses_left == 0:
                return None
            return _bearer(connection, row)

    def find_user(self, token: str) -> User | None:
        """Returns the user of a session token, None for any other text."""
        bearer = self.find(token) if token_kind(token) is TokenKind.SESSION else None
        return bearer.user if bearer is not None else None

    def find_node_record(self, token: str) -> NodeRecord | None:
        """Returns the node of a token and all else that it takes to let it in, None for any other text.

        Raises:
            TimeIsUp: a device that must sign in again.
            AwaitsApproval: a device that no admin has approved yet.
        """
        kind = token_kind(token)
        if kind not in _NODE_KINDS:
            return None
        with self._database.read() as connection:
            row = connection.execute(_EVER_GOOD, good(token, kind, 0.0)).one_or_none()
            node = load_node(connection, _BY_ID, {"node_id": row.node_id}) if row is not None else None
            if row is None or node is None:
                return None
            if row.expires_at is not None and row.expires_at <= self._database.now():
                raise TimeIsUp("this device's token has expired, and it has to sign in again")
            if node.is_waiting:
                raise AwaitsApproval("this device waits for an admin's approval")
            return NodeRecord(node, key_of(connection, node.node_id), partners_of(connection, node))

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
        """Creates a session token or a join key, within what the token that was shown may make.

        Raises:
            NotFound: the user, or the workspace to join, is not there.
            TokenGone, TooWide: the presented token may not create it.

        Args:
            user: the token's owner.
            kind: SESSION or JOIN.
            name: for people, to know it again.
            scope: of a session.
            expires_at: wall-clock seconds; None = as late as may be.
            uses: of a join key; None = any number.
            workspace: the user's workspace that a join key joins; None = a new one at each use.
            by: for the audit log.
        """
        token, now = make_token(kind, self._database.rng), self._database.now()
        with write_as(self._database, by, on=user.user_id) as connection:
            maker, joins = maker_of(connection, by, now), None
            if maker is not None:
                longest = self._database.terms.max_token_lifetime
                expires_at = end_of_made(record_of(maker, ""), scope, expires_at, now, longest)
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
                parent_id=by.token_id,
                quotas=self._database.quotas,
            )
            record(
                connection, now, by, "token.create", f"{user.name}:{name}", f"{kind.name.lower()} {token_id}"
            )
        full_name = joins.full_name if joins is not None else ""
        made = TokenRecord(token_id, kind, name, scope, now, expires_at, uses, full_name, by.token_id)
        return Change(NewToken(made, token))

    def of(self, user: User) -> list[TokenRecord]:
        """Lists a user's tokens and those of their nodes, oldest first, without expired ones."""
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
            return [record_of(row, _full_name(user, row.node_name)) for row in connection.execute(query)]

    def ends_of(self, node_ids: Sequence[UUID]) -> dict[UUID, float]:
        """Returns when the tokens of these nodes expire, in wall-clock seconds, of those that expire."""
        is_one = (tokens.c.node_id.in_(node_ids),) if len(node_ids) <= MAX_LISTED else ()
        query = sa.select(tokens.c.node_id, tokens.c.expires_at).where(
            tokens.c.node_id.is_not(None), tokens.c.expires_at.is_not(None), *is_one
        )
        with self._database.read() as connection:
            return {row.node_id: row.expires_at for row in connection.execute(query)}

    def descent(self, user: User, token_id: UUID, *, is_whole: bool = False) -> list[TokenRecord]:
        """Lists one of a user's tokens and what ends with it if it is revoked, as ``lineage`` says.

        Raises NotFound.
        """
        with self._database.read() as connection:
            descent = descent_of(connection, _own(connection, user, token_id), is_whole=is_whole)
            return [record_of(each, name_of(connection, each)) for each in descent]

    def revoke(
        self, user: User, token_id: UUID, *, is_whole: bool = False, by: Actor = SERVER
    ) -> Change[list[TokenRecord]]:
        """Ends one of them and what was made with it, as ``descent`` tells it; returns all of these.

        Raises NotFound.
        """
        with write_as(self._database, by, on=user.user_id) as connection:
            row = _own(connection, user, token_id)
            descent = descent_of(connection, row, is_whole=is_whole)
            ended = [record_of(each, name_of(connection, each)) for each in descent]
            effects = end_descent(connection, row, descent)
            for each in ended:
                target, why = (
                    each.node or f"{user.name}:{each.name}",
                    f"{each.kind.name.lower()} {each.token_id}",
                )
                if each.token_id != token_id:
                    why = f"{why}, made with {token_id}"
                record(connection, self._database.now(), by, "token.revoke", target, why)
        return Change(ended, effects)

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
                issued = add_workspace(connection, self._database, owner, name, replace(by, token_id=row.id))
                return Change(issued, Effects(introduced=(issued.node,)))
            node = get_node(connection, owner, NodeKind.WORKSPACE, row.workspace_id)
            return self._renew(connection, node, row.id, now)

    def _renew(self, connection: Connection, node: Node, join_id: UUID, now: float) -> Change[Issued]:
        """A workspace's new token instead of any old.

        The machine that had the old token is not served any more, nor is its key.
        """
        token = make_token(TokenKind.WORKSPACE, self._database.rng)
        connection.execute(tokens.delete().where(tokens.c.node_id == node.node_id))
        insert_token(connection, token, TokenKind.WORKSPACE, now=now, node_id=node.node_id, parent_id=join_id)
        return Change(Issued(node, token), expel(connection, node.node_id) + Effects(introduced=(node,)))


def _own(connection: Connection, user: User, token_id: UUID) -> Row:
    """Returns a token of a user, or of a node of theirs. Raises NotFound."""
    mine = sa.select(nodes.c.id).where(nodes.c.owner_id == user.user_id)
    whose = sa.or_(tokens.c.user_id == user.user_id, tokens.c.node_id.in_(mine))
    row = connection.execute(sa.select(tokens).where(tokens.c.id == token_id, whose)).one_or_none()
    if row is None:
        raise NotFound("there is no such token")
    return row


def _bearer(connection: Connection, row: Row) -> Bearer:
    if row.node_id is None:
        found = connection.execute(sa.select(users.c.id).where(users.c.id == row.user_id)).scalar_one()
        return Bearer(record_of(row, ""), get_user(connection, found))
    node = load_node(connection, _BY_ID, {"node_id": row.node_id})
    assert node is not None
    return Bearer(record_of(row, node.full_name), node.owner, node)


def record_of(row: Row, node: str) -> TokenRecord:
    """Makes a token's record of a row of ``tokens`` and the name of the node that it is about."""
    return TokenRecord(
        row.id,
        TokenKind[row.kind.upper()],
        row.name,
        Scope(row.scope),
        row.created_at,
        row.expires_at,
        row.uses_left,
        node,
        row.parent_id,
        row.is_sign_in,
    )


def _full_name(owner: User, node_name: str | None) -> str:
    return f"{owner.name}/{node_name}" if node_name else ""
