"""The audit log: read here, written by ``rows.record`` in the transaction of each change.

Blocks: call it in a thread.
"""

from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from coderd.identity.io.database import Database
from coderd.identity.schema import audit


class AuditRecord(NamedTuple):
    """Who changed what, when, and from which address."""

    number: int
    """Grows with time, and is never given twice."""
    at: float
    """Wall-clock seconds."""
    actor: str
    actor_id: UUID | None
    source: str
    action: str
    target: str
    detail: str


class AuditLog:
    """All that was changed at one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, *, before: int | None = None, limit: int = 100) -> list[AuditRecord]:
        """Returns the newest records, newest first; those before a number, where one is given."""
        query = sa.select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.id < before)
        with self._database.read() as connection:
            return [
                AuditRecord(
                    row.id, row.at, row.actor, row.actor_id, row.source, row.action, row.target, row.detail
                )
                for row in connection.execute(query)
            ]
