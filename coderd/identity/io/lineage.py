"""Lineage of tokens in SQL: a token's parent, and what is revoked with it. For use inside a transaction.

A token's ``parent_id`` is the id of the token that was shown when it was made. A session that is signed out,
or expires, ends alone: what it had made becomes its parent's, so that revoking that still reaches it. A token
that is revoked takes along what it has made, however deep. The tokens of nodes, and sign-ins that
an admin has given to others, are children too, but no part of that: a machine's or another person's token
does not end with the token that created it, unless the caller asks for that (``is_whole``).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from coderd.identity.effects import NOTHING, Effects, expulsion, total
from coderd.identity.io.database import Database
from coderd.identity.io.rows import Row, get_user, key_of, load_node, select_nodes
from coderd.identity.people import Actor, NotManaged, TokenGone
from coderd.identity.policy import may_give_role, may_manage
from coderd.identity.schema import node_keys, nodes, tokens
from coderd.identity.tokens import TokenKind
from coderd.model.roles import UserRole

_OWN_KINDS = (TokenKind.SESSION.name.lower(), TokenKind.JOIN.name.lower())


def maker_of(connection: Connection, by: Actor, now: float) -> "Row | None":
    """Returns the token that was shown, None for the server itself.

    Asked in the transaction that makes something with it, so that nothing is made with a token that is being
    revoked.

    Raises:
        TokenGone: it has been revoked, or has expired, since it was shown.
    """
    if by.token_id is None:
        return None
    is_good = sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now)
    row = connection.execute(sa.select(tokens).where(tokens.c.id == by.token_id, is_good)).one_or_none()
    if row is None:
        raise TokenGone("this token is unknown or has been revoked")
    return row


@contextmanager
def write_as(
    database: Database,
    by: Actor,
    *,
    on: UUID | None = None,
    role: UserRole | None = None,
    needs_manager: bool = False,
) -> Iterator[Connection]:
    """Begins a transaction that writes on behalf of a user, and checks their permission again inside it.

    Roles may have changed and tokens ended since a request was let in. Every method of the store that acts
    for a user writes by way of this one; a test checks that in the syntax trees.

    Args:
        database: the store's.
        by: who acts; the server itself may do anything.
        on: the user who is acted on, or the owner of the nodes, tokens or shares.
        role: that a user is to get.
        needs_manager: whether only an admin or an owner may do it, also to what is their own.

    Raises:
        TokenGone: the presented token is not valid any more.
        NotManaged: they may not do that now.
        NotFound: one of the users has been deleted.
    """
    with database.write() as connection:
        maker_of(connection, by, database.now())
        if by.user_id is not None:
            _check_manages(connection, by.user_id, on, role, needs_manager=needs_manager)
        yield connection


def _check_manages(
    connection: Connection, by: UUID, on: UUID | None, role: UserRole | None, *, needs_manager: bool
) -> None:
    manager = get_user(connection, by)
    if needs_manager and manager.role is UserRole.MEMBER:
        raise NotManaged("only an admin or an owner may do that")
    is_within = on is None or may_manage(manager, get_user(connection, on))
    if not is_within or (role is not None and not may_give_role(manager, role)):
        raise NotManaged("only an owner may change an owner or an admin")


def end_alone(connection: Connection, row: Row) -> None:
    """Ends one token; what was made with it is its parent's from now on."""
    made = tokens.update().where(tokens.c.parent_id == row.id)
    connection.execute(made.values(parent_id=row.parent_id))
    connection.execute(tokens.delete().where(tokens.c.id == row.id))


def descent_of(connection: Connection, row: Row, *, is_whole: bool) -> list[Row]:
    """Returns a token and what ends with it, the oldest first.

    Args:
        connection: a transaction.
        row: the token.
        is_whole: with the tokens of nodes, and with sign-ins given to others, as far as its user may manage
            those now.
    """
    tree = sa.select(tokens.c.id, tokens.c.user_id).where(tokens.c.id == row.id).cte(recursive=True)
    child = tokens.alias()
    step = sa.select(child.c.id, child.c.user_id).where(child.c.parent_id == tree.c.id)
    if not is_whole:
        step = step.where(child.c.user_id == tree.c.user_id, child.c.kind.in_(_OWN_KINDS))
    tree = tree.union(step)
    query = (
        sa.select(tokens)
        .where(tokens.c.id.in_(sa.select(tree.c.id)))
        .order_by(tokens.c.created_at, tokens.c.id)
    )
    return _manageable(connection, row, connection.execute(query).all())


def end_descent(connection: Connection, row: Row, descent: Sequence[Row]) -> Effects:
    """Deletes a token's ``descent_of``, and with a node's token the key that the node had proven."""
    return end_all(connection, descent, heir=row.parent_id)


def end_all(connection: Connection, ended: Sequence[Row], heir: UUID | None = None) -> Effects:
    """Deletes tokens; their remaining children become the heir's."""
    ids = [each.id for each in ended]
    made = tokens.update().where(tokens.c.parent_id.in_(ids), tokens.c.id.not_in(ids))
    connection.execute(made.values(parent_id=heir))
    connection.execute(tokens.delete().where(tokens.c.id.in_(ids)))
    return total(expel(connection, each.node_id) for each in ended if each.node_id is not None)


def expel(connection: Connection, node_id: UUID) -> Effects:
    """Deletes a node's proven key; returns the effects."""
    node, node_key = (
        load_node(connection, select_nodes().where(nodes.c.id == node_id)),
        key_of(connection, node_id),
    )
    connection.execute(node_keys.delete().where(node_keys.c.node_id == node_id))
    return NOTHING if node is None else expulsion(node, node_key)


def _manageable(connection: Connection, row: Row, found: Sequence[Row]) -> list[Row]:
    """Returns the found tokens without those of people that the token's user may not manage now."""
    others = {each.user_id for each in found} - {row.user_id, None}
    if not others:
        return list(found)
    manager = get_user(connection, row.user_id)
    spared = {user_id for user_id in others if not may_manage(manager, get_user(connection, user_id))}
    return [each for each in found if each.user_id not in spared]


def name_of(connection: Connection, row: Row) -> str:
    """Returns ``owner/name`` of the node that a token speaks for, or that a join key joins.

    Returns an empty text where there is none.
    """
    node_id = row.node_id or row.workspace_id
    node = load_node(connection, select_nodes().where(nodes.c.id == node_id)) if node_id else None
    return "" if node is None else node.full_name
