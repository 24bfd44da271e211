"""Shares in SQL: offered, accepted, ended. Every method blocks: call it in a thread.

Reads leave out expired shares and offers, whether or not the sweep (``expiry``) has deleted them yet.
"""

from typing import Final
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from coderd.identity.effects import NOTHING, Change, Effects
from coderd.identity.io.database import Database
from coderd.identity.io.lineage import write_as
from coderd.identity.io.rows import (
    ACCEPTED,
    Row,
    get_node,
    load_app_ports,
    load_nodes,
    record,
    select_nodes,
)
from coderd.identity.people import (
    SERVER,
    Actor,
    BadShare,
    Node,
    NotFound,
    TooManyShares,
    User,
    check_user_name,
)
from coderd.identity.schema import nodes, shares, users
from coderd.identity.shares import (
    APP_PORTS,
    OFFER_LIFETIME,
    GivenShare,
    OfferedShare,
    ShareState,
    Wish,
    check_ports,
    open_ports,
)
from coderd.model import limits
from coderd.model.netmap import NodeKind
from coderd.model.roles import UserRole

MAX_GIVEN: Final = limits.MAX_SHARES_GIVEN
MAX_LISTED: Final = limits.MAX_SHARES_LISTED
"""Most offers that a guest is shown, the newest first, as any user can make offers to any name."""

_OFFERED, _DECLINED = ShareState.OFFERED.value, ShareState.DECLINED.value
_GUEST = sa.select(users.c.name).where(users.c.id == shares.c.user_id).scalar_subquery()


