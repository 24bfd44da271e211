"""Rows to records and back: what users, nodes and tokens have in common. For use inside a transaction."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from coderd.identity.apps import AppShare
from coderd.identity.io.database import unix_now
from coderd.identity.people import Actor, NameTaken, Node, NotFound, QuotaReached, Share, User
from coderd.identity.schema import apps, audit, node_keys, nodes, shares, tokens, users
from coderd.identity.shares import APP_PORTS, ShareState, open_ports
from coderd.identity.tokens import TokenKind, hash_token
from coderd.model.keys import NodePublic
from coderd.model.netmap import NodeKind
from coderd.model.paths import PathRule
from coderd.model.quotas import Quotas
from coderd.model.roles import Scope, UserRole

Row: TypeAlias = "sa.Row[tuple[object, ...]]"
NodeQuery: TypeAlias = "sa.Select[tuple[object, ...]]"
Parameters: TypeAlias = Mapping[str, object]

MAX_AUDIT_TEXT = 200
MAX_LISTED = 500
"""Most workspaces that are listed by id when their guests are loaded; beyond it the original query is a
subquery."""


@contextmanager
def unique(refusal: str) -> Iterator[None]:
    """Turns a broken constraint into NameTaken."""
    try:
        yield
    except IntegrityError:
        raise NameTaken(refusal) from None


# Users


def user_of(row: Row) -> User:
    """Makes a user of a row of ``users``."""
    return User(row.id, row.name, UserRole(row.role))


def get_user(connection: Connection, key: UUID | str) -> User:
    """Returns a user by id or name. Raises NotFound."""
    column = users.c.id if isinstance(key, UUID) else users.c.name
    row = connection.execute(sa.select(users).where(column == key)).one_or_none()
    if row is None:
        raise NotFound(f"there is no user {key}")
    return user_of(row)


# Nodes


def select_nodes() -> NodeQuery:
    """Selects nodes with their owners, for ``load_nodes``."""
    return sa.select(
        nodes.c.id,
        nodes.c.kind,
        nodes.c.name,
        nodes.c.created_at,
        nodes.c.path,
        nodes.c.is_waiting,
        users.c.id.label("owner_id"),
        users.c.name.label("owner_name"),
        users.c.role.label("owner_role"),
    ).join_from(nodes, users, nodes.c.owner_id == users.c.id)


ACCEPTED = shares.c.state == ShareState.ACCEPTED.value
NOT_ENDED = sa.or_(shares.c.expires_at.is_(None), shares.c.expires_at > sa.bindparam("unix_now"))
_GUESTS = (
    sa.select(shares.c.workspace_id, shares.c.ports, shares.c.terminal, shares.c.expires_at, users)
    .join(users, users.c.id == shares.c.user_id)
    .where(ACCEPTED, NOT_ENDED)
    .order_by(users.c.name)
)
_GUESTS_OF = _GUESTS.where(shares.c.workspace_id.in_(sa.bindparam("ids", expanding=True)))


def load_nodes(connection: Connection, query: NodeQuery, parameters: Parameters | None = None) -> list[Node]:
    """Loads the nodes that a query on ``select_nodes`` finds, with the users whom they are shared with.

    Args:
        connection: a transaction.
        query: a statement that is made once and takes ``parameters`` costs a third of one made anew.
        parameters: values of its ``bindparam``.
    """
    rows = connection.execute(query, parameters or {}).all()
    workspaces = [row.id for row in rows if row.kind == NodeKind.WORKSPACE.value]
    now = {"unix_now": unix_now(connection)}
    if len(workspaces) > MAX_LISTED:
        ids = query.with_only_columns(nodes.c.id, maintain_column_froms=True).order_by(None)
        among = _GUESTS.where(shares.c.workspace_id.in_(ids))
        found = connection.execute(among, {**(parameters or {}), **now}).all()
    else:
        found = connection.execute(_GUESTS_OF, {"ids": workspaces, **now}).all() if workspaces else []
    following = {row.workspace_id for row in found if row.ports == APP_PORTS}
    ports = load_app_ports(connection, list(following))
    guests: dict[UUID, list[Share]] = defaultdict(list)
    for row in found:
        opened = open_ports(row.ports, ports[row.workspace_id] if row.workspace_id in following else ())
        guests[row.workspace_id].append(Share(user_of(row), opened, row.terminal, row.expires_at))
    return [_node_of(row, tuple(guests[row.id])) for row in rows]


_APP_PORTS_OF = sa.select(apps.c.workspace_id, apps.c.port).where(
    apps.c.workspace_id.in_(sa.bindparam("ids", expanding=True)), apps.c.share != AppShare.OWNER.value
)


def load_app_ports(connection: Connection, workspaces: list[UUID]) -> dict[UUID, list[int]]:
    """Loads the ports of each workspace's apps that are for others than its owner."""
    ports: dict[UUID, list[int]] = defaultdict(list)
    for start in range(0, len(workspaces), MAX_LISTED):
        for row in connection.execute(_APP_PORTS_OF, {"ids": workspaces[start : start + MAX_LISTED]}):
            ports[row.workspace_id].append(row.port)
    return ports


def load_node(connection: Connection, query: NodeQuery, parameters: Parameters | None = None) -> Node | None:
    """Loads the one node that a query finds, None if it finds none."""
    found = load_nodes(connection, query, parameters)
    return found[0] if found else None


def get_node(connection: Connection, owner: User, kind: NodeKind, key: UUID | str) -> Node:
    """Returns one of a user's nodes, by id or name. Raises NotFound."""
    column = nodes.c.id if isinstance(key, UUID) else nodes.c.name
    query = select_nodes().where(nodes.c.owner_id == owner.user_id, nodes.c.kind == kind.value, column == key)
    node = load_node(connection, query)
    if node is None:
        raise NotFound(f"{owner.name} has no {kind.value} {key}")
    return node


