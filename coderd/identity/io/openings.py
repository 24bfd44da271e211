"""What was opened: who used which tunnel, and since when. Blocks: call it in a thread.

Beside the audit log, not in it: that is only appended to, and grows with what people change; this grows with what machines
do, so the oldest records go, and nobody can fill the disk by coming and going.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from coderd.identity.io.audit import AuditRecord
from coderd.identity.io.database import Database
from coderd.identity.schema import openings
from coderd.model import limits

MAX_KEPT: Final = limits.MAX_OPENINGS
"""Records; the oldest goes for one more."""


class Opening(NamedTuple):
    """Who opened what, when."""

    at: float
    """Wall-clock seconds."""
    actor: str
    actor_id: UUID
    action: str
    target: str
    detail: str = ""


class Openings:
    """All that was opened of late."""

    def __init__(self, database: Database, max_kept: int = MAX_KEPT) -> None:
        self._database = database
        self._max_kept = max_kept

    def add(self, opened: Sequence[Opening]) -> None:
        """Keeps these, in one transaction."""
        with self._database.write() as connection:
            connection.execute(openings.insert(), [each._asdict() for each in opened])
            newest = connection.execute(sa.select(sa.func.max(openings.c.id))).scalar_one()
            connection.execute(openings.delete().where(openings.c.id <= newest - self._max_kept))

    def page(self, *, before: int | None = None, limit: int = 100) -> list[AuditRecord]:
        """The newest records, newest first; those before a number, where one is given."""
        query = sa.select(openings).order_by(openings.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(openings.c.id < before)
        with self._database.read() as connection:
            return [
                AuditRecord(row.id, row.at, row.actor, row.actor_id, "", row.action, row.target, row.detail)
                for row in connection.execute(query)
            ]