class Shares:
    """All shares of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # The giver

    def offer(
        self,
        owner: User,
        key: UUID | str,
        guest: str,
        wish: Wish = Wish(),  # noqa: B008, it is frozen
        *,
        accepts: bool = False,
        max_given: int = MAX_GIVEN,
        by: Actor = SERVER,
    ) -> Change[Node]:
        """Offers a workspace to a user, or changes the terms of what is offered or shared already.

        Gives it as it then is.

        Nothing in what it does or returns tells whether there is such a user, unless ``accepts``.

        Args:
            owner: the giver.
            key: the workspace's name or id.
            guest: a name, which may be unused.
            wish: the terms; what it leaves open stays as it is.
            accepts: whether offers of this server are accepted at once, without asking.
            max_given: shares and offers that one user may have given.
            by: for the audit log.

        Raises:
            BadName, BadPorts, BadShare, NotFound, TooManyShares: it cannot be offered.
        """
        ports = None if wish.ports is None else check_ports(wish.ports)
        if check_user_name(guest) == owner.name:
            raise BadShare("{guest} owns this workspace")
        now = self._database.now()
        with write_as(self._database, by, on=owner.user_id) as connection:
            node = get_node(connection, owner, NodeKind.WORKSPACE, key)
            connection.execute(shares.delete().where(shares.c.workspace_id == node.node_id, _is_over(now)))
            terms = _terms(wish, ports, now)
            mine = _between(node, guest)
            known = connection.execute(sa.select(shares.c.id).where(mine).limit(1)).first() is not None
            if not known:
                terms = {"ports": APP_PORTS, "terminal": False, **terms}
                self._insert(connection, node, guest, terms, max_given, now)
            elif terms:
                connection.execute(shares.update().where(mine).values(terms))
            if accepts:
                pending = shares.update().where(mine, ~ACCEPTED, shares.c.user_id.is_not(None))
                connection.execute(pending.values(_accepted(now)))
            if terms:
                record(connection, now, by, "workspace.share", node.full_name, _detail(guest, terms))
            return _changed(node, get_node(connection, owner, NodeKind.WORKSPACE, node.node_id))

    def withdraw(self, owner: User, key: UUID | str, guest: str, *, by: Actor = SERVER) -> Change[Node]:
        """Withdraws a share or an offer; returns the workspace as it then is.

        Raises NotFound, also where there is none, or what ``write_as`` does.
        """
        with write_as(self._database, by, on=owner.user_id) as connection:
            node = get_node(connection, owner, NodeKind.WORKSPACE, key)
            gone = connection.execute(shares.delete().where(_between(node, guest)))
            if gone.rowcount == 0:
                raise NotFound(f"{node.full_name} is not shared with {guest}")
            now = self._database.now()
            record(connection, now, by, "workspace.unshare", node.full_name, f"with {guest}")
            return _changed(node, get_node(connection, owner, NodeKind.WORKSPACE, node.node_id))

    def given(self, workspaces: list[UUID]) -> dict[UUID, list[GivenShare]]:
        """Lists all shares and offers of these workspaces, by the guest's name."""
        found: dict[UUID, list[GivenShare]] = {node_id: [] for node_id in workspaces}
        guest = sa.func.coalesce(shares.c.offered_to, _GUEST).label("guest")
        query = sa.select(shares, guest).where(~_is_over(self._database.now())).order_by(guest)
        with self._database.read() as connection:
            for start in range(0, len(workspaces), MAX_LISTED):
                among = workspaces[start : start + MAX_LISTED]
                rows = connection.execute(query.where(shares.c.workspace_id.in_(among))).all()
                ports = load_app_ports(connection, among) if rows else {}
                for row in rows:
                    found[row.workspace_id].append(_given(row, ports.get(row.workspace_id, [])))
        return found

    # The guest

    def offered_to(self, guest: User) -> list[OfferedShare]:
        """Lists what is shared with a user, by name, then open offers; leaves out what they have declined."""
        with self._database.read() as connection:
            in_force = self._of_guest(connection, guest, ACCEPTED).order_by(users.c.name, nodes.c.name)
            offered = self._of_guest(connection, guest, shares.c.state == _OFFERED)
            newest = offered.order_by(shares.c.created_at.desc(), shares.c.id).limit(MAX_LISTED)
            rows = [*connection.execute(in_force), *connection.execute(newest)]
            ports = load_app_ports(connection, [row.workspace_id for row in rows])
            return [_offered(row, ports.get(row.workspace_id, [])) for row in rows]

    def accept(
        self, guest: User, workspace: UUID | tuple[str, str], *, by: Actor = SERVER
    ) -> Change[OfferedShare]:
        """Accepts an offer, also one that was declined; again is no change. Raises NotFound.

        Args:
            guest: whom it was made to.
            workspace: its id, or its owner's name and its own.
            by: for the audit log.
        """
        with write_as(self._database, by, on=guest.user_id) as connection:
            row, now = self._find(connection, guest, workspace), self._database.now()
            if row.state != ShareState.ACCEPTED.value:
                connection.execute(shares.update().where(shares.c.id == row.id).values(_accepted(now)))
                record(connection, now, by, "share.accept", f"{row.owner_name}/{row.workspace}")
                row = self._find(connection, guest, row.workspace_id)
            return _answered(connection, row)

    def leave(
        self, guest: User, workspace: UUID | tuple[str, str], *, by: Actor = SERVER
    ) -> Change[OfferedShare]:
        """Leaves a share, or declines an offer without notifying the giver.

        Raises NotFound. Arguments as ``accept``.
        """
        with write_as(self._database, by, on=guest.user_id) as connection:
            row, now = self._find(connection, guest, workspace), self._database.now()
            this, name = shares.c.id == row.id, f"{row.owner_name}/{row.workspace}"
            if row.state == ShareState.ACCEPTED.value:
                connection.execute(shares.delete().where(this))
                record(connection, now, by, "share.leave", name)
            elif row.state == _OFFERED:
                connection.execute(shares.update().where(this).values(state=_DECLINED))
                record(connection, now, by, "share.decline", name)
            return _answered(connection, row)

    # Inside

    def _insert(
        self,
        connection: Connection,
        node: Node,
        guest: str,
        terms: dict[str, object],
        max_given: int,
        now: float,
    ) -> None:
        """Inserts an offer with one statement, identical for every name.

        The user with that name, and the limit on shares, are looked up inside the statement.
        """
        theirs = shares.alias()
        met = sa.exists().where(theirs.c.workspace_id == node.node_id, theirs.c.user_id == users.c.id)
        user_id = sa.select(users.c.id).where(users.c.name == guest, ~met).scalar_subquery()
        n_given = count_shares(node.owner.user_id, now)
        values: dict[str, object] = {
            "id": self._database.new_id(),
            "workspace_id": node.node_id,
            "offered_to": guest,
            "state": _OFFERED,
            "created_at": now,
            "lapses_at": now + OFFER_LIFETIME,
            **terms,
        }
        columns = [sa.literal(value, shares.c[name].type).label(name) for name, value in values.items()]
        row = sa.select(*columns, user_id.label("user_id")).where(n_given.scalar_subquery() < max_given)
        if connection.execute(shares.insert().from_select([*values, "user_id"], row)).rowcount != 1:
            raise TooManyShares(
                f"{node.owner.name} has {max_given} shares and offers, the most that one user may give"
            )

    def _of_guest(
        self, connection: Connection, guest: User, state: "sa.ColumnElement[bool]"
    ) -> "sa.Select[tuple[object, ...]]":
        return (
            sa.select(
                shares,
                nodes.c.name.label("workspace"),
                users.c.id.label("owner_id"),
                users.c.name.label("owner_name"),
                users.c.role.label("owner_role"),
            )
            .join_from(shares, nodes, nodes.c.id == shares.c.workspace_id)
            .join(users, users.c.id == nodes.c.owner_id)
            .where(shares.c.user_id == guest.user_id, ~_is_over(self._database.now()), state)
        )

    def _find(self, connection: Connection, guest: User, workspace: UUID | tuple[str, str]) -> Row:
        query = self._of_guest(connection, guest, sa.true())
        if isinstance(workspace, UUID):
            query = query.where(nodes.c.id == workspace)
        else:
            query = query.where(users.c.name == workspace[0], nodes.c.name == workspace[1])
        row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound("there is no such offer or share")
        return row


