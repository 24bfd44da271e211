"""What was opened: who used which tunnel, and since when. Blocks: call it in a thread.

Beside the audit log, not in it: that is only appended to, and grows with what people change; this grows with
what machines do, so the oldest records go, and reconnecting in a loop cannot fill the disk. Nor can a user
push out the records of others: the user with the most records loses their oldest first.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from coderd.identity.io.audit import AuditRecord
from coderd.identity.io.database import Database
from coderd.identity.schema import openings
from coderd.model import limits
from coderd.model.fair import fair_excess

MAX_KEPT: Final = limits.MAX_OPENINGS
"""Records of all users together."""
SLACK: Final = 100
"""Divisor: one part in ``SLACK`` more than needed is deleted, so that records are seldom counted."""


class AccessRecord(NamedTuple):
    """Who opened what, when."""

    at: float
    """Wall-clock seconds."""
    actor: str
    actor_id: UUID
    action: str
    target: str
    detail: str = ""
    user_id: UUID | None = None
    """The user; None in records from before the column existed."""


class AccessRecords:
    """Recent openings of tunnels, web apps and terminals."""

    def __init__(self, database: Database, max_kept: int = MAX_KEPT) -> None:
        self._database = database
        self._max_kept = max_kept

    def add(self, opened: Sequence[AccessRecord]) -> None:
        """Stores records, in one transaction."""
        with self._database.write() as connection:
            connection.execute(openings.insert(), [each._asdict() for each in opened])
            if (
                connection.execute(sa.select(sa.func.count()).select_from(openings)).scalar_one()
                > self._max_kept
            ):
                self._trim(connection)

    def _trim(self, connection: Connection) -> None:
        """Deletes the oldest records of the users with the most."""
        query = sa.select(openings.c.user_id, sa.func.count()).group_by(openings.c.user_id)
        counts = {user_id: n for user_id, n in connection.execute(query)}
        for user_id, n in fair_excess(counts, self._max_kept - self._max_kept // SLACK).items():
            whose = openings.c.user_id.is_(None) if user_id is None else openings.c.user_id == user_id
            oldest = sa.select(openings.c.id).where(whose).order_by(openings.c.id).limit(n)
            connection.execute(openings.delete().where(openings.c.id.in_(oldest)))

    def page(self, *, before: int | None = None, limit: int = 100) -> list[AuditRecord]:
        """Returns the newest records, newest first; those before a number, where one is given."""
        query = sa.select(openings).order_by(openings.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(openings.c.id < before)
        with self._database.read() as connection:
            return [
                AuditRecord(row.id, row.at, row.actor, row.actor_id, "", row.action, row.target, row.detail)
                for row in connection.execute(query)
            ]