def insert_within(
    connection: Connection,
    table: sa.Table,
    values: Parameters,
    n_there: "sa.Select[int]",
    most: int,
) -> bool:
    """Inserts a row where a count is below what one may have; whether it was.

    One statement, so that racers cannot exceed it.
    """
    columns = [sa.literal(value, table.c[name].type).label(name) for name, value in values.items()]
    row = sa.select(*columns).where(n_there.scalar_subquery() < most)
    return connection.execute(table.insert().from_select(list(values), row)).rowcount == 1


def count_nodes(owner_id: UUID, kind: NodeKind) -> "sa.Select[int]":
    """Counts a user's nodes of one kind."""
    return (
        sa.select(sa.func.count())
        .select_from(nodes)
        .where(nodes.c.owner_id == owner_id, nodes.c.kind == kind.value)
    )


def count_tokens(user_id: UUID, now: float) -> "sa.Select[int]":
    """Counts a user's sessions and join keys that have not expired."""
    in_force = sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now)
    return sa.select(sa.func.count()).select_from(tokens).where(tokens.c.user_id == user_id, in_force)


def count_apps(owner_id: UUID) -> "sa.Select[int]":
    """Counts the web apps that are set on a user's workspaces."""
    theirs = sa.select(nodes.c.id).where(nodes.c.owner_id == owner_id)
    return sa.select(sa.func.count()).select_from(apps).where(apps.c.workspace_id.in_(theirs))


def insert_node(
    connection: Connection, node: Node, quotas: Quotas, enrol_key: NodePublic | None = None
) -> None:
    """Inserts a node; a broken constraint is an IntegrityError. Raises QuotaReached."""
    what = "devices" if node.kind is NodeKind.DEVICE else "workspaces"
    most = quotas.devices if node.kind is NodeKind.DEVICE else quotas.workspaces
    values = {
        "id": node.node_id,
        "kind": node.kind.value,
        "owner_id": node.owner.user_id,
        "name": node.name,
        "created_at": node.created_at,
        "enrol_key": None if enrol_key is None else bytes(enrol_key),
        "is_waiting": node.is_waiting,
    }
    if not insert_within(connection, nodes, values, count_nodes(node.owner.user_id, node.kind), most):
        raise QuotaReached(node.owner.name, what, most)


_KEY_OF = sa.select(node_keys.c.node_key).where(node_keys.c.node_id == sa.bindparam("node_id"))


def key_of(connection: Connection, node_id: UUID) -> NodePublic | None:
    """Returns a node's proven key, None if it has none."""
    raw = connection.execute(_KEY_OF, {"node_id": node_id}).scalar_one_or_none()
    return None if raw is None else NodePublic(raw)


def _node_of(row: Row, shared: tuple[Share, ...]) -> Node:
    owner = User(row.owner_id, row.owner_name, UserRole(row.owner_role))
    return Node(
        row.id,
        NodeKind(row.kind),
        row.name,
        owner,
        row.created_at,
        PathRule(row.path),
        shared,
        row.is_waiting,
    )


# Tokens


def insert_token(
    connection: Connection,
    token: str,
    kind: TokenKind,
    *,
    now: float,
    user_id: UUID | None = None,
    node_id: UUID | None = None,
    workspace_id: UUID | None = None,
    expires_at: float | None = None,
    name: str = "",
    scope: Scope = Scope.ALL,
    uses_left: int | None = None,
    parent_id: UUID | None = None,
    is_sign_in: bool = False,
    quotas: Quotas | None = None,
) -> UUID:
    """Stores a token's hash; returns the id by which it is listed. With ``quotas`` raises QuotaReached."""
    token_id = uuid4()
    values = {
        "hash": hash_token(token),
        "id": token_id,
        "kind": kind.name.lower(),
        "name": name,
        "scope": scope.value,
        "user_id": user_id,
        "node_id": node_id,
        "workspace_id": workspace_id,
        "created_at": now,
        "expires_at": expires_at,
        "uses_left": uses_left,
        "parent_id": parent_id,
        "is_sign_in": is_sign_in,
    }
    if quotas is None or user_id is None:
        connection.execute(tokens.insert().values(values))
    elif not insert_within(connection, tokens, values, count_tokens(user_id, now), quotas.tokens):
        raise QuotaReached(get_user(connection, user_id).name, "tokens", quotas.tokens)
    return token_id


def good(token: str, kind: TokenKind, unix_now: float) -> Parameters:
    """Returns the values for the parameters of ``GOOD``."""
    return {"token_hash": hash_token(token), "token_kind": kind.name.lower(), "unix_now": unix_now}


def _good(token_hash: object, kind: object, unix_now: object) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        tokens.c.hash == token_hash,
        tokens.c.kind == kind,
        sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > unix_now),
    )


def is_good(token: str, kind: TokenKind, now: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Returns the conditions on ``tokens`` under which this token is known, of this kind and not expired."""
    return _good(*good(token, kind, now).values())


GOOD = _good(sa.bindparam("token_hash"), sa.bindparam("token_kind"), sa.bindparam("unix_now"))
"""Conditions of ``is_good`` for a statement that is made once; ``good`` has their values."""


# The audit log


def record(connection: Connection, now: float, by: Actor, action: str, target: str, detail: str = "") -> None:
    """Notes who changed what, in the transaction that changes it. No secret may be among the texts."""
    connection.execute(
        audit.insert().values(
            at=now,
            actor=by.name,
            actor_id=by.user_id,
            source=by.source[:64],
            action=action,
            target=target[:MAX_AUDIT_TEXT],
            detail=detail[:MAX_AUDIT_TEXT],
        )
    )