def count_shares(giver_id: UUID, now: float) -> "sa.Select[int]":
    """Counts the shares and offers of a user's workspaces that are in force."""
    theirs = shares.alias()
    of_giver = sa.select(nodes.c.id).where(nodes.c.owner_id == giver_id)
    count = sa.select(sa.func.count()).select_from(theirs)
    return count.where(theirs.c.workspace_id.in_(of_giver), ~_is_over(now, theirs))


def next_share_end(connection: Connection, now: float) -> float | None:
    """Returns when the next share expires or offer lapses, in wall-clock seconds: see ``expiry``."""
    ends = [
        connection.execute(sa.select(sa.func.min(column))).scalar_one()
        for column in (shares.c.expires_at, shares.c.lapses_at)
    ]
    return min((end for end in ends if end is not None), default=None)


def end_shares(connection: Connection, now: float) -> Effects:
    """Ends what has expired or lapsed by now: the guests of the former may not be there any more."""
    guest = sa.func.coalesce(shares.c.offered_to, _GUEST).label("guest")
    query = sa.select(shares.c.workspace_id, guest).where(_is_over(now), ACCEPTED)
    ended = connection.execute(query).all()
    connection.execute(shares.delete().where(_is_over(now)))
    changed = {node.node_id: node for node in _nodes(connection, [row.workspace_id for row in ended])}
    for row in ended:
        name = changed[row.workspace_id].full_name
        record(connection, now, SERVER, "workspace.share-end", name, f"with {row.guest}")
    return Effects(amended=tuple(changed.values()))


def _is_over(now: float, table: "sa.FromClause" = shares) -> "sa.ColumnElement[bool]":
    """Returns the condition for an expired share or lapsed offer; never NULL, so that it can be negated."""
    return sa.or_(
        sa.and_(table.c.expires_at.is_not(None), table.c.expires_at <= now),
        sa.and_(table.c.lapses_at.is_not(None), table.c.lapses_at <= now),
    )


def _between(node: Node, guest: str) -> "sa.ColumnElement[bool]":
    """Returns the condition for a workspace's offer to this name, or its share with the user of this name."""
    bearer = sa.select(users.c.id).where(users.c.name == guest).scalar_subquery()
    is_theirs = sa.and_(ACCEPTED, shares.c.user_id == bearer)
    return sa.and_(shares.c.workspace_id == node.node_id, sa.or_(shares.c.offered_to == guest, is_theirs))


def _terms(wish: Wish, ports: str | None, now: float) -> dict[str, object]:
    """Returns the columns that a wish changes."""
    terms: dict[str, object] = {}
    if ports is not None:
        terms["ports"] = ports
    if wish.terminal is not None:
        terms["terminal"] = wish.terminal
    if wish.is_endless or wish.lifetime is not None:
        terms["expires_at"] = None if wish.is_endless or wish.lifetime is None else now + wish.lifetime
    return terms


def _accepted(now: float) -> dict[str, object]:
    return {
        "state": ShareState.ACCEPTED.value,
        "offered_to": None,
        "lapses_at": None,
        "accepted_at": now,
    }


def _detail(guest: str, terms: dict[str, object]) -> str:
    told = ", ".join(f"{name} {value}" for name, value in sorted(terms.items()))
    return f"with {guest}: {told}"


def _given(row: Row, apps: list[int]) -> GivenShare:
    return GivenShare(
        row.guest,
        row.state == ShareState.ACCEPTED.value,
        row.ports,
        open_ports(row.ports, apps),
        row.terminal,
        row.created_at,
        row.lapses_at,
        row.expires_at,
    )


def _offered(row: Row, apps: list[int]) -> OfferedShare:
    return OfferedShare(
        User(row.owner_id, row.owner_name, UserRole(row.owner_role)),
        row.workspace,
        ShareState(row.state),
        row.ports,
        open_ports(row.ports, apps),
        row.terminal,
        row.created_at,
        row.lapses_at,
        row.expires_at,
    )


def _answered(connection: Connection, row: Row) -> Change[OfferedShare]:
    nodes_now = _nodes(connection, [row.workspace_id])
    ports = load_app_ports(connection, [row.workspace_id])
    share = _offered(row, ports.get(row.workspace_id, []))
    return Change(share, Effects(amended=tuple(nodes_now)))


def _changed(before: Node, now: Node) -> Change[Node]:
    """Returns the change of a workspace, with effects only if its accepted shares differ."""
    return Change(now, Effects(amended=(now,)) if now != before else NOTHING)


def _nodes(connection: Connection, ids: list[UUID]) -> list[Node]:
    found: list[Node] = []
    for start in range(0, len(ids), MAX_LISTED):
        found += load_nodes(connection, select_nodes().where(nodes.c.id.in_(ids[start : start + MAX_LISTED])))
    return found
