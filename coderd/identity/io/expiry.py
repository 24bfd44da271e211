"""Expiry of sessions, shares and devices when it is due, and revocations by other programs.

Blocks: call it in a thread.

One task of the server (``server/sweep.py``) calls ``sweep`` when something is due or the database has
changed, and learns when to come back. To add a kind of thing that ends: write its ``Ending`` and put it into
``ENDINGS``. ``earliest`` is asked often and must be one look into an index; it tells also what is due and has
not been ended, so that nothing is missed while the server is down. ``end`` ends whatever is due, notes it in
the audit log, and returns what that means for who is connected.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from coderd.identity.effects import NOTHING, Change, Effects, total
from coderd.identity.io.database import Database
from coderd.identity.io.lineage import end_alone, expel
from coderd.identity.io.rows import load_nodes, record, select_nodes
from coderd.identity.io.shares import end_shares, next_share_end
from coderd.identity.people import SERVER
from coderd.identity.schema import node_keys, nodes, outside_changes, tokens
from coderd.identity.tokens import TokenKind
from coderd.model.keys import NodePublic

TAKEN_AT_ONCE = 1000
"""Changes of other programs that are taken at once; the rest by the next sweep."""

SESSIONS_AT_ONCE = 100
"""Expired sessions and join keys that are deleted in one transaction, which others wait for; the rest by
the next sweep."""

Earliest: TypeAlias = Callable[[Connection, float], float | None]
End: TypeAlias = Callable[[Connection, float], Effects]


class Ending(NamedTuple):
    """One kind of thing that ends by itself.

    Both are called inside a transaction, with the time in wall-clock seconds.
    """

    earliest: Earliest
    """When the next of them ends, None where none will; in the past for what is due and has not been
    ended."""
    end: End
    """Ends everything of this kind that is due."""


# Devices: the token stays, so that the machine learns why it is refused; the proven key goes


def _next_device(connection: Connection, now: float) -> float | None:
    is_at_work = sa.exists().where(node_keys.c.node_id == tokens.c.node_id)
    query = sa.select(sa.func.min(tokens.c.expires_at)).where(
        tokens.c.kind == TokenKind.DEVICE.name.lower(), sa.or_(tokens.c.expires_at > now, is_at_work)
    )
    found: float | None = connection.execute(query).scalar_one()
    return found


def _end_devices(connection: Connection, now: float) -> Effects:
    due = (
        select_nodes()
        .join(tokens, tokens.c.node_id == nodes.c.id)
        .where(
            tokens.c.kind == TokenKind.DEVICE.name.lower(),
            tokens.c.expires_at <= now,
            nodes.c.id.in_(sa.select(node_keys.c.node_id)),
        )
    )
    ended = load_nodes(connection, due)
    for node in ended:
        record(connection, now, SERVER, "device.expire", node.full_name)
    gone = total(expel(connection, node.node_id) for node in ended)
    return Effects(expired=gone.expelled, closed_keys=gone.closed_keys)


# Sessions and join keys: nothing asks for them any more, and what they have made becomes their parent's

_NODELESS = tokens.c.kind.in_((TokenKind.SESSION.name.lower(), TokenKind.JOIN.name.lower()))


def _next_session(connection: Connection, now: float) -> float | None:
    query = sa.select(sa.func.min(tokens.c.expires_at)).where(_NODELESS)
    found: float | None = connection.execute(query).scalar_one()
    return found


def _end_sessions(connection: Connection, now: float) -> Effects:
    due = (
        sa.select(tokens.c.id)
        .where(_NODELESS, tokens.c.expires_at <= now)
        .order_by(tokens.c.expires_at)
        .limit(SESSIONS_AT_ONCE)
    )
    for token_id in connection.execute(due).scalars().all():
        # One after the other: the last one may have become the child of what was the parent of this one.
        end_alone(connection, connection.execute(sa.select(tokens).where(tokens.c.id == token_id)).one())
    return NOTHING


ENDINGS: tuple[Ending, ...] = (
    Ending(_next_device, _end_devices),
    Ending(next_share_end, end_shares),
    Ending(_next_session, _end_sessions),
)


class Expiry:
    """All that ends by itself at one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def data_version(self) -> int:
        """Returns a number that differs after every commit to the database, by this or another program."""
        return self._database.data_version()

    def sweep(self) -> Change[float | None]:
        """Ends what is due; returns when the next thing expires, in wall-clock seconds, None for never."""
        now = self._database.now()
        with self._database.read() as connection:
            earliest = _earliest(connection, now)
            has_work = connection.execute(sa.select(outside_changes.c.id).limit(1)).first() is not None
        if not has_work and (earliest is None or earliest > now):
            return Change(earliest)
        with self._database.write() as connection:
            effects = total(each.end(connection, now) for each in ENDINGS) + _take_outside(connection)
            return Change(_earliest(connection, now), effects)


def leave_outside(connection: Connection, effects: Effects) -> None:
    """Queues another program's revocations for the running server, in the transaction that makes them."""
    for node in effects.expelled:
        connection.execute(outside_changes.insert().values(node_id=node.node_id))
    for node_key in effects.closed_keys:
        connection.execute(outside_changes.insert().values(node_key=bytes(node_key)))


def _earliest(connection: Connection, now: float) -> float | None:
    known = (each.earliest(connection, now) for each in ENDINGS)
    return min((when for when in known if when is not None), default=None)


def _take_outside(connection: Connection) -> Effects:
    rows = connection.execute(
        sa.select(outside_changes).order_by(outside_changes.c.id).limit(TAKEN_AT_ONCE)
    ).all()
    if not rows:
        return NOTHING
    connection.execute(outside_changes.delete().where(outside_changes.c.id <= rows[-1].id))
    ids = [row.node_id for row in rows if row.node_id is not None]
    keys = tuple(NodePublic(row.node_key) for row in rows if row.node_key is not None)
    return Effects(
        expelled=tuple(load_nodes(connection, select_nodes().where(nodes.c.id.in_(ids)))), closed_keys=keys
    )
